//! What a node of this machine has in its files.

use std::path::Path;

use keeper::commands::{self, show as node};
use serde_json::{Value, json};
use tracing::warn;

use super::state;
use crate::args::show::{ShowFile, ShowGroup};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::table::{Column, render};
use crate::server::{self, PID_FILE};
use crate::verbs::node_config::all_settings;
use crate::verbs::setup;

pub fn show(args: &ShowFile) -> Result<(), CliError> {
    let (pgdata, kind) = locate::created(&args.data)?;
    if kind == locate::Kind::Monitor {
        return of_monitor(args, &pgdata);
    }
    let files = node::files_of(&pgdata)?;
    let chosen = [args.config, args.state, args.init, args.pid].iter().position(|chosen| *chosen);
    if chosen.is_none() && args.contents {
        warn!("--contents is for one of --config, --state, --init, --pid");
    }
    match chosen {
        None if args.json.json => output::json(&json!({
            "config": files[0].1, "state": files[1].1, "init": files[2].1, "pid": files[3].1,
        })),
        None => {
            let rows: Vec<Vec<String>> =
                files.iter().map(|(label, path)| vec![label.to_string(), path.clone()]).collect();
            output::line(&render(&[Column::right("File", 7), Column::text("Path", 15)], &rows))
        }
        // The bare path, with --json too, as pg_autoctl.
        Some(at) if !args.contents => output::line(&files[at].1),
        Some(1) => {
            let state = node::state(&pgdata)?;
            if args.json.json {
                return output::json(&state_json(&pgdata)?);
            }
            let config = keeper::config::Config::load(&commands::paths(&pgdata)?.config)?;
            let control = &setup::look(&config)?["control"];
            let number = |value: &Value| value.as_i64().unwrap_or(0);
            output::line(&format!(
                "Current Role:             {}\nAssigned Role:            {}\nLast Monitor Contact:     {}\n\
                 Last Secondary Contact:   {}\npg_autoctl state version: 1\ngroup:                    {}\n\
                 node id:                  {}\nnodes version:            0\nPostgreSQL Version:       {}\n\
                 PostgreSQL CatVersion:    {}\nPostgreSQL System Id:     {}\nEpoch:                    {}",
                state.current,
                state.assigned,
                moment(state.last_monitor_contact),
                moment(state.last_secondary_contact),
                state.group,
                state.node_id,
                number(&control["version"]),
                number(&control["catalog_version"]),
                state.system_identifier,
                state.epoch,
            ))
        }
        Some(0) if args.json.json => output::json(&all_settings(&pgdata)?),
        Some(at) => print_lines(args, &files[at].1),
    }
}

fn print_lines(args: &ShowFile, path: &str) -> Result<(), CliError> {
    let text = node::contents(path)?;
    match args.json.json {
        true => output::json(&json!({"file": path, "lines": text.lines().collect::<Vec<_>>()})),
        false => output::line(text.trim_end()),
    }
}

/// The state file, with pg_autoctl's idea of `pgversion`: that of the control file.
pub fn state_json(pgdata: &Path) -> Result<Value, CliError> {
    let state = node::state(pgdata)?;
    let config = keeper::config::Config::load(&commands::paths(pgdata)?.config)?;
    let mut json = node::state_json(&state);
    json["last_monitor_contact"] = Value::from(moment(state.last_monitor_contact));
    json["last_secondary_contact"] = Value::from(moment(state.last_secondary_contact));
    json["pgversion"] = Value::from(setup::look(&config)?["control"]["version"].as_i64().unwrap_or(0));
    Ok(json)
}

/// A monitor has its configuration, its store and its process number.
fn of_monitor(args: &ShowFile, pgdata: &Path) -> Result<(), CliError> {
    let path = |name: &str| pgdata.join(name).display().to_string();
    let (config, store, pid) = (path(server::FILE_NAME), path("store"), path(PID_FILE));
    match (args.config, args.state, args.init, args.pid, args.contents) {
        (true, _, _, _, false) => output::line(&config),
        (_, true, _, _, false) => output::line(&store),
        (_, _, _, true, false) => output::line(&pid),
        (true, _, _, _, true) => crate::verbs::monitor_config::print_all(pgdata, args.json.json),
        (_, _, _, true, true) => print_lines(args, &pid),
        (_, true, _, _, true) => Err(CliError::new(Status::BadArguments, "the store of a monitor is no text")
            .hint("pgquorum show monitors, pgquorum show state")),
        (_, _, true, ..) => Err(CliError::new(Status::BadArguments, "a monitor has no init file")),
        _ if args.json.json => output::json(&json!({"config": config, "state": store, "pid": pid})),
        _ => {
            let rows = [("Config", config), ("State", store), ("Pid", pid)];
            let rows: Vec<Vec<String>> = rows.into_iter().map(|(label, path)| vec![label.to_string(), path]).collect();
            output::line(&render(&[Column::right("File", 7), Column::text("Path", 15)], &rows))
        }
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
        format!("{:>3}: {}", text("timeline"), text("Minimum Recovery Ending LSN")),
        text("conntype"),
        text("current_group_state"),
        text("assigned_group_state"),
    ];
    output::line(&render(&state::COLUMNS, &[row]))
}
