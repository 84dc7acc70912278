//! Where the monitors are: stock URIs, key/value connection strings, lists of either, host lists.
//!
//! tokio-postgres refuses parameters that stock URIs carry (`sslrootcert`, `target_session_attrs=
//! prefer-standby`, ...), so that the text is read here and only what matters is passed on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::{DEFAULT_DATABASE, DEFAULT_PORT, DEFAULT_USER};

/// One address of a monitor. A host that starts with `/` is a directory of Unix sockets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The monitors to try, and who to be there. `Debug` and [`Target::uri`] never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub endpoints: Vec<Endpoint>,
    pub user: String,
    pub password: Option<String>,
    pub dbname: String,
    pub application_name: Option<String>,
    /// The deadline of one attempt, when the text names one.
    pub connect_timeout: Option<Duration>,
    /// `sslmode` as given; `prefer` when absent.
    pub sslmode: String,
    /// Whatever else was given; kept for [`Target::uri`], used by nothing here.
    pub others: BTreeMap<String, String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.uri())
    }
}

/// Why a text does not name monitors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TargetError(String);

fn bad(text: impl Into<String>) -> TargetError {
    TargetError(text.into())
}

impl Target {
    /// Monitors at these addresses, as the user that keepers are.
    pub fn new(endpoints: Vec<Endpoint>) -> Target {
        Target {
            endpoints,
            user: DEFAULT_USER.to_string(),
            password: None,
            dbname: DEFAULT_DATABASE.to_string(),
            application_name: None,
            connect_timeout: None,
            sslmode: "prefer".to_string(),
            others: BTreeMap::new(),
        }
    }

    /// Reads a URI (with one or several hosts), a key/value string, `host:port,host:port`, or a
    /// comma list of URIs. In a list of URIs, everything but the addresses comes from the first.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(bad("the monitor's address is empty"));
        }
        if text.contains('\0') {
            return Err(bad("the monitor's address contains a null character"));
        }
        let mut target: Option<Target> = None;
        for part in split_list(text) {
            let next = parse_one(part.trim())?;
            match &mut target {
                None => target = Some(next),
                Some(first) => {
                    for endpoint in next.endpoints {
                        if !first.endpoints.contains(&endpoint) {
                            first.endpoints.push(endpoint);
                        }
                    }
                }
            }
        }
        target.ok_or_else(|| bad("the monitor's address is empty"))
    }

    /// The target as a URI without its password.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self
            .endpoints
            .iter()
            .map(|e| match is_v6(&e.host) {
                true => e.to_string(),
                false => format!("{}:{}", encode(&e.host), e.port),
            })
            .collect();
        let mut uri = format!("postgres://{}@{}/{}", encode(&self.user), hosts.join(","), encode(&self.dbname));
        let mut mark = '?';
        let mut add = |key: &str, value: &str| {
            uri.push(mark);
            uri.push_str(&encode(key));
            uri.push('=');
            uri.push_str(&encode(value));
            mark = '&';
        };
        if self.sslmode != "prefer" {
            add("sslmode", &self.sslmode);
        }
        for (key, value) in &self.others {
            if !key.contains("password") {
                add(key, value);
            }
        }
        uri
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), TargetError> {
        match key {
            // As libpq: an empty one is none.
            "user" | "dbname" if value.is_empty() => {}
            "user" => self.user = value.to_string(),
            "password" => self.password = Some(value.to_string()),
            "dbname" => self.dbname = value.to_string(),
            "application_name" => self.application_name = Some(value.to_string()),
            "sslmode" => match value {
                "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full" => {
                    self.sslmode = value.to_string();
                }
                _ => return Err(bad(format!("sslmode \"{value}\" is not one that PostgreSQL knows"))),
            },
            "connect_timeout" => {
                let seconds: i64 =
                    value.parse().map_err(|_| bad(format!("connect_timeout \"{value}\" is not a number")))?;
                self.connect_timeout = u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs);
            }
            _ => {
                self.others.insert(key.to_string(), value.to_string());
            }
        }
        Ok(())
    }
}

/// Splits at the commas that stand before the scheme of another URI, and nowhere else: commas
/// inside a URI part its hosts.
fn split_list(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        let rest = text[at + 1..].trim_start();
        if has_scheme(rest) {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn has_scheme(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn parse_one(text: &str) -> Result<Target, TargetError> {
    if let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        parse_uri(rest)
    } else if let Some((scheme, _)) = text.split_once("://") {
        Err(bad(format!("\"{scheme}://\" is not a PostgreSQL URI; write postgres://")))
    } else if text.contains('=') {
        parse_key_values(text)
    } else {
        let endpoints = text.split(',').map(|part| parse_endpoint(part.trim())).collect::<Result<_, _>>()?;
        Ok(Target::new(endpoints))
    }
}

fn parse_uri(rest: &str) -> Result<Target, TargetError> {
    let mut target = Target::new(Vec::new());
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = match before_query.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (before_query, None),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (credentials, None),
            };
            if !user.is_empty() {
                target.user = decode(user)?;
            }
            target.password = password.map(decode).transpose()?;
            hosts
        }
        None => authority,
    };
    if let Some(path) = path.filter(|p| !p.is_empty()) {
        target.dbname = decode(path)?;
    }
    // host and port may stand in the query as well; libpq lets them win.
    let mut query_hosts: Option<String> = None;
    let mut query_ports: Option<String> = None;
    for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| bad(format!("the URI parameter \"{pair}\" has no value")))?;
        let (key, value) = (decode(key)?, decode(value)?);
        match key.as_str() {
            "host" => query_hosts = Some(value),
            "port" => query_ports = Some(value),
            _ => target.set(&key, &value)?,
        }
    }
    target.endpoints = match query_hosts {
        Some(hosts) => pair_up(&hosts, query_ports.as_deref().unwrap_or(""))?,
        None if hosts.is_empty() => return Err(bad("the monitor's URI names no host")),
        None => hosts.split(',').map(parse_endpoint).collect::<Result<_, _>>()?,
    };
    Ok(target)
}

/// `key = value` pairs as libpq reads them: values may be quoted with `'`, `\` escapes.
fn parse_key_values(text: &str) -> Result<Target, TargetError> {
    let mut target = Target::new(Vec::new());
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            break;
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(bad(format!("missing \"=\" after \"{key}\" in the monitor's connection string")));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        let quoted = chars.next_if_eq(&'\'').is_some();
        loop {
            match chars.next() {
                None if quoted => {
                    return Err(bad("unterminated quoted value in the monitor's connection string"));
                }
                None => break,
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
            }
        }
        match key.as_str() {
            "host" => hosts = value,
            "hostaddr" if hosts.is_empty() => hosts = value,
            "hostaddr" => {}
            "port" => ports = value,
            _ => target.set(&key, &value)?,
        }
    }
    if hosts.is_empty() {
        return Err(bad("the monitor's connection string names no host"));
    }
    target.endpoints = pair_up(&hosts, &ports)?;
    Ok(target)
}

/// libpq's rule: one port for all hosts, or as many ports as hosts.
fn pair_up(hosts: &str, ports: &str) -> Result<Vec<Endpoint>, TargetError> {
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let ports: Vec<&str> = ports.split(',').map(str::trim).collect();
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(bad(format!("{} ports for {} hosts", ports.len(), hosts.len())));
    }
    hosts
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or("");
            Ok(Endpoint { host: check_host(host)?, port: parse_port(port)? })
        })
        .collect()
}

/// `host`, `host:port`, `[v6]:port`, or a percent-encoded socket directory.
fn parse_endpoint(text: &str) -> Result<Endpoint, TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad(format!("missing \"]\" in \"{text}\"")))?;
        let port = match after {
            "" => "",
            _ => after.strip_prefix(':').ok_or_else(|| bad(format!("\"{text}\" is not host:port")))?,
        };
        return Ok(Endpoint { host: check_host(host)?, port: parse_port(port)? });
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    if port.contains(':') {
        return Err(bad(format!("\"{text}\" is not host:port; an IPv6 address stands in brackets")));
    }
    Ok(Endpoint { host: check_host(&decode(host)?)?, port: parse_port(port)? })
}

/// An IPv6 address, perhaps with a zone: what may stand in brackets as it is.
fn is_v6(host: &str) -> bool {
    host.contains(':') && host.chars().all(|c| c.is_ascii_alphanumeric() || ":.%_-".contains(c))
}

fn check_host(host: &str) -> Result<String, TargetError> {
    if host.is_empty() {
        return Err(bad("a host name is empty in the monitor's address"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad(format!("\"{host}\" is not a host name")));
    }
    Ok(host.to_string())
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad(format!("\"{text}\" is not a port (1 to 65535)")))
}

fn decode(text: &str) -> Result<String, TargetError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) if high + low > 0 => bytes.push((high * 16 + low) as u8),
            // The text may be a password: it is not repeated here.
            _ => return Err(bad("a percent sign in the monitor's URI is not followed by two hex digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad("the monitor's URI is not UTF-8 once decoded"))
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        Target::parse(text).unwrap().endpoints.iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn stock_uri() {
        let t = Target::parse(
            "postgres://autoctl_node:s%3Acret@10.0.0.1:6000,m2,[::1]:6002/pg_auto_failover?sslmode=require&sslrootcert=/etc/ca.pem&target_session_attrs=prefer-standby&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(t.password.as_deref(), Some("s:cret"));
        assert_eq!(t.endpoints.len(), 3);
        assert_eq!(t.endpoints[1], Endpoint { host: "m2".into(), port: 5432 });
        assert_eq!(t.endpoints[2], Endpoint { host: "::1".into(), port: 6002 });
        assert_eq!(t.sslmode, "require");
        assert_eq!(t.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(
            t.uri(),
            "postgres://autoctl_node@10.0.0.1:6000,m2:5432,[::1]:6002/pg_auto_failover?sslmode=require&sslrootcert=%2Fetc%2Fca.pem&target_session_attrs=prefer-standby"
        );
        assert!(!format!("{t:?}").contains("cret"));
    }

    #[test]
    fn lists() {
        assert_eq!(hosts("m1:1,m2:2 , m3"), ["m1:1", "m2:2", "m3:5432"]);
        assert_eq!(
            hosts("postgres://a@m1:1/db, postgresql://m2:2,m3:3/db"),
            ["m1:1", "m2:2", "m3:3"]
        );
        assert_eq!(Target::parse("postgres://a@m1:1/db,postgres://b@m2/x").unwrap().user, "a");
        assert_eq!(hosts("postgres://m1,m2/db?port=7"), ["m1:5432", "m2:5432"]);
        assert_eq!(hosts("postgres:///db?host=a,b&port=7"), ["a:7", "b:7"]);
    }

    #[test]
    fn key_values() {
        let t = Target::parse(r"host=a,b port=1,2 user = 'o\'x' password='p w' sslmode=disable").unwrap();
        assert_eq!(t.user, "o'x");
        assert_eq!(t.password.as_deref(), Some("p w"));
        assert_eq!(t.endpoints[1].port, 2);
        assert_eq!(t.dbname, "pg_auto_failover");
        assert_eq!(hosts("host=/run/postgresql"), ["/run/postgresql:5432"]);
    }

    #[test]
    fn round_trip() {
        for text in ["postgres://u@[fe80::1]:1,b:2/d%20b?x=y%26z", "host=/tmp port=3 user=u", "a?b:1,c@d", "user='' dbname='' host=a:b/c"] {
            let t = Target::parse(text).unwrap();
            assert_eq!(Target::parse(&t.uri()).unwrap(), t, "{text}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong_without_the_password() {
        for (text, part) in [
            ("", "empty"),
            ("mysql://x", "mysql"),
            ("postgres://u:hunter2@/db", "no host"),
            ("postgres://u:hunter2@h:99999/db", "99999"),
            ("postgres://u:hunter%zz@h/db", "hex digits"),
            ("postgres://h/db?sslmode=maybe", "maybe"),
            ("postgres://h/db?nothing", "nothing"),
            ("host=a,b port=1,2,3", "3 ports for 2 hosts"),
            ("host='a", "unterminated"),
            ("password=hunter2", "no host"),
            ("::1", "brackets"),
            ("a,,b", "empty"),
            ("user=a\0b host=h", "null"),
        ] {
            let e = Target::parse(text).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
            assert!(!e.contains("hunter"), "{e}");
        }
    }
}
