//! The file: sections and keys of pg_autoctl's node.ini, checked, and the command that it stands for.

use std::fs;
use std::path::{Path, PathBuf};

use ini::Ini;

use crate::exit::{CliError, Status};

/// What the file describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Monitor,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Monitor => "monitor",
        }
    }
}

/// A formation that the file of a monitor names. What it does not say stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredFormation {
    pub name: String,
    pub kind: String,
    pub dbname: String,
    pub secondary: Option<bool>,
    pub number_sync_standbys: Option<i32>,
}

/// What may change while the node runs. What the file does not say stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub candidate_priority: Option<i32>,
    pub replication_quorum: Option<bool>,
    pub region: Option<String>,
}

/// Options of TLS, as words of `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ssl {
    Off,
    SelfSigned,
    Verify { mode: String, ca: String, certificate: String, key: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    pub kind: Kind,
    pub name: Option<String>,
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub pgdata: PathBuf,
    pub pg_ctl: Option<String>,
    /// `None`: a monitor, or a node without any.
    pub monitor: Option<String>,
    pub node_id: Option<i64>,
    pub formation: String,
    /// Of a monitor: all of them, as `create monitor --replicas` has it.
    pub replicas: Option<String>,
    pub settings: Settings,
    pub ssl: Ssl,
    pub auth: String,
    pub pg_hba_lan: bool,
    pub formations: Vec<DeclaredFormation>,
    /// `node run` waits for `node start`.
    pub deferred: bool,
    /// Of `autoctl_node`, in the file of a monitor.
    pub node_password: Option<String>,
    pub replication_password: Option<String>,
}

/// Every section with its keys. `pg_ctl` and `replicas` are ours.
const KNOWN: &[(&str, &[&str])] = &[
    ("node", &["kind", "name", "hostname", "port"]),
    ("postgresql", &["pgdata", "pg_ctl"]),
    ("monitor", &["pguri", "no_monitor", "node_id", "replicas"]),
    ("formation", &["name", "group"]),
    ("settings", &["candidate_priority", "replication_quorum", "region"]),
    ("options", &["ssl", "auth", "pg_hba_lan"]),
    ("ssl", &["ca_file", "cert_file", "key_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file"]),
    ("launch", LAUNCH),
    ("pg_auto_failover", &["autoctl_node_password", "monitor_password"]),
    ("replication", &["password"]),
];

/// Keys of `[launch]`: each says `immediate` or `deferred`.
pub const LAUNCH: &[&str] = &["mode", "create", "run"];

const FORMATION: &[&str] = &["kind", "dbname", "secondary", "num_sync_standbys"];

impl NodeFile {
    /// # Errors
    /// Exit code 2 with everything that is wrong in it; 1 for what comes in a later release.
    pub fn load(path: &Path) -> Result<NodeFile, CliError> {
        let text = fs::read_to_string(path).map_err(|error| {
            CliError::new(Status::BadConfiguration, format!("cannot read {}: {error}", path.display()))
                .hint("docs/how-to/describe-a-node-in-a-file.md has one to begin with")
        })?;
        NodeFile::parse(&text).map_err(|error| error.while_doing(path.display()))
    }

    pub fn parse(text: &str) -> Result<NodeFile, CliError> {
        let bad = |what: String| CliError::new(Status::BadConfiguration, what);
        let ini = Ini::load_from_str(text).map_err(|error| bad(error.to_string()))?;
        let reader = Reader { ini: &ini };
        reader.check_names().map_err(bad)?;
        let kind = match reader.get("node", "kind").unwrap_or("postgres") {
            "postgres" => Kind::Postgres,
            "monitor" => Kind::Monitor,
            citus @ ("coordinator" | "worker") => return Err(later(&format!("[node] kind = {citus} is about Citus, which"))),
            "archiver" => return Err(later("[node] kind = archiver")),
            other => return Err(bad(format!("[node] kind = {other}: neither postgres nor monitor"))),
        };
        reader.node(kind).map_err(bad)
    }

    /// The monitors' URI without a password.
    pub fn shown_monitor(&self) -> Option<String> {
        let uri = self.monitor.as_ref()?;
        Some(monitor_client::Target::parse(uri).map_or_else(|_| "****".to_string(), |target| target.uri()))
    }

    /// The command that does the same, as far as it may be shown.
    pub fn shown_words(&self) -> Vec<String> {
        NodeFile { monitor: self.shown_monitor(), ..self.clone() }.create_words()
    }

    /// The words of `create` that do the same, but for passwords of their own.
    pub fn create_words(&self) -> Vec<String> {
        let mut words = vec!["create".to_string(), self.kind.name().to_string()];
        let mut option = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value.to_string()]);
            }
        };
        option("pgdata", Some(&self.pgdata.display().to_string()));
        option("name", self.name.as_deref());
        option("hostname", self.hostname.as_deref());
        option("pgport", self.port.map(|port| port.to_string()).as_deref());
        option("replicas", self.replicas.as_deref());
        option("auth", Some(&self.auth));
        if self.kind == Kind::Postgres {
            option("pgctl", self.pg_ctl.as_deref());
            option("monitor", self.monitor.as_deref());
            option("node-id", self.node_id.filter(|_| self.monitor.is_none()).map(|id| id.to_string()).as_deref());
            option("formation", Some(&self.formation));
            let settings = &self.settings;
            option("candidate-priority", settings.candidate_priority.map(|n| n.to_string()).as_deref());
            option("replication-quorum", settings.replication_quorum.map(|on| on.to_string()).as_deref());
            option("region", settings.region.as_deref());
        }
        if let Ssl::Verify { mode, ca, certificate, key } = &self.ssl {
            option("ssl-mode", Some(mode));
            option("ssl-ca-file", Some(ca));
            option("server-cert", Some(certificate));
            option("server-key", Some(key));
        }
        let node = self.kind == Kind::Postgres;
        let flags = [
            (self.ssl == Ssl::Off, "--no-ssl"),
            (self.ssl == Ssl::SelfSigned, "--ssl-self-signed"),
            (node && self.pg_hba_lan, "--pg-hba-lan"),
            (node && self.monitor.is_none(), "--disable-monitor"),
        ];
        words.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_string()));
        words
    }

    /// With the passwords, which are for nobody to read.
    pub fn secret_words(&self) -> Vec<String> {
        let passwords = [
            ("--autoctl-node-password", self.node_password.as_ref().filter(|_| self.kind == Kind::Monitor)),
            ("--replication-password", self.replication_password.as_ref().filter(|_| self.kind == Kind::Postgres)),
        ];
        let given = passwords.into_iter().filter_map(|(name, value)| Some([name.to_string(), value?.clone()]));
        given.flatten().collect()
    }
}

fn later(what: &str) -> CliError {
    CliError::new(Status::BadArguments, format!("{what} comes in a later release"))
        .hint("plain PostgreSQL: kind = postgres; a monitor: kind = monitor")
}

struct Reader<'a> {
    ini: &'a Ini,
}

impl<'a> Reader<'a> {
    /// An empty value is none.
    fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        self.ini.get_from(Some(section), key).map(str::trim).filter(|value| !value.is_empty())
    }

    fn text(&self, section: &str, key: &str) -> Option<String> {
        self.get(section, key).map(str::to_string)
    }

    fn number<T: std::str::FromStr>(&self, section: &str, key: &str, wanted: &str) -> Result<Option<T>, String> {
        let Some(value) = self.get(section, key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("[{section}] {key} = {value}: not {wanted}"))
    }

    fn boolean(&self, section: &str, key: &str) -> Result<Option<bool>, String> {
        match self.get(section, key) {
            None => Ok(None),
            Some("true" | "yes" | "on" | "1") => Ok(Some(true)),
            Some("false" | "no" | "off" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("[{section}] {key} = {other}: neither true nor false")),
        }
    }

    /// A name that is mistyped would be a setting that silently is not in force.
    fn check_names(&self) -> Result<(), String> {
        for (section, properties) in self.ini.iter() {
            let Some(section) = section else {
                if let Some((key, _)) = properties.iter().next() {
                    return Err(format!("\"{key}\" stands before the first section"));
                }
                continue;
            };
            let known = match section.strip_prefix("formation ") {
                Some(_) => Some(FORMATION),
                None => KNOWN.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys),
            };
            let Some(known) = known else {
                let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
                return Err(format!("[{section}]: there is no such section; there are {}", names.join(", ")));
            };
            if let Some((key, _)) = properties.iter().find(|(key, _)| !known.contains(key)) {
                return Err(format!("[{section}] {key}: there is no such setting; there are {}", known.join(", ")));
            }
        }
        Ok(())
    }

    fn node(&self, kind: Kind) -> Result<NodeFile, String> {
        let pgdata = PathBuf::from(self.get("postgresql", "pgdata").ok_or("[postgresql] pgdata is missing")?);
        if !pgdata.is_absolute() {
            return Err(format!("[postgresql] pgdata = {}: not an absolute path", pgdata.display()));
        }
        let alone = self.boolean("monitor", "no_monitor")?.unwrap_or(false);
        let monitor = self.text("monitor", "pguri").filter(|_| !alone && kind == Kind::Postgres);
        if kind == Kind::Postgres && monitor.is_none() && !alone {
            return Err("[monitor] pguri is missing: where are the monitors? (no_monitor = true: there are none)".to_string());
        }
        let node_id = self.number("monitor", "node_id", "a number")?;
        if alone && node_id.is_none() {
            return Err("[monitor] node_id is missing: a node without monitors needs a number".to_string());
        }
        let priority = self.number("settings", "candidate_priority", "a number")?;
        if let Some(priority) = priority.filter(|priority| !(0..=100).contains(priority)) {
            return Err(format!("[settings] candidate_priority = {priority}: not within 0 and 100"));
        }
        let deferred = LAUNCH.iter().map(|key| match self.get("launch", key) {
            None | Some("immediate") => Ok(false),
            Some("deferred") => Ok(true),
            Some(other) => Err(format!("[launch] {key} = {other}: neither immediate nor deferred")),
        });
        Ok(NodeFile {
            kind,
            name: self.text("node", "name"),
            hostname: self.text("node", "hostname"),
            port: self.number("node", "port", "a port")?,
            pgdata,
            pg_ctl: self.text("postgresql", "pg_ctl"),
            monitor,
            node_id,
            formation: self.text("formation", "name").unwrap_or_else(|| "default".to_string()),
            replicas: self.text("monitor", "replicas").filter(|_| kind == Kind::Monitor),
            settings: Settings {
                candidate_priority: priority,
                replication_quorum: self.boolean("settings", "replication_quorum")?,
                region: self.text("settings", "region"),
            },
            ssl: self.ssl()?,
            auth: match self.get("options", "auth") {
                // pg_autoctl's short name for it.
                Some("scram") => "scram-sha-256",
                other => other.unwrap_or("trust"),
            }
            .to_string(),
            pg_hba_lan: self.boolean("options", "pg_hba_lan")?.unwrap_or(true),
            formations: self.formations()?,
            deferred: deferred.collect::<Result<Vec<_>, String>>()?.contains(&true),
            node_password: self.text("pg_auto_failover", "autoctl_node_password"),
            replication_password: self.text("replication", "password"),
        })
    }

    fn ssl(&self) -> Result<Ssl, String> {
        // Both spellings are in use.
        let file = |key: &str| {
            let found = self.text("ssl", key).or_else(|| self.text("ssl", &format!("ssl_{key}")));
            found.ok_or_else(|| format!("[ssl] {key} is missing"))
        };
        match self.get("options", "ssl").unwrap_or("self-signed") {
            "off" => Ok(Ssl::Off),
            "self-signed" => Ok(Ssl::SelfSigned),
            mode @ ("verify-ca" | "verify-full") => Ok(Ssl::Verify {
                mode: mode.to_string(),
                ca: file("ca_file")?,
                certificate: file("cert_file")?,
                key: file("key_file")?,
            }),
            other => Err(format!("[options] ssl = {other}: none of self-signed, verify-ca, verify-full, off")),
        }
    }

    fn formations(&self) -> Result<Vec<DeclaredFormation>, String> {
        let names = self.ini.sections().flatten().filter(|section| section.starts_with("formation "));
        let one = |section: &str| {
            Ok(DeclaredFormation {
                name: section.trim_start_matches("formation ").trim().to_string(),
                kind: self.text(section, "kind").unwrap_or_else(|| "pgsql".to_string()),
                dbname: self.text(section, "dbname").unwrap_or_else(|| "postgres".to_string()),
                secondary: self.boolean(section, "secondary")?,
                number_sync_standbys: self.number(section, "num_sync_standbys", "a number")?,
            })
        };
        names.map(one).collect()
    }
}
