//! Our lines in `pg_hba.conf`: one marked block at the end; every other byte stays as it is.

use std::path::Path;

use crate::config::{Config, HbaLevel};
use crate::error::{KeeperError, Result};
use crate::files;

const BEGIN: &str = "# BEGIN pgquorum: lines of the group's nodes; rewritten when the nodes change";
const END: &str = "# END pgquorum";

/// The role that standbys and pg_rewind connect as.
pub const REPLICATOR: &str = "pgautofailover_replicator";
/// The role that the monitors' health checks connect as.
pub const MONITOR_ROLE: &str = "pgautofailover_monitor";

/// Brings the block up to date for these peers and monitors. `true` when the file changed.
pub fn install(config: &Config, peers: &[String], monitors: &[String]) -> Result<bool> {
    if config.hba_level == HbaLevel::None {
        return Ok(false);
    }
    let path = config.pgdata.join("pg_hba.conf");
    let text = files::read_text(&path)?
        .ok_or_else(|| KeeperError::config(format!("{} does not exist", path.display())))?;
    let new = with_block(&text, &lines(config, peers, monitors));
    if new == text {
        return Ok(false);
    }
    files::write_atomic(&path, new.as_bytes(), super::conf::mode_of(&path))?;
    Ok(true)
}

fn lines(config: &Config, peers: &[String], monitors: &[String]) -> Vec<String> {
    let kind = if config.ssl.active { "hostssl" } else { "host" };
    let auth = match config.auth_method.as_str() {
        "scram" => "scram-sha-256",
        other => other,
    };
    let database = format!("\"{}\"", config.dbname.replace('"', "\"\""));
    let mut lines = Vec::new();
    let mut sources: Vec<String> = peers.iter().map(|host| address(host)).collect();
    sources.push(address(&config.hostname));
    if config.hba_level == HbaLevel::Lan {
        sources.push("samenet".to_string());
    }
    sources.sort();
    sources.dedup();
    for source in &sources {
        lines.push(format!("{kind} replication {REPLICATOR} {source} {auth}"));
        lines.push(format!("{kind} {database} {REPLICATOR} {source} {auth}"));
    }
    // As upstream does: the application's role may come from this host.
    let user = format!("\"{}\"", config.username.replace('"', "\"\""));
    lines.push(format!("{kind} {database} {user} {} {auth}", address(&config.hostname)));
    if config.hba_level == HbaLevel::Lan {
        lines.push(format!("{kind} all all samenet {auth}"));
    }
    let mut monitors: Vec<String> = monitors.iter().map(|host| address(host)).collect();
    monitors.sort();
    monitors.dedup();
    for source in monitors {
        // Health checks ask nothing; upstream's role has no privilege and its password is no secret.
        lines.push(format!("host all {MONITOR_ROLE} {source} trust"));
    }
    lines
}

/// Addresses become `/32` or `/128`. Names stay names: PostgreSQL resolves them at each connection,
/// and needs the reverse lookup to agree.
fn address(host: &str) -> String {
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => format!("{host}/32"),
        Ok(std::net::IpAddr::V6(_)) => format!("{host}/128"),
        Err(_) => host.to_string(),
    }
}

fn with_block(text: &str, lines: &[String]) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if !inside => kept.push_str(line),
            _ => {}
        }
    }
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    kept.push_str(&format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")));
    kept
}

/// Our block of the file's text, without its first and last line; `None`: it has none.
pub fn block(text: &str) -> Option<&str> {
    let (_, behind) = text.split_once(BEGIN)?;
    let (lines, _) = behind.split_once(END)?;
    Some(lines.trim_start())
}

/// Tells whether the file has our block.
pub fn has_block(pgdata: &Path) -> bool {
    files::read_text(&pgdata.join("pg_hba.conf")).ok().flatten().is_some_and(|text| text.contains(BEGIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::sample;

    #[test]
    fn one_block_and_nothing_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_hba.conf");
        let user = "local all all trust\n# my note without newline";
        std::fs::write(&path, user).unwrap();
        let config = sample(dir.path());
        let monitors = vec!["m1".to_string(), "10.0.0.9".to_string()];
        assert!(install(&config, &["10.0.0.2".to_string()], &monitors).unwrap());
        let first = std::fs::read_to_string(&path).unwrap();
        assert!(first.starts_with(user));
        assert!(first.contains("host replication pgautofailover_replicator 10.0.0.2/32 trust"), "{first}");
        assert!(first.contains("host all pgautofailover_monitor m1 trust"));
        assert!(!install(&config, &["10.0.0.2".to_string()], &monitors).unwrap(), "the same again changes nothing");
        // A line that the user puts below the block survives a change of the peers.
        std::fs::write(&path, format!("{first}host all all ::1/128 reject\n")).unwrap();
        assert!(install(&config, &["n3.example".to_string()], &monitors).unwrap());
        let second = std::fs::read_to_string(&path).unwrap();
        assert!(second.contains("::1/128 reject") && second.contains("n3.example") && !second.contains("10.0.0.2/32"));
        assert_eq!(second.matches(BEGIN).count(), 1);
    }

    #[test]
    fn skip_leaves_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_hba.conf");
        std::fs::write(&path, "x\r\n\ty").unwrap();
        let config = Config { hba_level: HbaLevel::None, ..sample(dir.path()) };
        assert!(!install(&config, &["10.0.0.2".to_string()], &[]).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"x\r\n\ty");
    }

    #[test]
    fn tls_and_scram() {
        let mut config = sample(Path::new("/x"));
        config.ssl.active = true;
        config.auth_method = "scram-sha-256".to_string();
        let lines = lines(&config, &["::1".to_string()], &[]);
        assert!(lines.contains(&"hostssl replication pgautofailover_replicator ::1/128 scram-sha-256".to_string()));
    }
}
