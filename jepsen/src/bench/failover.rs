//! One failure of a group under load, measured.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::straggler::{Straggler, Verdict};
use crate::process::signal_all;
use crate::wait::wait_for;
use crate::writer::{Op, Report, Writer};
use crate::{Context, Group, Monitors, Result, bail, sql};

/// What happens to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Switchover,
    PostmasterKilled,
    /// Keeper, guardian and PostgreSQL of the primary.
    NodeKilled,
    /// The same, stopped, and resumed when another node has taken over.
    NodeFrozen,
    LeaderAndNodeKilled,
    LeaderKilled,
    /// No packet to or from the primary's machine arrives; see [`super::black_hole`].
    BlackHoled,
}

impl Case {
    pub const ALL: [Case; 7] = [
        Case::Switchover,
        Case::PostmasterKilled,
        Case::NodeKilled,
        Case::NodeFrozen,
        Case::LeaderAndNodeKilled,
        Case::LeaderKilled,
        Case::BlackHoled,
    ];

    /// As given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Case::Switchover => "switchover",
            Case::PostmasterKilled => "postmaster",
            Case::NodeKilled => "node",
            Case::NodeFrozen => "frozen",
            Case::LeaderAndNodeKilled => "leader+node",
            Case::LeaderKilled => "leader",
            Case::BlackHoled => "black-holed",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Case::Switchover => "switchover",
            Case::PostmasterKilled => "postmaster killed",
            Case::NodeKilled => "primary node killed (keeper, guardian, PostgreSQL)",
            Case::NodeFrozen => "primary node frozen, later resumed",
            Case::LeaderAndNodeKilled => "monitor leader and primary node killed together",
            Case::LeaderKilled => "monitor leader killed alone",
            Case::BlackHoled => "primary's machine black-holed, later reachable again",
        }
    }

    /// Does another node become the primary?
    fn moves(self) -> bool {
        !matches!(self, Case::PostmasterKilled | Case::LeaderKilled)
    }
}

/// What came of one failure.
#[derive(Clone, Debug)]
pub struct Run {
    /// The longest time without an acknowledged row, from the failure to the group's rest.
    pub outage: Duration,
    /// From the failure to the group's rest: all nodes back, streaming.
    pub whole: Duration,
    pub lost: usize,
    pub old_primary: Verdict,
    pub report: Report,
}

/// How long writers have run when the failure comes, and run on after the group has come to rest.
pub(super) const BEFORE: Duration = Duration::from_millis(500);
pub(super) const AFTER: Duration = Duration::from_millis(300);
/// A frozen node is resumed this long after another one has taken over.
const FROZEN: Duration = Duration::from_millis(500);

/// Lets `case` happen to a group at rest and waits until it is at rest again.
pub fn run(group: &mut Group<'_>, case: Case) -> Result<Run> {
    run_amid(group, case, &|| {})
}

/// The same, with `trouble` for the monitors that begins in the same instant and must not wait.
pub fn run_amid(group: &mut Group<'_>, case: Case, trouble: &dyn Fn()) -> Result<Run> {
    let primary = group.settle()?;
    let node = group.nodes.get(primary).context("no primary")?;
    let (port, uri) = (node.port, node.uri());
    let leader = group.monitors.leader()?;
    let writer = group.writer()?;
    let mut straggler = Straggler::start(&uri, writer.table());
    std::thread::sleep(BEFORE);
    let failed = Instant::now();
    trouble();
    let mut frozen = Vec::new();
    match case {
        Case::Switchover => group.switchover()?,
        Case::PostmasterKilled => group.nodes[primary].kill_postmaster()?,
        Case::NodeKilled => group.nodes[primary].kill()?,
        Case::NodeFrozen => frozen = group.nodes[primary].pause()?,
        Case::LeaderAndNodeKilled => {
            group.monitors.kill(leader)?;
            group.nodes[primary].kill()?;
        }
        Case::LeaderKilled => group.monitors.kill(leader)?,
        Case::BlackHoled => bail!("machines on loopback cannot be cut off"),
    }
    let survived = match case.moves() {
        true => writer.wait_moved(port, Duration::from_secs(90)),
        false => wait_rows_after(&writer, failed + Duration::from_millis(1500)),
    };
    if !frozen.is_empty() {
        std::thread::sleep(FROZEN);
        signal_all(&frozen, Signal::SIGCONT)?;
    }
    survived.context(case.title())?;
    group.revive()?;
    let now = group.settle()?;
    let whole = failed.elapsed();
    std::thread::sleep(AFTER);
    straggler.stop()?;
    let ops = writer.ops();
    let table = writer.table().to_owned();
    let target = group.nodes.get(now).context("no primary")?.uri();
    let report = writer.finish(&target)?;
    let rows = sql::query(&target, &format!("SELECT id FROM {table} WHERE id < 0"))?;
    let mut negative = BTreeSet::new();
    for row in rows {
        negative.insert(row.first().cloned().flatten().context("a NULL id")?.parse::<i64>()?);
    }
    let old_primary = straggler.verdict(port, &ops, &|id| negative.contains(&id))?;
    sql::query(&target, &format!("DROP TABLE {table}"))?;
    Ok(Run { outage: outage(&ops, failed), whole, lost: report.lost.len(), old_primary, report })
}

/// Waits until rows that were begun after `from` are acknowledged.
fn wait_rows_after(writer: &Writer, from: Instant) -> Result<()> {
    wait_for("acknowledged rows", Duration::from_secs(90), || {
        let ops = writer.ops();
        let enough = ops.iter().filter(|op| op.started > from && op.outcome == crate::writer::Outcome::Ok).count();
        Ok((enough >= 20).then_some(()))
    })
}

/// The longest gap between acknowledgements that ends after `failed`.
pub(super) fn outage(ops: &[Op], failed: Instant) -> Duration {
    let ended: Vec<Instant> =
        ops.iter().filter(|op| op.outcome == crate::writer::Outcome::Ok).map(|op| op.ended).collect();
    let gaps = ended.iter().zip(ended.iter().skip(1)).filter(|(_, next)| **next > failed);
    gaps.map(|(last, next)| *next - *last).max().unwrap_or_default()
}
