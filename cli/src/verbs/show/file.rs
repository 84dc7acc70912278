//! What a node of this machine has in its files.

use keeper::commands::{self, show as node};
use serde_json::{Value, json};

use super::state;
use crate::args::show::{ShowFile, ShowGroup};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::node::all_settings;

pub fn show(args: &ShowFile) -> Result<(), CliError> {
    let pgdata = locate::data_dir(&args.data)?;
    let files = node::files_of(&pgdata)?;
    let chosen = [args.config, args.state, args.init, args.pid].iter().position(|chosen| *chosen);
    match chosen {
        None if args.contents => Err(CliError::new(Status::BadArguments, "--contents needs one of --config, --state, --init, --pid")),
        None if args.json.json => output::json(&json!({
            "config": files[0].1, "state": files[1].1, "init": files[2].1, "pid": files[3].1,
        })),
        None => {
            let rows: Vec<Vec<String>> =
                files.iter().map(|(label, path)| vec![label.to_string(), path.clone()]).collect();
            output::line(&render(&[Column::right("File", 7), Column::text("Path", 15)], &rows))
        }
        Some(at) if !args.contents => output::line(&files[at].1),
        Some(1) => {
            let state = node::state(&pgdata)?;
            if args.json.json {
                let mut json = node::state_json(&state);
                json["last_monitor_contact"] = Value::from(moment(state.last_monitor_contact));
                json["last_secondary_contact"] = Value::from(moment(state.last_secondary_contact));
                return output::json(&json);
            }
            output::line(&format!(
                "Current Role:             {}\nAssigned Role:            {}\nNode Id:                  {}\n\
                 Group Id:                 {}\nEpoch:                    {}\nSystem Identifier:        {}\n\
                 PostgreSQL Version:       {}\nLast Monitor Contact:     {}\nLast Secondary Contact:   {}",
                state.current,
                state.assigned,
                state.node_id,
                state.group,
                state.epoch,
                state.system_identifier,
                state.pg_version,
                moment(state.last_monitor_contact),
                moment(state.last_secondary_contact)
            ))
        }
        Some(0) if args.json.json => output::json(&all_settings(&pgdata)?),
        Some(at) => output::line(node::contents(&files[at].1)?.trim_end()),
    }
}

/// Unix seconds as pg_autoctl writes them: local time, `0` for never.
fn moment(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds != 0);
    time.map_or_else(|| "0".to_string(), |time| {
        time.to_zoned(jiff::tz::TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string()
    })
}

/// `show state --local`: what this machine knows without asking anybody.
pub fn local_state(args: &ShowGroup) -> Result<(), CliError> {
    let pgdata = locate::node_dir(&args.monitor.data)?;
    let state = commands::block_on(node::local_state(&pgdata))?;
    if args.json.json {
        return output::json(&state);
    }
    let text = |key: &str| match &state[key] {
        Value::String(text) => text.clone(),
        Value::Null => "0/0".to_string(),
        other => other.to_string(),
    };
    let row = vec![
        text("nodename"),
        text("node_id"),
        format!("{}:{}", text("nodehost"), text("nodeport")),
        format!("{:>3}: {}", text("timeline"), text("lsn")),
        text("conntype"),
        text("current_group_state"),
        text("assigned_group_state"),
    ];
    output::line(&render(&state::COLUMNS, &[row]))
}
