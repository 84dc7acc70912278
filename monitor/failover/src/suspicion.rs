//! When a node of our keepers is taken for dead: evidence from several sides, each with its own delay.
//!
//! A wrong suspicion costs a switchover that nobody needed. It never costs data: durability rests on
//! the seals alone.

use alloc::string::String;

use crate::extended::{PostgresEnd, UpstreamView};
use crate::observation::Stamp;
use crate::values::Health;
use crate::view::{Member, View};

/// Reports and verdicts that are this young count as fresh (microseconds).
const FRESH_US: i64 = 2_000_000;
/// For so long a node that was taken for dead wrongly gets more patience (microseconds).
const REMEMBERED_US: i64 = 600_000_000;
/// The most that patience grows.
const PATIENCE_LIMIT: u32 = 4;

/// Seconds with one decimal.
fn seconds(us: i64) -> String {
    let tenths = us.max(0) / 100_000;
    alloc::format!("{}.{} s", tenths / 10, tenths % 10)
}

impl View<'_> {
    /// How many times the usual time of silence a node gets: a node that was misjudged lately gets
    /// twice, then three and four times as much.
    fn patience(&self, member: &Member) -> i64 {
        let misjudged = member.seen.misjudged.filter(|(when, _)| self.since_us(Some(*when)) < REMEMBERED_US);
        i64::from(misjudged.map_or(1, |(_, times)| times.saturating_add(1)).min(PATIENCE_LIMIT))
    }

    fn later(&self, stamp: Option<Stamp>, than: Option<Stamp>) -> bool {
        stamp.is_some_and(|stamp| than.is_none_or(|than| stamp.mono_us > than.mono_us))
    }

    /// The evidence that a node of our keepers is dead, in words; `None`: it is not taken for dead.
    /// Only what this leader has witnessed counts; silence is measured from its election at most.
    pub fn evidence(&self, member: &Member) -> Option<String> {
        let (row, seen) = (&member.row, &member.seen);
        if !row.pg_is_running {
            let word = match row.postgres_end {
                PostgresEnd::None => None,
                PostgresEnd::Clean => Some("its keeper says that PostgreSQL was shut down"),
                PostgresEnd::Crashed => Some("its keeper says that PostgreSQL crashed and does not start"),
            };
            if let Some(word) = word {
                return Some(String::from(word));
            }
            let down_us = seen.down.map_or(0, |down| self.since_us(Some(down)));
            if down_us > self.settings.restart_patience_ms.saturating_mul(1000) {
                return Some(alloc::format!("its PostgreSQL has been down for {}", seconds(down_us)));
            }
        }
        let silent_us = self.since_us(seen.report);
        let refused = self.later(seen.refused, seen.report) && self.since_us(seen.refused) < FRESH_US;
        let gone = self.later(seen.session_lost, seen.report) && self.since_us(seen.session_lost) < FRESH_US;
        if gone && refused {
            return Some(String::from(
                "its keeper's connection ended and nobody listens on its PostgreSQL's port",
            ));
        }
        let failed_probe = row.health == Health::Bad && self.later(seen.health_check, seen.report);
        if !failed_probe && !refused {
            return None;
        }
        let probe = if refused { "its PostgreSQL's port is closed" } else { "its PostgreSQL does not answer" };
        let patience = self.patience(member);
        let suspicious_us = self.settings.suspicion_timeout_ms.saturating_mul(1000).saturating_mul(patience);
        if silent_us > suspicious_us && self.standbys_lost(member) {
            return Some(alloc::format!(
                "no report for {}, {probe}, and its standbys have lost it",
                seconds(silent_us)
            ));
        }
        let silence_us = self.settings.missed_reports_timeout_ms.saturating_mul(1000).saturating_mul(patience);
        (silent_us > silence_us).then(|| alloc::format!("no report for {}, and {probe}", seconds(silent_us)))
    }

    /// Whether there are standbys that report, and none of them hears from the node.
    fn standbys_lost(&self, member: &Member) -> bool {
        let mut views = self
            .others(member.row.id)
            .filter(|other| self.since_us(other.seen.report) < FRESH_US && other.seen.report.is_some())
            .map(|other| other.seen.upstream)
            .filter(|view| *view != UpstreamView::Unknown)
            .peekable();
        views.peek().is_some() && views.all(|view| matches!(view, UpstreamView::Gone | UpstreamView::Silent))
    }

    /// A node reports: was it taken for dead until now?
    pub fn note_misjudgement(&self, member: &Member, now: Stamp) -> Option<(Stamp, u32)> {
        let silent = member.row.pg_is_running && self.evidence(member).is_some();
        if !silent {
            return member.seen.misjudged;
        }
        let before = member.seen.misjudged.filter(|(when, _)| self.since_us(Some(*when)) < REMEMBERED_US);
        Some((now, before.map_or(1, |(_, times)| times.saturating_add(1)).min(PATIENCE_LIMIT)))
    }
}
