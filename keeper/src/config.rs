//! `pg_autoctl.cfg`: upstream's keys in upstream's sections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ini::Ini;
use monitor_client::Target;

use crate::error::{KeeperError, Result};
use crate::files;

/// In place of the monitor's URI: a node without a monitor.
pub const MONITOR_DISABLED: &str = "PG_AUTOCTL_DISABLED";

/// TLS of PostgreSQL: of its server side, and of the node's own connections to its peers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ssl {
    pub active: bool,
    pub sslmode: String,
    pub ca_file: Option<PathBuf>,
    pub crl_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Certificates that the keeper makes.
    pub self_signed: bool,
}

/// Patience, in whole seconds in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Neither the monitors nor enough standbys for this long: a primary stops itself.
    pub network_partition: Duration,
    pub prepare_promotion_catchup: Duration,
    pub prepare_promotion_walreceiver: Duration,
    /// A primary whose PostgreSQL died pretends that it runs until one of these two is used up.
    pub postgresql_restart_failure: Duration,
    pub postgresql_restart_failure_max_retries: u32,
    /// A keeper that gives no sign of life for this long: the guardian stops a primary that could be
    /// replaced. Ours, not upstream's.
    pub guardian: Duration,
}

/// How `pg_hba.conf` is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaLevel {
    /// Not at all.
    None,
    /// One block with a line per peer.
    Minimal,
    /// Also the whole local network.
    Lan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The text as given; it may hold a password.
    pub monitor: String,
    pub formation: String,
    pub group: i32,
    pub name: String,
    pub hostname: String,
    pub pgdata: PathBuf,
    pub pg_ctl: PathBuf,
    pub username: String,
    pub dbname: String,
    /// Directory of the Unix socket; empty: PostgreSQL's own default.
    pub host: String,
    pub port: u16,
    pub listen_addresses: String,
    pub auth_method: String,
    pub hba_level: HbaLevel,
    pub ssl: Ssl,
    pub replication_password: Option<String>,
    /// As pg_basebackup's `--max-rate` takes it.
    pub maximum_backup_rate: String,
    pub backup_directory: PathBuf,
    pub timeouts: Timeouts,
}

const ROLE: &str = "keeper";

/// Every key, in the order of the file: section, key, settable at run time.
pub const KEYS: &[(&str, &str, bool)] = &[
    ("pg_autoctl", "role", false),
    ("pg_autoctl", "monitor", true),
    ("pg_autoctl", "formation", false),
    ("pg_autoctl", "group", false),
    ("pg_autoctl", "name", true),
    ("pg_autoctl", "hostname", true),
    ("pg_autoctl", "nodekind", false),
    ("postgresql", "pgdata", false),
    ("postgresql", "pg_ctl", true),
    ("postgresql", "username", false),
    ("postgresql", "dbname", false),
    ("postgresql", "host", false),
    ("postgresql", "port", false),
    ("postgresql", "listen_addresses", false),
    ("postgresql", "auth_method", false),
    ("postgresql", "hba_level", false),
    ("ssl", "active", true),
    ("ssl", "sslmode", true),
    ("ssl", "ca_file", true),
    ("ssl", "crl_file", true),
    ("ssl", "cert_file", true),
    ("ssl", "key_file", true),
    ("ssl", "self_signed", true),
    ("replication", "password", true),
    ("replication", "maximum_backup_rate", true),
    ("replication", "backup_directory", true),
    ("timeout", "network_partition_timeout", true),
    ("timeout", "prepare_promotion_catchup", true),
    ("timeout", "prepare_promotion_walreceiver", true),
    ("timeout", "postgresql_restart_failure_timeout", true),
    ("timeout", "postgresql_restart_failure_max_retries", true),
    ("timeout", "guardian_timeout", true),
];

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            network_partition: Duration::from_secs(20),
            prepare_promotion_catchup: Duration::from_secs(30),
            prepare_promotion_walreceiver: Duration::from_secs(5),
            postgresql_restart_failure: Duration::from_secs(20),
            postgresql_restart_failure_max_retries: 3,
            guardian: Duration::from_secs(10),
        }
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Config> {
        let text = files::read_text(path).map_err(|error| KeeperError::config(error.message))?.ok_or_else(|| {
            KeeperError::config(format!("{} does not exist: `pgquorum create postgres` makes it", path.display()))
        })?;
        let ini = parse(&text).map_err(|error| error.while_doing(path.display()))?;
        Config::from_ini(&ini).map_err(|error| error.while_doing(path.display()))
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            files::private_dir(dir)?;
        }
        // Keys that a person added stay where they are.
        let mut ini = match files::read_text(path)? {
            Some(text) => parse(&text).unwrap_or_default(),
            None => Ini::new(),
        };
        for (section, key, _) in KEYS {
            match self.get(section, key) {
                Some(value) => ini.set_to(Some(*section), (*key).to_string(), value),
                None => drop(ini.delete_from(Some(*section), key)),
            }
        }
        save_ini(&ini, path)
    }

    /// A node without one gets its goals from an operator.
    pub fn has_monitor(&self) -> bool {
        self.monitor != MONITOR_DISABLED
    }

    /// The target that the monitor's text names; `None` for a node without a monitor.
    pub fn target(&self) -> Result<Option<Target>> {
        if !self.has_monitor() {
            return Ok(None);
        }
        Target::parse(&self.monitor)
            .map(Some)
            .map_err(|error| KeeperError::config(format!("[pg_autoctl] monitor: {error}")))
    }

    /// A key's value as it stands in the file; `None` when it is not set or unknown.
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let flag = |on: bool| Some(if on { "1" } else { "0" }.to_string());
        let seconds = |d: Duration| Some(d.as_secs().to_string());
        match (section, key) {
            ("pg_autoctl", "role") => Some(ROLE.to_string()),
            ("pg_autoctl", "monitor") => Some(self.monitor.clone()),
            ("pg_autoctl", "formation") => Some(self.formation.clone()),
            ("pg_autoctl", "group") => Some(self.group.to_string()),
            ("pg_autoctl", "name") => Some(self.name.clone()),
            ("pg_autoctl", "hostname") => Some(self.hostname.clone()),
            ("pg_autoctl", "nodekind") => Some("standalone".to_string()),
            ("postgresql", "pgdata") => Some(self.pgdata.display().to_string()),
            ("postgresql", "pg_ctl") => Some(self.pg_ctl.display().to_string()),
            ("postgresql", "username") => Some(self.username.clone()),
            ("postgresql", "dbname") => Some(self.dbname.clone()),
            ("postgresql", "host") => Some(self.host.clone()).filter(|h| !h.is_empty()),
            ("postgresql", "port") => Some(self.port.to_string()),
            ("postgresql", "listen_addresses") => Some(self.listen_addresses.clone()),
            ("postgresql", "auth_method") => Some(self.auth_method.clone()),
            ("postgresql", "hba_level") => Some(self.hba_level.name().to_string()),
            ("ssl", "active") => flag(self.ssl.active),
            ("ssl", "sslmode") => Some(self.ssl.sslmode.clone()),
            ("ssl", "ca_file") => path(&self.ssl.ca_file),
            ("ssl", "crl_file") => path(&self.ssl.crl_file),
            ("ssl", "cert_file") => path(&self.ssl.cert_file),
            ("ssl", "key_file") => path(&self.ssl.key_file),
            ("ssl", "self_signed") => flag(self.ssl.self_signed),
            ("replication", "password") => self.replication_password.clone(),
            ("replication", "maximum_backup_rate") => Some(self.maximum_backup_rate.clone()),
            ("replication", "backup_directory") => Some(self.backup_directory.display().to_string()),
            ("timeout", "network_partition_timeout") => seconds(self.timeouts.network_partition),
            ("timeout", "prepare_promotion_catchup") => seconds(self.timeouts.prepare_promotion_catchup),
            ("timeout", "prepare_promotion_walreceiver") => seconds(self.timeouts.prepare_promotion_walreceiver),
            ("timeout", "postgresql_restart_failure_timeout") => seconds(self.timeouts.postgresql_restart_failure),
            ("timeout", "postgresql_restart_failure_max_retries") => {
                Some(self.timeouts.postgresql_restart_failure_max_retries.to_string())
            }
            ("timeout", "guardian_timeout") => seconds(self.timeouts.guardian),
            _ => None,
        }
    }

    fn from_ini(ini: &Ini) -> Result<Config> {
        let get = |section: &str, key: &str| ini.get_from(Some(section), key).filter(|v| !v.is_empty());
        let need = |section: &str, key: &str| {
            get(section, key).ok_or_else(|| KeeperError::config(format!("[{section}] {key} is missing")))
        };
        let default = |section: &str, key: &str, value: &str| get(section, key).unwrap_or(value).to_string();
        if need("pg_autoctl", "role")? != ROLE {
            return Err(KeeperError::config("[pg_autoctl] role is not \"keeper\": this is not a PostgreSQL node"));
        }
        let kind = default("pg_autoctl", "nodekind", "standalone");
        if kind != "standalone" {
            return Err(KeeperError::config(format!("[pg_autoctl] nodekind \"{kind}\": Citus nodes are not supported")));
        }
        let pgdata = PathBuf::from(need("postgresql", "pgdata")?);
        let path = |section: &str, key: &str| get(section, key).map(PathBuf::from);
        let fallback = Timeouts::default();
        let seconds = |key: &str, value: Duration| -> Result<Duration> {
            Ok(match get("timeout", key) {
                Some(text) => Duration::from_secs(number(&format!("[timeout] {key}"), text)?),
                None => value,
            })
        };
        Ok(Config {
            monitor: need("pg_autoctl", "monitor")?.to_string(),
            formation: default("pg_autoctl", "formation", "default"),
            group: number("[pg_autoctl] group", &default("pg_autoctl", "group", "0"))?,
            name: default("pg_autoctl", "name", ""),
            // "nodename" is what upstream called it before 1.4.
            hostname: match get("pg_autoctl", "hostname") {
                Some(host) => host.to_string(),
                None => need("pg_autoctl", "nodename")
                    .map_err(|_| KeeperError::config("[pg_autoctl] hostname is missing"))?
                    .to_string(),
            },
            pg_ctl: PathBuf::from(need("postgresql", "pg_ctl")?),
            username: default("postgresql", "username", "postgres"),
            dbname: default("postgresql", "dbname", "postgres"),
            host: default("postgresql", "host", ""),
            port: number("[postgresql] port", &default("postgresql", "port", "5432"))?,
            listen_addresses: default("postgresql", "listen_addresses", "*"),
            auth_method: default("postgresql", "auth_method", "trust"),
            hba_level: HbaLevel::from_name(&default("postgresql", "hba_level", "minimal"))?,
            ssl: Ssl {
                active: matches!(default("ssl", "active", "0").as_str(), "1" | "true" | "on"),
                sslmode: default("ssl", "sslmode", "prefer"),
                ca_file: path("ssl", "ca_file"),
                crl_file: path("ssl", "crl_file"),
                cert_file: path("ssl", "cert_file"),
                key_file: path("ssl", "key_file"),
                self_signed: matches!(default("ssl", "self_signed", "0").as_str(), "1" | "true" | "on"),
            },
            replication_password: get("replication", "password").map(str::to_string),
            maximum_backup_rate: rate(&default("replication", "maximum_backup_rate", "100M"))?,
            backup_directory: path("replication", "backup_directory").unwrap_or_else(|| backup_directory(&pgdata, 0)),
            timeouts: Timeouts {
                network_partition: seconds("network_partition_timeout", fallback.network_partition)?,
                prepare_promotion_catchup: seconds("prepare_promotion_catchup", fallback.prepare_promotion_catchup)?,
                prepare_promotion_walreceiver: seconds(
                    "prepare_promotion_walreceiver",
                    fallback.prepare_promotion_walreceiver,
                )?,
                postgresql_restart_failure: seconds(
                    "postgresql_restart_failure_timeout",
                    fallback.postgresql_restart_failure,
                )?,
                postgresql_restart_failure_max_retries: match get("timeout", "postgresql_restart_failure_max_retries") {
                    Some(text) => number("[timeout] postgresql_restart_failure_max_retries", text)?,
                    None => fallback.postgresql_restart_failure_max_retries,
                },
                guardian: seconds("guardian_timeout", fallback.guardian)?,
            },
            pgdata,
        })
    }
}

impl HbaLevel {
    pub fn name(self) -> &'static str {
        match self {
            HbaLevel::None => "none",
            HbaLevel::Minimal => "minimal",
            HbaLevel::Lan => "lan",
        }
    }

    fn from_name(name: &str) -> Result<HbaLevel> {
        match name {
            "none" => Ok(HbaLevel::None),
            "minimal" => Ok(HbaLevel::Minimal),
            "lan" => Ok(HbaLevel::Lan),
            _ => Err(KeeperError::config(format!("[postgresql] hba_level \"{name}\" is not none, minimal or lan"))),
        }
    }
}

/// Where pg_basebackup writes: beside the data directory, so that the swap is a rename.
pub fn backup_directory(pgdata: &Path, node_id: i64) -> PathBuf {
    pgdata.parent().unwrap_or(Path::new("/")).join("backup").join(format!("node_{node_id}"))
}

/// Changes one key of the file; the whole file must make sense afterwards.
pub fn set_value(path: &Path, section: &str, key: &str, value: &str) -> Result<Config> {
    match KEYS.iter().find(|(s, k, _)| *s == section && *k == key) {
        None => return Err(KeeperError::arguments(format!("there is no setting {section}.{key}"))),
        Some((_, _, false)) => {
            return Err(KeeperError::arguments(format!("{section}.{key} cannot be changed after creation")));
        }
        Some(_) => {}
    }
    let text = files::read_text(path)
        .map_err(|error| KeeperError::config(error.message))?
        .ok_or_else(|| KeeperError::config(format!("{} does not exist", path.display())))?;
    let mut ini = parse(&text).map_err(|error| error.while_doing(path.display()))?;
    ini.set_to(Some(section), key.to_string(), value.to_string());
    let config = Config::from_ini(&ini)?;
    config.target()?;
    save_ini(&ini, path)?;
    Ok(config)
}

fn parse(text: &str) -> Result<Ini> {
    Ini::load_from_str_noescape(text).map_err(|error| KeeperError::config(format!("not an INI file: {error}")))
}

fn save_ini(ini: &Ini, path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    ini.write_to_policy(&mut bytes, ini::EscapePolicy::Nothing)
        .map_err(|error| KeeperError::io(format!("cannot write {}", path.display()), &error))?;
    files::write_atomic(path, &bytes, 0o600)
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| KeeperError::config(format!("{what} = \"{text}\" is not a number in range")))
}

/// pg_basebackup takes 32 kB to 1 GB per second, in kB or with a suffix k or M.
pub fn rate(text: &str) -> Result<String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K', 'M']) {
        Some(digits) if text.ends_with('M') => (digits, 1024),
        Some(digits) => (digits, 1),
        None => (text, 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(kb) if (32..=1_048_576).contains(&kb) => Ok(text.to_string()),
        _ => Err(KeeperError::config(format!(
            "maximum backup rate \"{text}\" is not between 32k and 1024M per second"
        ))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(pgdata: &Path) -> Config {
        let text = format!(
            "[pg_autoctl]\nrole = keeper\nmonitor = postgres://autoctl_node@m1:1,m2:2/pg_auto_failover\nname = n1\n\
             hostname = 127.0.0.1\nnodekind = standalone\n[postgresql]\npgdata = {}\npg_ctl = /usr/bin/pg_ctl\n",
            pgdata.display()
        );
        Config::from_ini(&parse(&text).unwrap()).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_and_foreign_keys_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/pg_autoctl.cfg");
        let mut config = sample(Path::new("/pg/data"));
        config.replication_password = Some("p=w;#'\\x".to_string());
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[citus]\nrole=primary\n")).unwrap();
        set_value(&path, "timeout", "network_partition_timeout", "7").unwrap();
        let again = Config::load(&path).unwrap();
        assert_eq!(again.timeouts.network_partition, Duration::from_secs(7));
        again.save(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("[citus]"));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_key_is_readable() {
        let mut config = sample(Path::new("/pg/data"));
        config.host = "/run".to_string();
        let file = Some(PathBuf::from("/f"));
        config.ssl = Ssl {
            active: true,
            sslmode: "require".to_string(),
            ca_file: file.clone(),
            crl_file: file.clone(),
            cert_file: file.clone(),
            key_file: file,
            self_signed: true,
        };
        config.replication_password = Some("x".to_string());
        for (section, key, _) in KEYS {
            assert!(config.get(section, key).is_some(), "{section}.{key}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_autoctl.cfg");
        sample(Path::new("/pg/data")).save(&path).unwrap();
        for (section, key, value, part) in [
            ("postgresql", "port", "1", "cannot be changed"),
            ("nothing", "at_all", "1", "no setting"),
            ("timeout", "network_partition_timeout", "soon", "not a number"),
            ("replication", "maximum_backup_rate", "5G", "between 32k"),
            ("pg_autoctl", "monitor", "mysql://x", "mysql"),
        ] {
            let error = set_value(&path, section, key, value).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for good in ["32", "32k", "100M", "1024M"] {
            rate(good).unwrap();
        }
        for bad in ["", "M", "31", "1025M", "5G", "-1"] {
            rate(bad).unwrap_err();
        }
    }
}
