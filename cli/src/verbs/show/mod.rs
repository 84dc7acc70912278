//! `pgquorum show ...`

pub mod file;
pub mod monitors;
pub mod state;
mod systemd;
mod timeline;

use serde_json::json;

use crate::args::show::{Show, ShowEvents, ShowFormation, ShowGroup, ShowUri, Watch};
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::{block_on, no_formation, perform, say_why_empty, watch};

pub fn run(verb: Show) -> Result<(), CliError> {
    match verb {
        Show::State(args) if args.local => file::local_state(&args.show),
        Show::State(args) if args.watch => watch::run(&watched(args.show)),
        Show::State(args) => show_state(&args.show),
        Show::File(args) => file::show(&args),
        Show::Events(args) if args.watch => watch::run(&watched(args.show)),
        Show::Events(args) => events(&args),
        Show::Uri(args) => uri(&args),
        Show::Monitors(args) => monitors::show(&args),
        Show::Settings(args) => settings(&args),
        Show::StandbyNames(args) => standby_names(&args),
        Show::Timeline(args) => timeline::show(&args),
        Show::Systemd(args) => systemd::show(&args),
    }
}

fn watched(show: ShowGroup) -> Watch {
    Watch { monitor: show.monitor, group: show.group, json: show.json.json }
}

fn show_state(args: &ShowGroup) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let group = operator.group(args.group.group);
        let nodes = client.current_state(formation, group).await?;
        match args.json.json {
            true => output::line(&client.current_state_json(formation, group).await?)?,
            false => output::line(&state::table(&nodes))?,
        }
        if nodes.is_empty() {
            say_why_empty(&operator, group).await;
        }
        Ok(())
    })
}

fn events(args: &ShowEvents) -> Result<(), CliError> {
    let show = &args.show;
    block_on(async {
        let operator = Operator::new(&show.monitor, &show.group.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let group = show.group.group;
        if show.json.json {
            return output::line(&client.last_events_json(formation, group, args.count).await?);
        }
        let columns = [
            Column::right("Event Time", 30),
            Column::right("Node", 6),
            Column::right("Current State", 19),
            Column::right("Assigned State", 19),
            Column::text("Comment", 10),
        ];
        let events = client.last_events(formation, group, args.count).await?;
        let rows: Vec<Vec<String>> = events
            .into_iter()
            .map(|event| {
                let node = format!("{}/{}", event.group, event.node);
                vec![event.time, node, event.reported, event.goal, event.description]
            })
            .collect();
        output::line(&render(&columns, &rows))?;
        if rows.is_empty() {
            say_why_empty(&operator, group).await;
        }
        Ok(())
    })
}

fn uri(args: &ShowUri) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation)?;
        let (client, sslmode) = (&operator.client, &operator.located.sslmode);
        let monitor_uri = operator.located.target.uri();
        match args.formation.as_deref() {
            Some("monitor") if args.json.json => {
                return output::json(&json!({"formation": "monitor", "uri": monitor_uri}));
            }
            Some("monitor") => return output::line(&monitor_uri),
            Some(formation) => {
                let uri = client.formation_uri(formation, sslmode).await?;
                return match (uri, args.json.json) {
                    (Some(uri), false) => output::line(&uri),
                    (Some(uri), true) => output::json(&json!({"formation": formation, "uri": uri})),
                    (None, _) => Err(CliError::new(
                        Status::Monitor,
                        format!("formation \"{formation}\" does not exist or has no nodes: there is nothing to connect to"),
                    )
                    .hint("`pgquorum show uri` lists the formations")),
                };
            }
            None => {}
        }
        if args.json.json {
            return output::line(&client.all_uris_json(&monitor_uri, sslmode).await?);
        }
        let columns = [Column::right("Type", 12), Column::right("Name", 7), Column::text("Connection String", 30)];
        let uris = client.all_uris(&monitor_uri, sslmode).await?;
        let rows: Vec<Vec<String>> =
            uris.into_iter().map(|row| vec![row.kind, row.name, row.uri.unwrap_or_default()]).collect();
        output::line(&render(&columns, &rows))
    })
}

/// Also `get formation settings`.
pub fn settings(args: &ShowFormation) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        if args.json.json {
            return output::line(&client.formation_settings_json(formation).await?);
        }
        let columns = [
            Column::right("Context", 9),
            Column::right("Name", 7),
            Column::right("Setting", 25),
            Column::left("Value"),
        ];
        let settings = client.formation_settings(formation).await?;
        if settings.is_empty() {
            return Err(no_formation(formation));
        }
        let rows: Vec<Vec<String>> =
            settings.into_iter().map(|row| vec![row.context, row.name, row.setting, row.value]).collect();
        output::line(&render(&columns, &rows))
    })
}

fn standby_names(args: &ShowGroup) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let formation = &operator.formation;
        let group = perform::one_group(&operator.client, formation, operator.group(args.group.group)).await?;
        let names = operator.client.synchronous_standby_names(formation, group).await?;
        if args.json.json {
            return output::json(&json!({"formation": formation, "group": group, "synchronous_standby_names": names}));
        }
        output::line(&format!("'{names}'"))
    })
}
