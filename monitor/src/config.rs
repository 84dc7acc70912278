//! A monitor's configuration: one INI file in its data directory.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ini::Ini;

use crate::client_tls::ClientTls;

/// The configuration file's name inside the data directory.
pub const FILE_NAME: &str = "pgquorum.cfg";

/// How far the replicas' port lies above the SQL port, so that one firewall rule per purpose is
/// easy to write. Below it where the sum would leave the range of ports.
pub const REPLICA_PORT_OFFSET: u16 = 10_000;

/// One member of the quorum as `--replicas` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    pub host: String,
    /// SQL port.
    pub port: u16,
    /// Port of the replicas' own channel.
    pub replica_port: u16,
}

/// How SQL clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Trust,
    ScramSha256,
}

/// Files of the mutually authenticated TLS channel between replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaTls {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// Everything that a monitor needs to start again with no option but its data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub pgdata: PathBuf,
    pub name: String,
    pub hostname: String,
    /// SQL port.
    pub port: u16,
    /// `*`, or a comma-separated list of addresses.
    pub listen_addresses: String,
    /// All members, this one included, in the order given.
    pub replicas: Vec<Replica>,
    pub auth: Auth,
    /// The password of `autoctl_node` when `auth` is not trust.
    pub password: Option<String>,
    /// The extension version that stock clients are shown.
    pub extension_version: String,
    /// Lets an administrator drive the rules by SQL alone. Never for production.
    pub test_mode: bool,
    pub replica_tls: Option<ReplicaTls>,
    /// TLS for SQL clients; `None` serves them in the clear.
    pub client_tls: Option<ClientTls>,
    /// SQL sessions at most.
    pub max_connections: usize,
}

/// A configuration that cannot be used; the text says what is wrong and what to do.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn err<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// The replicas' port that belongs to an SQL port.
pub fn default_replica_port(port: u16) -> u16 {
    port.checked_add(REPLICA_PORT_OFFSET).unwrap_or(port.wrapping_sub(REPLICA_PORT_OFFSET))
}

impl Config {
    /// A monitor that is alone: the drop-in for today's single monitor.
    pub fn alone(pgdata: &Path, name: &str, hostname: &str, port: u16) -> Config {
        Config {
            pgdata: pgdata.to_path_buf(),
            name: name.to_string(),
            hostname: hostname.to_string(),
            port,
            listen_addresses: "*".to_string(),
            replicas: vec![Replica {
                name: name.to_string(),
                host: hostname.to_string(),
                port,
                replica_port: default_replica_port(port),
            }],
            auth: Auth::Trust,
            password: None,
            extension_version: "2.0".to_string(),
            test_mode: false,
            replica_tls: None,
            client_tls: None,
            max_connections: 5_000,
        }
    }

    /// Reads `name=host:port[:replica_port],...`. IPv6 hosts stand in brackets.
    pub fn parse_replicas(text: &str) -> Result<Vec<Replica>, ConfigError> {
        let replicas: Vec<Replica> =
            text.split(',').map(|part| parse_replica(part.trim())).collect::<Result<_, _>>()?;
        for (i, a) in replicas.iter().enumerate() {
            for b in replicas.iter().skip(i + 1) {
                if a.name == b.name {
                    return err(format!("replica \"{}\" is named twice in --replicas", a.name));
                }
                if a.host == b.host && [a.port, a.replica_port].iter().any(|p| [b.port, b.replica_port].contains(p)) {
                    return err(format!(
                        "replicas \"{}\" and \"{}\" share a port on {}: each uses its SQL port and, for the \
                         replicas' own channel, port {} and {}",
                        a.name, b.name, a.host, a.replica_port, b.replica_port
                    ));
                }
            }
        }
        Ok(replicas)
    }

    /// The inverse of [`Config::parse_replicas`].
    pub fn format_replicas(replicas: &[Replica]) -> String {
        let one = |r: &Replica| {
            let host = if r.host.contains(':') { format!("[{}]", r.host) } else { r.host.clone() };
            if r.replica_port == default_replica_port(r.port) {
                format!("{}={}:{}", r.name, host, r.port)
            } else {
                format!("{}={}:{}:{}", r.name, host, r.port, r.replica_port)
            }
        };
        replicas.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// This monitor's own entry in the list of replicas.
    pub fn own_replica(&self) -> Result<&Replica, ConfigError> {
        match self.replicas.iter().find(|r| r.name == self.name) {
            Some(replica) => Ok(replica),
            None => err(format!(
                "--name is \"{}\", which is none of the replicas {}",
                self.name,
                Config::format_replicas(&self.replicas)
            )),
        }
    }

    /// The Raft ids: replicas sorted by name, from 1. Every member computes the same.
    pub fn replica_ids(&self) -> Vec<(u64, Replica)> {
        let mut sorted = self.replicas.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        (1..).zip(sorted).collect()
    }

    /// Checks what one option alone cannot know.
    pub fn check(&self) -> Result<(), ConfigError> {
        let own = self.own_replica()?;
        if own.port != self.port {
            return err(format!(
                "--pgport is {}, but --replicas gives port {} to \"{}\"",
                self.port, own.port, self.name
            ));
        }
        if self.replicas.len() > 1 && self.replicas.len().is_multiple_of(2) {
            return err(format!(
                "{} replicas tolerate no more failures than {}: use an odd number",
                self.replicas.len(),
                self.replicas.len() - 1
            ));
        }
        if self.auth == Auth::ScramSha256 && self.password.as_deref().unwrap_or("").is_empty() {
            return err("--auth scram-sha-256 needs a password for autoctl_node: set PG_AUTOCTL_NODE_PASSWORD");
        }
        if self.test_mode {
            if self.auth != Auth::Trust {
                return err("test mode goes with --auth trust on loopback only: anyone who connects may rewrite the state");
            }
            let everywhere = self.listen_addresses == "*";
            let listens = if everywhere { self.hostname.as_str() } else { self.listen_addresses.as_str() };
            if !listens.split(',').all(|address| is_loopback(address.trim())) {
                return err(format!(
                    "test mode is refused on {listens}: it is allowed on a loopback address only (--hostname 127.0.0.1)"
                ));
            }
        }
        Ok(())
    }

    /// The addresses to listen on for SQL. Test mode never listens beyond its own loopback address.
    pub fn listen_on(&self) -> Vec<(String, u16)> {
        match self.listen_addresses.as_str() {
            "*" if self.test_mode => vec![(self.hostname.clone(), self.port)],
            "*" => vec![(every_address().to_string(), self.port)],
            list => list.split(',').map(|a| (a.trim().to_string(), self.port)).collect(),
        }
    }

    /// Reads `<pgdata>/pgquorum.cfg`.
    ///
    /// # Errors
    /// The file is missing, is no INI file, or holds a value that cannot be used.
    pub fn load(pgdata: &Path) -> Result<Config, ConfigError> {
        let path = pgdata.join(FILE_NAME);
        let ini = Ini::load_from_file(&path).map_err(|e| {
            ConfigError(format!(
                "cannot read {}: {e}. `pgquorum create monitor --pgdata {}` makes a monitor",
                path.display(),
                pgdata.display()
            ))
        })?;
        let get = |section: &str, key: &str| ini.get_from(Some(section), key).map(str::to_string);
        let need = |section: &str, key: &str| {
            get(section, key).ok_or_else(|| ConfigError(format!("{}: [{section}] {key} is missing", path.display())))
        };
        if need("pg_autoctl", "role")? != "monitor" {
            return err(format!("{} is not the configuration of a monitor", path.display()));
        }
        let number = |section: &str, key: &str| -> Result<u16, ConfigError> {
            let text = need(section, key)?;
            text.parse().map_err(|_| {
                ConfigError(format!("{}: [{section}] {key} = \"{text}\" is not a port number", path.display()))
            })
        };
        let flag = |section: &str, key: &str| -> Result<bool, ConfigError> {
            let text = get(section, key).unwrap_or_else(|| "off".to_string());
            failover::settings::parse_bool(&text).ok_or_else(|| {
                ConfigError(format!("{}: [{section}] {key} = \"{text}\" is neither on nor off", path.display()))
            })
        };
        let auth = need("postgresql", "auth_method")?;
        let max_connections = get("postgresql", "max_connections").unwrap_or_else(|| "5000".to_string());
        let config = Config {
            pgdata: pgdata.to_path_buf(),
            name: need("pg_autoctl", "name")?,
            hostname: need("pg_autoctl", "hostname")?,
            port: number("postgresql", "port")?,
            listen_addresses: get("postgresql", "listen_addresses").unwrap_or_else(|| "*".to_string()),
            replicas: Config::parse_replicas(&need("quorum", "replicas")?)?,
            auth: Auth::parse(&auth)?,
            password: get("postgresql", "autoctl_node_password"),
            extension_version: get("postgresql", "extension_version").unwrap_or_else(|| "2.0".to_string()),
            test_mode: flag("quorum", "test_mode")?,
            replica_tls: match (get("quorum", "ca_file"), get("quorum", "cert_file"), get("quorum", "key_file")) {
                (None, None, None) => None,
                (Some(ca), Some(cert), Some(key)) => {
                    Some(ReplicaTls { ca_file: ca.into(), cert_file: cert.into(), key_file: key.into() })
                }
                _ => {
                    return err(format!(
                        "{}: [quorum] needs all of ca_file, cert_file and key_file, or none",
                        path.display()
                    ));
                }
            },
            client_tls: match flag("ssl", "active")? {
                false => None,
                true => Some(ClientTls {
                    self_signed: flag("ssl", "self_signed")?,
                    sslmode: need("ssl", "sslmode")?,
                    cert_file: need("ssl", "cert_file")?.into(),
                    key_file: need("ssl", "key_file")?.into(),
                    ca_file: get("ssl", "ca_file").map(PathBuf::from),
                    crl_file: get("ssl", "crl_file").map(PathBuf::from),
                }),
            },
            max_connections: max_connections.parse().map_err(|_| {
                ConfigError(format!("{}: max_connections = \"{max_connections}\" is not a number", path.display()))
            })?,
        };
        config.check()?;
        Ok(config)
    }

    /// Writes `<pgdata>/pgquorum.cfg`, readable by its owner alone, by rename.
    pub fn save(&self) -> Result<(), ConfigError> {
        self.check()?;
        let mut ini = Ini::new();
        ini.with_section(Some("pg_autoctl"))
            .set("role", "monitor")
            .set("name", &self.name)
            .set("hostname", &self.hostname);
        let mut postgresql = ini.with_section(Some("postgresql"));
        postgresql
            .set("pgdata", self.pgdata.display().to_string())
            .set("port", self.port.to_string())
            .set("listen_addresses", &self.listen_addresses)
            .set("auth_method", self.auth.name())
            .set("extension_version", &self.extension_version)
            .set("max_connections", self.max_connections.to_string());
        if let Some(password) = &self.password {
            postgresql.set("autoctl_node_password", password);
        }
        let mut quorum = ini.with_section(Some("quorum"));
        quorum.set("replicas", Config::format_replicas(&self.replicas));
        if self.test_mode {
            quorum.set("test_mode", "on");
        }
        if let Some(tls) = &self.replica_tls {
            quorum
                .set("ca_file", tls.ca_file.display().to_string())
                .set("cert_file", tls.cert_file.display().to_string())
                .set("key_file", tls.key_file.display().to_string());
        }
        if let Some(tls) = &self.client_tls {
            let mut ssl = ini.with_section(Some("ssl"));
            ssl.set("active", "1")
                .set("self_signed", if tls.self_signed { "1" } else { "0" })
                .set("sslmode", &tls.sslmode)
                .set("cert_file", tls.cert_file.display().to_string())
                .set("key_file", tls.key_file.display().to_string());
            for (key, file) in [("ca_file", &tls.ca_file), ("crl_file", &tls.crl_file)] {
                if let Some(file) = file {
                    ssl.set(key, file.display().to_string());
                }
            }
        }
        let mut text = Vec::new();
        let path = self.pgdata.join(FILE_NAME);
        let failed = |e: std::io::Error| ConfigError(format!("cannot write {}: {e}", path.display()));
        ini.write_to(&mut text).map_err(failed)?;
        let new = path.with_extension("cfg.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)
    }
}

impl Auth {
    /// The name in the configuration file and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Auth::Trust => "trust",
            Auth::ScramSha256 => "scram-sha-256",
        }
    }

    /// Reads a method name.
    pub fn parse(text: &str) -> Result<Auth, ConfigError> {
        match text {
            "trust" => Ok(Auth::Trust),
            "scram-sha-256" => Ok(Auth::ScramSha256),
            other => err(format!("authentication method \"{other}\" is not supported: use trust or scram-sha-256")),
        }
    }
}

fn parse_replica(part: &str) -> Result<Replica, ConfigError> {
    let wrong = |why: &str| {
        ConfigError(format!("\"{part}\" in --replicas {why}; the form is name=host:port, name=host:port, ..."))
    };
    let (name, address) = part.split_once('=').ok_or_else(|| wrong("has no name"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong("has a name with other than letters, digits, '_', '-' and '.'"));
    }
    let (host, ports) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("has an unclosed bracket"))?;
            (host, rest.strip_prefix(':').ok_or_else(|| wrong("has no port"))?)
        }
        None => address.split_once(':').ok_or_else(|| wrong("has no port"))?,
    };
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    if host.chars().any(|c| "[]".contains(c) || c.is_whitespace() || c.is_control()) {
        return Err(wrong("has a host with brackets, blanks or control characters"));
    }
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(wrong("has a port that is no number from 1 to 65535")),
    };
    let (sql, replica) = match ports.split_once(':') {
        Some((sql, replica)) => (port(sql)?, port(replica)?),
        None => (port(ports)?, default_replica_port(port(ports)?)),
    };
    Ok(Replica { name: name.to_string(), host: host.to_string(), port: sql, replica_port: replica })
}

/// The address that stands for all of this host's: IPv6 with IPv4 inside, or IPv4 where the kernel
/// has no IPv6.
pub fn every_address() -> &'static str {
    if std::net::TcpListener::bind("[::]:0").is_ok() { "::" } else { "0.0.0.0" }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn replicas_are_read_and_written_back() {
        let text = "m1=10.0.0.1:5432,m2=[fd00::2]:60000,m3=h3:6000:7000";
        let replicas = Config::parse_replicas(text).unwrap();
        assert_eq!(replicas[0].replica_port, 15432);
        assert_eq!(replicas[1].replica_port, 50000);
        assert_eq!(replicas[2].replica_port, 7000);
        assert_eq!(Config::format_replicas(&replicas), text);
    }

    #[test]
    fn wrong_replicas_are_named() {
        for bad in ["", "m1", "m1=", "m1=h", "m1=h:0", "m1=h:NaN", "=h:1", "m1=:1", "m1=h:1,m1=g:1", "a=h:1,b=h:10001", "m1=[[f]:1", "m1=a b:1"] {
            assert!(Config::parse_replicas(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_saved_configuration_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::alone(dir.path(), "m1", "127.0.0.1", 6001);
        config.replicas = Config::parse_replicas("m1=127.0.0.1:6001,m2=127.0.0.1:6002,m3=127.0.0.1:6003").unwrap();
        config.test_mode = true;
        config.client_tls = Some(ClientTls { crl_file: Some("/crl.pem".into()), ..ClientTls::self_signed(dir.path()) });
        config.save().unwrap();
        assert_eq!(Config::load(dir.path()).unwrap(), config);
        assert_eq!(config.listen_on(), [("127.0.0.1".to_string(), 6001)]);
    }

    #[test]
    fn test_mode_is_refused_where_strangers_could_connect() {
        let mut config = Config::alone(Path::new("/nowhere"), "m1", "10.0.0.1", 6001);
        config.test_mode = true;
        assert!(config.check().is_err());
        config.hostname = "127.0.0.1".to_string();
        assert!(config.check().is_ok());
        config.auth = Auth::ScramSha256;
        config.password = Some("secret".to_string());
        assert!(config.check().is_err());
    }
}
