//! Questions to another node's PostgreSQL. psql asks them: libpq knows every way to authenticate and
//! every TLS setting that the standby itself will use, so that what works here works there.

use std::time::Duration;

use failover::Lsn;

use super::control::Installation;
use super::standby::{Upstream, conninfo};
use crate::config::Config;
use crate::error::{KeeperError, Result};

/// One question, connecting included.
const PATIENCE: Duration = Duration::from_secs(6);
/// Connecting alone, in seconds: libpq then says which of the two it was.
const CONNECT: u32 = 4;

/// What a replication connection tells of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub system_identifier: u64,
    pub timeline: u32,
    pub lsn: Lsn,
}

/// One line of a timeline history: `timeline` ended at `switch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    pub timeline: u32,
    pub switch: Lsn,
}

async fn ask(config: &Config, upstream: &Upstream, node_id: i64, replication: bool, command: &str) -> Result<String> {
    let install = Installation::of(&config.pg_ctl)?;
    let dbname = if replication { None } else { Some(config.dbname.as_str()) };
    let mut info = conninfo(config, upstream, node_id, dbname);
    info.push_str(&format!(" connect_timeout={CONNECT}"));
    if replication {
        info.push_str(" replication=true");
    }
    let said = install
        .program("psql")
        .args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-F", "|", "-d", &info, "-c", command])
        .password(config.replication_password.as_deref())
        .run(PATIENCE)
        .await
        .map_err(|error| error.while_doing(format!("node {} ({}:{})", upstream.id, upstream.host, upstream.port)))?;
    Ok(said.stdout)
}

/// IDENTIFY_SYSTEM over a replication connection: it also proves that streaming will be let in.
pub async fn identify(config: &Config, upstream: &Upstream, node_id: i64) -> Result<Identity> {
    let said = ask(config, upstream, node_id, true, "IDENTIFY_SYSTEM").await?;
    parse_identity(&said)
        .ok_or_else(|| KeeperError::postgres(format!("IDENTIFY_SYSTEM answered \"{}\"", said.trim())))
}

fn parse_identity(said: &str) -> Option<Identity> {
    let mut fields = said.trim().split('|');
    Some(Identity {
        system_identifier: fields.next()?.parse().ok()?,
        timeline: fields.next()?.parse().ok()?,
        lsn: fields.next()?.parse().ok()?,
    })
}

/// The history of a timeline; timeline 1 has none.
pub async fn history(config: &Config, upstream: &Upstream, node_id: i64, timeline: u32) -> Result<Vec<HistoryLine>> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let said = ask(config, upstream, node_id, true, &format!("TIMELINE_HISTORY {timeline}")).await?;
    // "00000002.history|<content of the file>"
    let content = said.split_once('|').map_or("", |(_, content)| content);
    Ok(parse_history(content))
}

/// Lines are `parent TLI <tab> switch point <tab> reason`; others are comments.
pub fn parse_history(content: &str) -> Vec<HistoryLine> {
    content
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let timeline = fields.next()?.trim().parse().ok()?;
            let switch = fields.next()?.trim().parse().ok()?;
            Some(HistoryLine { timeline, switch })
        })
        .collect()
}

/// Does the slot exist on the upstream?
pub async fn has_slot(config: &Config, upstream: &Upstream, node_id: i64, slot: &str) -> Result<bool> {
    let query = format!("select count(*) from pg_replication_slots where slot_name = {}", super::sql::literal(slot));
    Ok(ask(config, upstream, node_id, false, &query).await?.trim() == "1")
}

/// The timeline in the upstream's control file, which follows a promotion with the next checkpoint.
pub async fn checkpoint_timeline(config: &Config, upstream: &Upstream, node_id: i64) -> Result<u32> {
    let said = ask(config, upstream, node_id, false, "select timeline_id from pg_control_checkpoint()").await?;
    said.trim().parse().map_err(|_| KeeperError::postgres(format!("odd timeline \"{}\"", said.trim())))
}

/// Bytes of a WAL file as hexadecimal text; empty when the upstream has no such file. The function is one
/// of those that pg_rewind needs and that are granted for it.
pub async fn read_wal(
    config: &Config,
    upstream: &Upstream,
    node_id: i64,
    file: &str,
    offset: u64,
    length: u64,
) -> Result<String> {
    let query = format!(
        "select encode(pg_catalog.pg_read_binary_file('pg_wal/{file}', {offset}, {length}, true), 'hex')"
    );
    Ok(ask(config, upstream, node_id, false, &query).await?.trim().to_string())
}

/// Can a server at `timeline` and `lsn` become a standby of a server at `upstream` whose timeline has
/// this history, simply by streaming?
pub fn can_follow(timeline: u32, lsn: Lsn, upstream: &Identity, history: &[HistoryLine]) -> bool {
    if timeline == upstream.timeline {
        return lsn <= upstream.lsn;
    }
    history.iter().any(|line| line.timeline == timeline && lsn <= line.switch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let id = parse_identity("7710436105327879054|3|16/B374D848|\n").unwrap();
        assert_eq!((id.timeline, id.lsn), (3, Lsn(0x16_B374_D848)));
        assert_eq!(parse_identity("nothing"), None);
        let history = parse_history("1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tx\n");
        assert_eq!(history.len(), 2);
        assert_eq!(history[1], HistoryLine { timeline: 2, switch: Lsn(0x500_0000) });
    }

    #[test]
    fn who_can_follow() {
        let upstream = Identity { system_identifier: 1, timeline: 3, lsn: Lsn(900) };
        let history =
            [HistoryLine { timeline: 1, switch: Lsn(300) }, HistoryLine { timeline: 2, switch: Lsn(500) }];
        for (timeline, lsn, expected) in [
            (3, 900, true),
            (3, 901, false), // ahead of it
            (2, 500, true),
            (2, 501, false), // wrote past the fork
            (1, 300, true),
            (1, 400, false),
            (4, 100, false), // a timeline that the upstream never was on
        ] {
            assert_eq!(can_follow(timeline, Lsn(lsn), &upstream, &history), expected, "{timeline} {lsn}");
        }
    }
}
