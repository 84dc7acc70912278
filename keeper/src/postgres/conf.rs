//! Our settings: one file, included by the first line of `postgresql.conf`, so that whatever the
//! user wrote below wins. Nothing that the user wrote is changed.

use std::path::Path;

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;

/// Upstream's names: a node can change between the two keepers.
pub const SETTINGS_FILE: &str = "postgresql-auto-failover.conf";
pub const STANDBY_FILE: &str = "postgresql-auto-failover-standby.conf";
/// The replication password for libpq. PostgreSQL logs every changed setting, a password in
/// `primary_conninfo` with it.
pub const PASSWORD_FILE: &str = "postgresql-auto-failover-standby.pgpass";

/// name, value. Sources: upstream's file for what upstream sets; the rest as commented.
fn settings(config: &Config, major: u32) -> Vec<(&'static str, String)> {
    let mut list: Vec<(&'static str, String)> = Vec::new();
    let mut set = |name, value: &str| list.push((name, value.to_string()));
    set("listen_addresses", &config.listen_addresses);
    set("port", &config.port.to_string());
    if config.host.starts_with('/') {
        set("unix_socket_directories", &config.host);
    }
    set("max_wal_senders", "12");
    set("max_replication_slots", "12");
    set("wal_level", "replica");
    // Without it, or checksums, pg_rewind refuses to work.
    set("wal_log_hints", "on");
    set("wal_keep_size", "512MB");
    set("hot_standby", "on");
    set("hot_standby_feedback", "on");
    set("synchronous_commit", "on");
    set("full_page_writes", "on");
    // A dead peer is dropped within seconds, by both sides. TCP_USER_TIMEOUT finds cut links
    // sooner; these find peers that hang while their kernel still answers. Measured: 2 s drops a
    // standby that merely stalls on a busy disk, 5 s does not.
    set("wal_sender_timeout", "5s");
    set("wal_receiver_timeout", "5s");
    set("wal_receiver_status_interval", "1s");
    // PostgreSQL's default of 5 s is how long commits hang after the primary's postmaster died and
    // came back: the standbys do not try sooner.
    set("wal_retrieve_retry_interval", "200ms");
    set("tcp_keepalives_idle", "5");
    set("tcp_keepalives_interval", "2");
    set("tcp_keepalives_count", "3");
    set("tcp_user_timeout", "10s");
    // Postmaster death must not wait for a client that never answers.
    set("restart_after_crash", "on");
    set("logging_collector", "on");
    set("log_destination", "stderr");
    set("log_line_prefix", "%m [%p] %q%u@%d,app=%a ");
    set("password_encryption", if config.auth_method == "md5" { "md5" } else { "scram-sha-256" });
    if config.ssl.active {
        set("ssl", "on");
        for (name, file) in [
            ("ssl_cert_file", &config.ssl.cert_file),
            ("ssl_key_file", &config.ssl.key_file),
            ("ssl_ca_file", &config.ssl.ca_file),
            ("ssl_crl_file", &config.ssl.crl_file),
        ] {
            if let Some(file) = file {
                set(name, &file.display().to_string());
            }
        }
    } else {
        set("ssl", "off");
    }
    if major >= 14 && kernel_reports_sync_errors() {
        // After a crash PostgreSQL syncs every file of the data directory one by one: 3 s for an almost
        // empty cluster on a busy disk (measured), during which nobody is served. One call does it.
        set("recovery_init_sync_method", "syncfs");
    }
    if major >= 14 {
        // A client that went away must not keep a backend in the wait for standbys unnoticed.
        set("client_connection_check_interval", "2s");
    }
    list
}

/// syncfs(2) tells of write errors since Linux 5.8; before, a failed write could go unnoticed.
fn kernel_reports_sync_errors() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(['.', '-']).map(|part| part.trim().parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (5, 8)
}

/// A value in postgresql.conf's quotes.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The text of our settings file.
fn render(config: &Config, major: u32) -> String {
    let mut text = String::from(
        "# Written by pgquorum and overwritten by it. To change a setting, write it into\n\
         # postgresql.conf below the include line: the last word wins.\n",
    );
    for (name, value) in settings(config, major) {
        text.push_str(&format!("{name} = {}\n", quoted(&value)));
    }
    text
}

/// Writes our file and sees to the include lines. `true` when anything changed.
pub fn install(config: &Config, major: u32) -> Result<bool> {
    let pgdata = &config.pgdata;
    let path = pgdata.join(SETTINGS_FILE);
    let text = render(config, major);
    let mut changed = false;
    if files::read_text(&path)?.as_deref() != Some(&text) {
        files::write_atomic(&path, text.as_bytes(), 0o600)?;
        changed = true;
    }
    let standby = pgdata.join(STANDBY_FILE);
    if !standby.exists() {
        files::write_atomic(&standby, b"# Written by pgquorum: empty while this node is no standby.\n", 0o600)?;
        changed = true;
    }
    Ok(include(pgdata)? || changed)
}

/// Puts the include lines first, unless they are anywhere already.
fn include(pgdata: &Path) -> Result<bool> {
    let path = pgdata.join("postgresql.conf");
    let text = files::read_text(&path)?.ok_or_else(|| {
        KeeperError::config(format!(
            "{} does not exist. Clusters whose configuration lies outside the data directory (as Debian's \
             pg_createcluster makes them) are not supported: move the files into the data directory",
            path.display()
        ))
    })?;
    let missing: Vec<String> = [SETTINGS_FILE, STANDBY_FILE]
        .iter()
        .filter(|file| !text.lines().any(|line| is_include_of(line, file)))
        .map(|file| format!("include '{file}' # Auto-generated by pg_auto_failover, do not remove\n"))
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let mode = mode_of(&path);
    files::write_atomic(&path, format!("{}{text}", missing.concat()).as_bytes(), mode)?;
    Ok(true)
}

fn is_include_of(line: &str, file: &str) -> bool {
    let line = line.trim_start();
    line.strip_prefix("include")
        .and_then(|rest| rest.trim_start().trim_start_matches('=').trim_start().strip_prefix('\''))
        .is_some_and(|rest| rest.starts_with(file) && rest[file.len()..].starts_with('\''))
}

/// The permissions of a file, so that rewriting it does not change them.
pub fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_wrote_stays_and_twice_is_once() {
        let dir = tempfile::tempdir().unwrap();
        let user = "# mine\nmax_connections = 42\n#include 'postgresql-auto-failover.conf'\n";
        std::fs::write(dir.path().join("postgresql.conf"), user).unwrap();
        let config = crate::config::tests::sample(dir.path());
        assert!(install(&config, 15).unwrap());
        let text = std::fs::read_to_string(dir.path().join("postgresql.conf")).unwrap();
        assert!(text.starts_with("include 'postgresql-auto-failover.conf'") && text.ends_with(user), "{text}");
        assert!(!install(&config, 15).unwrap());
        assert_eq!(text, std::fs::read_to_string(dir.path().join("postgresql.conf")).unwrap());
    }

    #[test]
    fn lines_of_stock_pg_autoctl_are_recognised() {
        assert!(is_include_of("include 'postgresql-auto-failover.conf' # x", SETTINGS_FILE));
        assert!(is_include_of(" include='postgresql-auto-failover.conf'", SETTINGS_FILE));
        assert!(!is_include_of("# include 'postgresql-auto-failover.conf'", SETTINGS_FILE));
        assert!(!is_include_of("include 'postgresql-auto-failover-standby.conf'", SETTINGS_FILE));
    }

    #[test]
    fn quoting() {
        assert_eq!(quoted("a'b\\c"), "'a''b\\\\c'");
    }
}
