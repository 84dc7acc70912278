//! Before a switchover: transactions that are open on the primary get time to end.
//!
//! Nothing is changed meanwhile, so that the primary serves on and the command may be given
//! up at any moment.

use std::io::IsTerminal;
use std::time::Duration;

use monitor_client::PrimaryTransactions;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::args::change::Sessions;
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::progress::Line;
use crate::wait::TELL_EVERY;

/// Half of what lies between two reports of a keeper.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A monitor that has just become the leader hears of the primary within this time.
const NEW_LEADER: Duration = Duration::from_secs(3);

/// Returns when every transaction that was open at the call has ended, or may be cut.
pub async fn drain(operator: &Operator, group: i32, sessions: &Sessions, what: &str) -> Result<(), CliError> {
    if sessions.drain == 0 {
        return Ok(());
    }
    let (began, limit) = (Instant::now(), Duration::from_secs(sessions.drain));
    operator.client.set_deadline(Some(began + limit + operator.client.patience()));
    let line = Line::seconds("letting transactions end", sessions.drain);
    let mut told = began;
    loop {
        // The ages in the answer are of a moment that lies after this one.
        let elapsed = began.elapsed();
        let answer = operator.client.open_transactions(&operator.formation, group).await?;
        let Some(open) = answer else {
            if elapsed < NEW_LEADER.min(limit) {
                sleep(LOOK_EVERY).await;
                continue;
            }
            return Err(CliError::new(
                Status::BadState,
                format!("nobody tells which transactions are open on the primary of group {group}"),
            )
            .hint(format!(
                "there is no primary, or its keeper is not pgquorum's; without --drain a {what} does not ask, and cuts sessions"
            )));
        };
        if ended(&open, elapsed) {
            info!("no transaction that was open on \"{}\" when the {what} was asked for is open any more", open.node);
            return Ok(());
        }
        let left = describe(&open);
        if elapsed >= limit {
            return match sessions.force {
                true => {
                    warn!("after {} s {left}: they are cut", sessions.drain);
                    Ok(())
                }
                false => Err(CliError::new(Status::Monitor, format!("after {} s {left}; nothing was changed", sessions.drain))
                    .hint("in pg_stat_activity there, xact_start says which; --force cuts them")),
            };
        }
        line.at(elapsed.as_secs());
        line.text(&left);
        if told.elapsed() >= TELL_EVERY && !std::io::stderr().is_terminal() {
            told = Instant::now();
            info!("{left}: waiting up to {} s for them", sessions.drain);
        }
        sleep(LOOK_EVERY.min(limit.saturating_sub(elapsed))).await;
    }
}

/// Whether a report says that all transactions began after a moment that lies `elapsed` back.
fn ended(open: &PrimaryTransactions, elapsed: Duration) -> bool {
    let told_since = open.reported_ago < elapsed;
    told_since && (open.count == 0 || open.oldest + open.reported_ago < elapsed)
}

fn describe(open: &PrimaryTransactions) -> String {
    let age = (open.oldest + open.reported_ago).as_secs();
    match open.count {
        0 => format!("\"{}\" has not reported yet", open.node),
        1 => format!("1 transaction is open on \"{}\", since {age} s", open.node),
        count => format!("{count} transactions are open on \"{}\", the oldest since {age} s", open.node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(count: u32, oldest_ms: u64, reported_ms_ago: u64) -> PrimaryTransactions {
        PrimaryTransactions {
            node: "node1".to_string(),
            count,
            oldest: Duration::from_millis(oldest_ms),
            reported_ago: Duration::from_millis(reported_ms_ago),
        }
    }

    const SINCE: Duration = Duration::from_secs(3);

    #[test]
    fn a_report_from_before_proves_nothing() {
        assert!(!ended(&open(0, 0, 3_000), SINCE));
        assert!(ended(&open(0, 0, 2_900), SINCE));
    }

    #[test]
    fn a_transaction_that_began_since_then_is_not_waited_for() {
        assert!(ended(&open(4, 2_400, 500), SINCE));
        assert!(!ended(&open(4, 2_500, 500), SINCE));
        assert!(!ended(&open(1, 60_000, 100), SINCE));
    }
}
