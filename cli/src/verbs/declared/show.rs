//! What a file says, and the file of what exists.

use std::path::Path;

use keeper::commands;
use keeper::config::{HbaLevel, MONITOR_DISABLED};
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use super::file::{NodeFile, Ssl};
use crate::args::declared::ShowFileArgs;
use crate::args::{DataDir, MonitorArgs};
use crate::exit::CliError;
use crate::locate::{self, Operator};
use crate::output;
use crate::server::Config;
use crate::verbs::{block_on, find_node, service};

/// Sections with their settings, in the order of the file.
type Sections = Vec<(String, Vec<(&'static str, Value)>)>;

pub fn check(path: &Path, as_json: bool) -> Result<(), CliError> {
    let file = NodeFile::load(path)?;
    let words = file.shown_words();
    if as_json {
        return output::json(&json!({"file": path.display().to_string(), "sections": object(&sections(&file)), "create": words}));
    }
    output::line(&format!("{} is sound:\n\n{}", path.display(), text(&sections(&file)).trim_end()))?;
    info!("it stands for: pgquorum {}", words.join(" "));
    Ok(())
}

fn object(sections: &Sections) -> Value {
    let settings = |settings: &[(&'static str, Value)]| {
        Value::Object(settings.iter().map(|(key, value)| (key.to_string(), value.clone())).collect())
    };
    Value::Object(sections.iter().map(|(name, found)| (name.clone(), settings(found))).collect::<Map<_, _>>())
}

fn text(sections: &Sections) -> String {
    let mut text = String::new();
    for (name, settings) in sections {
        text.push_str(&format!("[{name}]\n"));
        for (key, value) in settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push('\n');
    }
    text
}

/// What the file says and what goes without saying; no passwords.
fn sections(file: &NodeFile) -> Sections {
    let mut found: Sections = Vec::new();
    let mut section = |name: &str, settings: Vec<(&'static str, Option<Value>)>| {
        let given: Vec<_> = settings.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        if !given.is_empty() {
            found.push((name.to_string(), given));
        }
    };
    let word = |value: &Option<String>| value.clone().map(Value::from);
    section("node", vec![
        ("kind", Some(json!(file.kind.name()))),
        ("name", word(&file.name)),
        ("hostname", word(&file.hostname)),
        ("port", file.port.map(Value::from)),
    ]);
    section("postgresql", vec![("pgdata", Some(json!(file.pgdata))), ("pg_ctl", word(&file.pg_ctl))]);
    let node = file.kind == super::Kind::Postgres;
    let alone = node && file.monitor.is_none();
    section("monitor", vec![
        ("pguri", word(&file.shown_monitor())),
        ("no_monitor", alone.then_some(json!(true))),
        ("node_id", file.node_id.filter(|_| alone).map(Value::from)),
        ("replicas", word(&file.replicas)),
    ]);
    section("formation", vec![("name", node.then(|| json!(file.formation)))]);
    section("settings", vec![
        ("candidate_priority", file.settings.candidate_priority.map(Value::from)),
        ("replication_quorum", file.settings.replication_quorum.map(Value::from)),
        ("region", word(&file.settings.region)),
    ]);
    let (mode, files) = match &file.ssl {
        Ssl::Off => ("off", None),
        Ssl::SelfSigned => ("self-signed", None),
        Ssl::Verify { mode, ca, certificate, key } => (mode.as_str(), Some((ca, certificate, key))),
    };
    section("options", vec![
        ("ssl", Some(json!(mode))),
        ("auth", Some(json!(file.auth))),
        ("pg_hba_lan", node.then_some(json!(file.pg_hba_lan))),
    ]);
    section("ssl", vec![
        ("ca_file", files.map(|(ca, ..)| json!(ca))),
        ("cert_file", files.map(|(_, certificate, _)| json!(certificate))),
        ("key_file", files.map(|(.., key)| json!(key))),
    ]);
    section("launch", vec![("run", file.deferred.then_some(json!("deferred")))]);
    for formation in &file.formations {
        section(&format!("formation {}", formation.name), vec![
            ("kind", Some(json!(formation.kind))),
            ("dbname", Some(json!(formation.dbname))),
            ("secondary", formation.secondary.map(Value::from)),
            ("num_sync_standbys", formation.number_sync_standbys.map(Value::from)),
        ]);
    }
    found
}

/// The file of what a data directory holds. The settings that may change are asked of the monitors.
pub fn show(args: &ShowFileArgs) -> Result<(), CliError> {
    let (pgdata, kind) = locate::created(&args.data)?;
    let found = match kind {
        locate::Kind::Node => of_node(&pgdata)?,
        locate::Kind::Monitor => of_monitor(&service::load(&pgdata)?),
    };
    match args.json.json {
        true => output::json(&object(&found)),
        false => output::line(text(&found).trim_end()),
    }
}

fn of_node(pgdata: &Path) -> Result<Sections, CliError> {
    let config = keeper::config::Config::load(&commands::paths(pgdata)?.config)?;
    let shown = |path: &Option<std::path::PathBuf>| json!(path.as_ref().map(|path| path.display().to_string()).unwrap_or_default());
    let mut found: Sections = vec![
        ("node".into(), vec![
            ("kind", json!("postgres")),
            ("name", json!(config.name)),
            ("hostname", json!(config.hostname)),
            ("port", json!(config.port)),
        ]),
        ("postgresql".into(), vec![("pgdata", json!(config.pgdata)), ("pg_ctl", json!(config.pg_ctl))]),
    ];
    let alone = config.monitor == MONITOR_DISABLED;
    found.push(("monitor".into(), match config.target()?.filter(|_| !alone) {
        Some(target) => vec![("pguri", json!(target.uri()))],
        None => {
            let id = commands::show::state(pgdata)?.node_id;
            vec![("no_monitor", json!(true)), ("node_id", json!(id))]
        }
    }));
    found.push(("formation".into(), vec![("name", json!(config.formation)), ("group", json!(config.group))]));
    if !alone {
        match block_on(settings_of(pgdata)) {
            Ok(settings) => found.push(("settings".into(), settings)),
            Err(error) => warn!("[settings] is left out: {}", error.text()),
        }
    }
    let ssl = match (config.ssl.active, config.ssl.self_signed) {
        (false, _) => "off",
        (true, true) => "self-signed",
        (true, false) => &config.ssl.sslmode,
    };
    found.push(("options".into(), vec![
        ("ssl", json!(ssl)),
        ("auth", json!(config.auth_method)),
        ("pg_hba_lan", json!(config.hba_level == HbaLevel::Lan)),
    ]));
    if config.ssl.active && !config.ssl.self_signed {
        found.push(("ssl".into(), vec![
            ("ca_file", shown(&config.ssl.ca_file)),
            ("cert_file", shown(&config.ssl.cert_file)),
            ("key_file", shown(&config.ssl.key_file)),
        ]));
    }
    Ok(found)
}

async fn settings_of(pgdata: &Path) -> Result<Vec<(&'static str, Value)>, CliError> {
    let data = DataDir { pgdata: Some(pgdata.to_path_buf()) };
    let operator = Operator::new(&MonitorArgs { monitor: None, data }, &None)?;
    let (client, formation) = (&operator.client, &operator.formation);
    let node = find_node(client, formation, &operator.located.node).await?;
    let mut settings = vec![
        ("candidate_priority", json!(node.candidate_priority)),
        ("replication_quorum", json!(node.replication_quorum)),
    ];
    // A stock monitor before 2.3 has none.
    if let Ok(Some(region)) = client.region(formation, &node.name).await {
        settings.push(("region", json!(region)));
    }
    Ok(settings)
}

fn of_monitor(config: &Config) -> Sections {
    let tls = config.client_tls.as_ref();
    let ssl = match tls {
        None => "off",
        Some(tls) if tls.self_signed => "self-signed",
        Some(tls) => &tls.sslmode,
    };
    let mut found: Sections = vec![
        ("node".into(), vec![
            ("kind", json!("monitor")),
            ("name", json!(config.name)),
            ("hostname", json!(config.hostname)),
            ("port", json!(config.port)),
        ]),
        ("postgresql".into(), vec![("pgdata", json!(config.pgdata))]),
        ("monitor".into(), vec![("replicas", json!(Config::format_replicas(&config.replicas)))]),
        ("options".into(), vec![("ssl", json!(ssl)), ("auth", json!(config.auth.name()))]),
    ];
    if let Some(tls) = tls.filter(|tls| !tls.self_signed) {
        found.push(("ssl".into(), vec![
            ("ca_file", json!(tls.ca_file)),
            ("cert_file", json!(tls.cert_file)),
            ("key_file", json!(tls.key_file)),
        ]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::golden;

    const NODE: &str = "[node]\nkind = postgres\nname = node1\nhostname = node1.internal\nport = 5433\n\
        [postgresql]\npgdata = /var/lib/postgresql/data\n\
        [monitor]\npguri = postgres://autoctl_node:secret@a,b,c/pg_auto_failover\n[formation]\nname = shop\n\
        [settings]\ncandidate_priority = 80\nreplication_quorum = no\nregion = north\n\
        [options]\nssl = verify-full\nauth = scram\npg_hba_lan = false\n\
        [ssl]\nca_file = /etc/ca.crt\ncert_file = /etc/n.crt\nkey_file = /etc/n.key\n\
        [launch]\nmode = deferred\n[replication]\npassword = hidden\n";

    const MONITOR: &str = "[node]\nkind = monitor\nname = m1\nhostname = a\n[postgresql]\npgdata = /m\n\
        [monitor]\nreplicas = m1=a:5432,m2=b:5432,m3=c:5432\n[options]\nssl = off\n\
        [formation default]\nnum_sync_standbys = 1\n[formation shop]\nsecondary = false\ndbname = shop\n\
        [pg_auto_failover]\nautoctl_node_password = hidden\n";

    fn told(text_of_file: &str) -> String {
        match NodeFile::parse(text_of_file) {
            Ok(file) => format!("{}{}\n", text(&sections(&file)), file.shown_words().join(" ")),
            Err(error) => format!("{:?}: {}\n", error.status, error.text()),
        }
    }

    #[test]
    fn files_of_nodes_and_monitors() {
        let least = "[postgresql]\npgdata = /d\n[monitor]\nno_monitor = true\nnode_id = 7\n";
        let all = [NODE, MONITOR, least].map(told).join("\n");
        assert!(!all.contains("hidden") && !all.contains("secret@"), "{all}");
        golden("node_files.txt", &all);
        // What it prints is a file that says the same.
        for source in [NODE, MONITOR, least] {
            let printed = told(source);
            let again: Vec<&str> = printed.lines().filter(|line| !line.starts_with("create ")).collect();
            assert_eq!(told(&again.join("\n")), printed);
        }
    }

    #[test]
    fn files_that_are_wrong() {
        let node = "[postgresql]\npgdata = /d\n[monitor]\npguri = postgres://m/x\n";
        let cases = [
            "pgdata = /d\n",
            "[node]\nkind = postgres\n",
            "[postgresql]\npgdata = data\n",
            "[postgresql]\npgdata = /d\n",
            "[postgresql]\npgdata = /d\n[monitor]\nno_monitor = true\n",
            "[node]\nkind = worker\n[postgresql]\npgdata = /d\n",
            "[node]\nkind = primary\n[postgresql]\npgdata = /d\n",
            "[node]\nprot = 5432\n",
            "[nodes]\nport = 5432\n",
            &format!("{node}[node]\nport = many\n"),
            &format!("{node}[settings]\ncandidate_priority = 101\n"),
            &format!("{node}[settings]\nreplication_quorum = perhaps\n"),
            &format!("{node}[options]\nssl = on\n"),
            &format!("{node}[options]\nssl = verify-ca\n"),
            &format!("{node}[launch]\nrun = later\n"),
            "[postgresql\npgdata = /d\n",
        ];
        golden("node_files_wrong.txt", &cases.map(told).concat());
    }
}
