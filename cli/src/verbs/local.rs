//! Changes of the node of a data directory: its TLS, its monitor, its name and host.

use std::net::ToSocketAddrs;

use keeper::commands::create::SslChoice;
use keeper::commands::{self, config, service, show};
use keeper::source::Operator;
use keeper::state_file::KeeperState;
use monitor_client::{ConnectOptions, MonitorClient, RegistrationRequest, Target};
use serde_json::json;
use tracing::{info, warn};

use crate::args::change::{SetMetadata, ToggleMonitor, ToggleSsl};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::verbs::{block_on, node, node_config};

/// What the configuration says instead of a URI when there is no monitor.
const DISABLED: &str = keeper::config::MONITOR_DISABLED;

/// Has a running keeper read its configuration again.
fn take_up(pgdata: &std::path::Path) -> Result<(), CliError> {
    let paths = commands::paths(pgdata)?;
    match service::running(&paths) {
        Some(pid) => {
            service::reload(pgdata)?;
            info!("the keeper (process {pid}) was told to read its configuration again");
        }
        None => info!("no keeper runs: it takes effect with `pgquorum run`"),
    }
    Ok(())
}

pub fn enable_ssl(args: &ToggleSsl) -> Result<(), CliError> {
    let pgdata = locate::node_dir(&args.data)?;
    let choice = node::ssl_choice(&args.ssl)?;
    let before = config::get_all(&pgdata)?;
    let file = |path: &std::path::Path| path.display().to_string();
    let (active, self_signed, mode, certificate, key) = match &choice {
        SslChoice::None => ("0", "0", "prefer", String::new(), String::new()),
        SslChoice::SelfSigned => {
            ("1", "1", "require", file(&pgdata.join("server.crt")), file(&pgdata.join("server.key")))
        }
        SslChoice::Own { certificate, key } => ("1", "0", "verify-full", file(certificate), file(key)),
    };
    let named = |path: &Option<std::path::PathBuf>| path.as_deref().map(file).unwrap_or_default();
    let mode = args.ssl.ssl_mode.as_deref().unwrap_or(mode);
    for path in args.ssl.own_certificates().into_iter().flatten() {
        if !path.is_file() {
            return Err(CliError::new(Status::BadArguments, format!("{} is no file", path.display())));
        }
    }
    let wanted = [
        ("ssl.self_signed", self_signed),
        ("ssl.sslmode", mode),
        ("ssl.ca_file", &named(&args.ssl.ssl_ca_file)),
        ("ssl.crl_file", &named(&args.ssl.ssl_crl_file)),
        ("ssl.cert_file", &certificate),
        ("ssl.key_file", &key),
        ("ssl.active", active),
    ];
    for (name, value) in wanted {
        if let Err(error) = config::set(&pgdata, name, value) {
            restore(&pgdata, &before);
            return Err(error.into());
        }
    }
    match active {
        "1" => info!("TLS is configured: sslmode {mode}"),
        _ => info!("TLS is switched off: sslmode {mode}"),
    }
    take_up(&pgdata)?;
    if args.json.json {
        return output::json(&node_config::all_settings(&pgdata)?["ssl"]);
    }
    Ok(())
}

/// Puts the section back as it was: no change is made half.
fn restore(pgdata: &std::path::Path, before: &serde_json::Value) {
    let Some(section) = before["ssl"].as_object() else { return };
    for (key, value) in section {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        if let Err(error) = config::set(pgdata, &format!("ssl.{key}"), &text) {
            warn!("ssl.{key} could not be put back to \"{text}\": {error}");
        }
    }
}

pub fn disable_ssl(args: &ToggleSsl) -> Result<(), CliError> {
    let mut off = args.ssl.clone();
    if off.ssl_self_signed || off.own_certificates().into_iter().any(|file| file.is_some()) {
        return Err(CliError::new(Status::BadArguments, "disable ssl takes no certificates"));
    }
    off.no_ssl = true;
    enable_ssl(&ToggleSsl { data: args.data.clone(), ssl: off, json: args.json.clone() })
}

fn client_of(uri: &str) -> Result<MonitorClient, CliError> {
    let target = Target::parse(uri).map_err(|error| CliError::new(Status::BadArguments, error.to_string()))?;
    Ok(MonitorClient::new(target, ConnectOptions::default(), std::time::Duration::from_secs(10)))
}

/// `enable monitor URI`: the node is orchestrated from there. Monitors that do not know it yet are told
/// its id, state and system identifier.
pub fn enable_monitor(args: &ToggleMonitor) -> Result<(), CliError> {
    let Some(uri) = &args.uri else {
        return Err(CliError::new(Status::BadArguments, "where are the monitors?")
            .hint("pgquorum enable monitor postgres://autoctl_node@a,b,c/pg_auto_failover --pgdata DIR"));
    };
    let pgdata = locate::node_dir(&args.data)?;
    let present = config::get(&pgdata, "pg_autoctl.monitor")?;
    let get = |name: &str| config::get(&pgdata, name);
    let (formation, name, host, dbname) =
        (get("pg_autoctl.formation")?, get("pg_autoctl.name")?, get("pg_autoctl.hostname")?, get("postgresql.dbname")?);
    let port = get("postgresql.port")?.parse().unwrap_or(monitor_client::DEFAULT_PORT);
    let state = show::state(&pgdata)?;
    let paths = commands::paths(&pgdata)?;
    let client = client_of(uri)?;
    block_on(async {
        let known = client.get_nodes(&formation, None).await?;
        match known.iter().find(|node| node.id == state.node_id || node.name == name) {
            Some(node) if node.id == state.node_id && node.host == host && node.port == port => {
                info!("the monitors know node {} \"{name}\" already", state.node_id);
            }
            Some(other) => {
                return Err(CliError::new(
                    Status::Monitor,
                    format!(
                        "the monitors have node {} \"{}\" ({}:{}), and this is node {} \"{name}\" ({host}:{port})",
                        other.id, other.name, other.host, other.port, state.node_id
                    ),
                )
                .hint("drop that one first, if it is not in use: pgquorum drop node --force"));
            }
            None => {
                // A keeper that runs would write its memory over what is written here.
                if let Some(pid) = service::running(&paths) {
                    return Err(CliError::new(
                        Status::BadState,
                        format!("the monitors do not know node \"{name}\" yet, and its keeper (process {pid}) runs"),
                    )
                    .hint("pgquorum stop --leave-postgres, then this again, then pgquorum run"));
                }
                // An empty group takes a primary as its only node; the standbys come after it.
                let initial = match state.current.is_writable() {
                    true => failover::NodeState::Single,
                    false => failover::NodeState::WaitStandby,
                };
                let registration = client
                    .register_node(&RegistrationRequest {
                        formation: formation.clone(),
                        host: host.clone(),
                        port,
                        dbname: dbname.clone(),
                        name: name.clone(),
                        system_identifier: state.system_identifier,
                        desired_id: Some(state.node_id),
                        desired_group: Some(state.group),
                        initial_state: initial,
                        kind: "standalone".to_string(),
                        candidate_priority: 50,
                        replication_quorum: true,
                        cluster: "default".to_string(),
                        region: None,
                    })
                    .await?;
                let assignment = &registration.registered.assignment;
                let goal = assignment.state;
                // Other monitors count their epochs from the beginning.
                let fresh = KeeperState {
                    node_id: assignment.id,
                    group: assignment.group,
                    assigned: goal,
                    epoch: u64::try_from(registration.registered.epoch).unwrap_or(0),
                    ..state.clone()
                };
                fresh.save(&paths.state)?;
                if let Err(error) = registration.commit(client.patience()).await {
                    state.save(&paths.state)?;
                    return Err(error.into());
                }
                info!("registered as node {} \"{name}\", to become {goal}", fresh.node_id);
            }
        }
        Ok(())
    })?;
    config::set(&pgdata, "pg_autoctl.monitor", uri)?;
    if present != DISABLED && present != *uri {
        info!("the node had another monitor until now");
    }
    Operator::of(&paths).forget()?;
    take_up(&pgdata)
}

/// `disable monitor`: the node keeps its state, and goals are an operator's from now on. With `--force` it
/// is taken off its monitors as well.
pub fn disable_monitor(args: &ToggleMonitor) -> Result<(), CliError> {
    let pgdata = locate::node_dir(&args.data)?;
    let paths = commands::paths(&pgdata)?;
    let (monitor, name, formation) = (
        config::get(&pgdata, "pg_autoctl.monitor")?,
        config::get(&pgdata, "pg_autoctl.name")?,
        config::get(&pgdata, "pg_autoctl.formation")?,
    );
    if monitor == DISABLED {
        info!("the monitor is disabled already");
        return Ok(());
    }
    let client = client_of(&monitor)?;
    let state = show::state(&pgdata)?;
    let nodes = block_on(async {
        match client.get_nodes(&formation, Some(state.group)).await {
            Ok(nodes) => Ok(nodes),
            Err(error) if args.force => {
                warn!("the monitor cannot be told: {error}");
                Ok(Vec::new())
            }
            Err(error) => Err(CliError::from(error).hint("--force does it all the same")),
        }
    })?;
    let known = nodes.iter().any(|node| node.name == name);
    if known && !args.force {
        return Err(CliError::new(Status::Monitor, format!("\"{name}\" is still registered at the monitor"))
            .hint("--force takes it off the monitor; `pgquorum drop node` drops it in order"));
    }
    let operator = Operator::of(&paths);
    operator.forget()?;
    if !nodes.is_empty() {
        // Slots and settings for the peers stay as they are.
        operator.set_nodes(&nodes)?;
    }
    // First: a node that its monitors have forgotten, and that still asks them, might stop itself.
    config::set(&pgdata, "pg_autoctl.monitor", DISABLED)?;
    take_up(&pgdata)?;
    if known {
        block_on(async { Ok(client.remove_node(&formation, &name, true).await?) })?;
        info!("\"{name}\" was taken off the monitor");
    }
    info!(
        "the monitor is disabled, and the node stays {}: nothing fails over by itself. `pgquorum inspect fsm assign` \
         gives it goals, `pgquorum enable monitor URI` other monitors",
        state.current
    );
    Ok(())
}

pub fn set_metadata(args: &SetMetadata) -> Result<(), CliError> {
    if args.name.is_none() && args.hostname.is_none() && args.pgport.is_none() {
        return Err(CliError::new(Status::BadArguments, "nothing to set").hint("give --name or --hostname"));
    }
    let pgdata = locate::node_dir(&args.data)?;
    let port: u16 = config::get(&pgdata, "postgresql.port")?.parse().unwrap_or(monitor_client::DEFAULT_PORT);
    if args.pgport.is_some_and(|wanted| wanted != port) {
        return Err(CliError::new(Status::BadArguments, "PostgreSQL takes another port only when it is started")
            .hint(format!("pgquorum stop, then pgquorum run --pgport {}", args.pgport.unwrap_or(port))));
    }
    let state = show::state(&pgdata)?;
    let client = client_of(&config::get(&pgdata, "pg_autoctl.monitor")?)?;
    let (name, host) = (args.name.as_deref(), args.hostname.as_deref());
    if let Some(host) = host.filter(|host| (*host, port).to_socket_addrs().is_err()) {
        warn!("\"{host}\" does not resolve on this machine: the monitors and the other nodes must find it");
    }
    // The monitors refuse names that are taken: they are asked first.
    block_on(async { Ok(client.update_node_metadata(state.node_id, name, host, Some(port)).await?) })?;
    for (key, value) in [("pg_autoctl.name", name), ("pg_autoctl.hostname", host)] {
        if let Some(value) = value {
            config::set(&pgdata, key, value)?;
        }
    }
    take_up(&pgdata)?;
    let (name, host) = (config::get(&pgdata, "pg_autoctl.name")?, config::get(&pgdata, "pg_autoctl.hostname")?);
    match args.json.json {
        true => output::json(&json!({"name": name, "hostname": host, "port": port})),
        false => {
            info!("node {} is now \"{name}\" at {host}:{port}", state.node_id);
            Ok(())
        }
    }
}
