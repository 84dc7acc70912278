//! Whom a standby follows: the standby file and `standby.signal`.

use std::path::Path;

use super::conf::{PASSWORD_FILE, STANDBY_FILE, mode_of, quoted};
use super::facts::STANDBY_PREFIX;
use super::hba::REPLICATOR;
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;

/// A server to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub id: i64,
    pub host: String,
    pub port: u16,
}

impl From<monitor_client::GroupNode> for Upstream {
    fn from(node: monitor_client::GroupNode) -> Upstream {
        Upstream { id: node.id, host: node.host, port: node.port }
    }
}

/// Detection of a dead upstream within about three seconds: connecting is bounded by
/// `connect_timeout`, a cut link by `tcp_user_timeout` and keepalives (measured), a hung peer by
/// `wal_receiver_timeout`.
const NETWORK: &str = "connect_timeout=2 keepalives=1 keepalives_idle=1 keepalives_interval=1 keepalives_count=2 \
                       tcp_user_timeout=2000";

/// A value in a connection string's quotes.
fn value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A connection string to a peer, without the password: for arguments of programs.
pub fn conninfo(config: &Config, upstream: &Upstream, node_id: i64, dbname: Option<&str>) -> String {
    let mut text = format!(
        "host={} port={} user={REPLICATOR} application_name={STANDBY_PREFIX}{node_id} {NETWORK} sslmode={}",
        value(&upstream.host),
        upstream.port,
        // "prefer" is libpq's own default.
        value(&config.ssl.sslmode),
    );
    for (key, file) in [("sslrootcert", &config.ssl.ca_file), ("sslcrl", &config.ssl.crl_file)] {
        if let Some(file) = file {
            text.push_str(&format!(" {key}={}", value(&file.display().to_string())));
        }
    }
    if let Some(dbname) = dbname {
        text.push_str(&format!(" dbname={}", value(dbname)));
    }
    text
}

/// The text of the standby file. `None`: a standby that follows nobody, which is the seal: it holds
/// through restarts because it is in the file.
fn render(config: &Config, upstream: Option<&Upstream>, node_id: i64) -> String {
    let mut text = String::from("# Written by pgquorum and overwritten by it.\n");
    match upstream {
        Some(upstream) => {
            let mut conninfo = conninfo(config, upstream, node_id, None);
            if config.replication_password.is_some() {
                let file = config.pgdata.join(PASSWORD_FILE);
                conninfo.push_str(&format!(" passfile={}", value(&file.display().to_string())));
            }
            text.push_str(&format!("primary_conninfo = {}\n", quoted(&conninfo)));
            text.push_str(&format!("primary_slot_name = '{STANDBY_PREFIX}{node_id}'\n"));
        }
        None => text.push_str("primary_conninfo = ''\nprimary_slot_name = ''\n"),
    }
    text
}

/// The password where walreceivers look for it. libpq ignores a file that others may read.
fn save_password(config: &Config) -> Result<()> {
    let Some(password) = &config.replication_password else { return Ok(()) };
    let path = config.pgdata.join(PASSWORD_FILE);
    let line = format!("*:*:*:{REPLICATOR}:{}\n", password.replace('\\', "\\\\").replace(':', "\\:"));
    if files::read_text(&path)?.as_deref() == Some(&line) && mode_of(&path) == 0o600 {
        return Ok(());
    }
    files::write_atomic(&path, line.as_bytes(), 0o600)
}

/// Writes the standby file. `true` when it changed. The caller reloads or starts PostgreSQL.
pub fn follow(config: &Config, upstream: Option<&Upstream>, node_id: i64) -> Result<bool> {
    if upstream.is_some() {
        save_password(config)?;
    }
    let path = config.pgdata.join(STANDBY_FILE);
    let text = render(config, upstream, node_id);
    if files::read_text(&path)?.as_deref() == Some(&text) {
        return Ok(false);
    }
    files::write_atomic(&path, text.as_bytes(), 0o600)?;
    Ok(true)
}

/// Does the standby file name this upstream?
pub fn follows(config: &Config, upstream: &Upstream, node_id: i64) -> Result<bool> {
    let text = files::read_text(&config.pgdata.join(STANDBY_FILE))?;
    Ok(text.is_some_and(|text| text == render(config, Some(upstream), node_id)))
}

/// Makes the next start a standby's.
pub fn signal(pgdata: &Path) -> Result<()> {
    let path = pgdata.join("standby.signal");
    if path.exists() {
        return Ok(());
    }
    files::write_atomic(&path, b"", 0o600)
}

pub fn is_standby(pgdata: &Path) -> bool {
    pgdata.join("standby.signal").exists()
}

/// Takes everything back that made it a standby. Only for a server that is not in recovery: without
/// its signal file, a running standby cannot be promoted.
pub fn forget(pgdata: &Path) -> Result<()> {
    files::remove(&pgdata.join("standby.signal"))?;
    let path = pgdata.join(STANDBY_FILE);
    let text = "# Written by pgquorum: empty while this node is no standby.\n";
    if files::read_text(&path)?.as_deref() == Some(text) {
        return Ok(());
    }
    files::write_atomic(&path, text.as_bytes(), 0o600)
}

/// Is `primary_conninfo` set in `postgresql.auto.conf`? It would win over our file: pg_basebackup -R
/// and ALTER SYSTEM put it there.
pub fn auto_conf_has_upstream(pgdata: &Path) -> Result<bool> {
    let text = files::read_text(&pgdata.join("postgresql.auto.conf"))?.unwrap_or_default();
    Ok(text.lines().any(is_upstream_setting))
}

fn is_upstream_setting(line: &str) -> bool {
    let line = line.trim_start();
    ["primary_conninfo", "primary_slot_name", "recovery_target_timeline"].iter().any(|name| line.starts_with(name))
}

/// What a primary's keeper sets by ALTER SYSTEM, and a standby inherits with a copy of it.
fn is_primarys_setting(line: &str) -> bool {
    let line = line.trim_start();
    ["synchronous_standby_names", "default_transaction_read_only"].iter().any(|name| line.starts_with(name))
}

/// Removes such lines from a *stopped* server's file (a running one is told by ALTER SYSTEM).
pub fn clean_auto_conf(pgdata: &Path) -> Result<()> {
    let path = pgdata.join("postgresql.auto.conf");
    let Some(text) = files::read_text(&path)? else { return Ok(()) };
    let kept: String = text.split_inclusive('\n').filter(|line| !is_upstream_setting(line) && !is_primarys_setting(line)).collect();
    if kept == text {
        return Ok(());
    }
    files::write_atomic(&path, kept.as_bytes(), super::conf::mode_of(&path))
        .map_err(|error: KeeperError| error.while_doing("removing the upstream from postgresql.auto.conf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_standby_and_the_seal() {
        let mut config = crate::config::tests::sample(Path::new("/x"));
        config.replication_password = Some("it's \\ secret".to_string());
        let upstream = Upstream { id: 1, host: "n1".to_string(), port: 5433 };
        let text = render(&config, Some(&upstream), 3);
        assert!(text.contains("application_name=pgautofailover_standby_3"), "{text}");
        assert!(text.contains("primary_slot_name = 'pgautofailover_standby_3'"));
        assert!(text.contains("passfile=''/x/postgresql-auto-failover-standby.pgpass''") && !text.contains("secret"));
        assert!(!conninfo(&config, &upstream, 3, Some("db")).contains("secret"));
        assert!(render(&config, None, 3).contains("primary_conninfo = ''"));
    }

    #[test]
    fn the_password_is_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::config::tests::sample(dir.path());
        config.replication_password = Some("a:b\\c".to_string());
        let upstream = Upstream { id: 1, host: "n1".to_string(), port: 5433 };
        assert!(follow(&config, Some(&upstream), 3).unwrap());
        let path = dir.path().join(PASSWORD_FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "*:*:*:pgautofailover_replicator:a\\:b\\\\c\n");
        // As a base backup of a cluster with group access leaves it.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(!follow(&config, Some(&upstream), 3).unwrap());
        assert_eq!(mode_of(&path), 0o600);
    }

    #[test]
    fn forgetting_and_cleaning() {
        let dir = tempfile::tempdir().unwrap();
        signal(dir.path()).unwrap();
        assert!(is_standby(dir.path()));
        let auto = dir.path().join("postgresql.auto.conf");
        std::fs::write(&auto, "# x\nprimary_conninfo = 'a'\nwork_mem = '1MB'\n").unwrap();
        assert!(auto_conf_has_upstream(dir.path()).unwrap());
        clean_auto_conf(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&auto).unwrap(), "# x\nwork_mem = '1MB'\n");
        forget(dir.path()).unwrap();
        assert!(!is_standby(dir.path()));
    }
}
