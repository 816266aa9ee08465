//! The fleet against its own rules.

use std::time::Duration;

use muster_core::fleet::{Broken, Cursor, Fleet, Stuck};
use muster_core::time::Millis;

use super::{Finding, TOLD, Verdict, or_ok};
use crate::api::Shared;
use crate::driver::{DriverGone, DriverHandle};
use crate::store::Store;

/// Attempts and tasks of one look: well below a millisecond of the driver's time.
const PART: usize = 1_000;
/// Between two looks, so that a check of a large fleet never holds up the driver.
const BETWEEN: Duration = Duration::from_millis(5);
/// The same when nobody waits for the result, so that the share of the driver's time that checks take does not grow
/// with what there is to check.
pub(super) const UNHURRIED: Duration = Duration::from_millis(100);
/// Violations that are kept; a broken fleet may have one for each task.
const KEPT: usize = 1_000;
/// A task that has not moved for so long has a visible reason, or is stuck.
const PATIENCE: Millis = Millis::from_secs(60);
/// What is stuck is still so after this.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Every invariant that does not hold, up to a thousand, in looks that each cost the driver little.
pub(super) async fn broken(
    driver: &DriverHandle,
    between: Duration,
) -> Result<Vec<Broken>, DriverGone> {
    let mut found = Vec::new();
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        let part = driver.look(move |fleet, _| fleet.check_part(&cursor, PART));
        let (some, after) = part.await?;
        found.extend(some);
        found.truncate(KEPT);
        next = after;
        if next.is_some() {
            tokio::time::sleep(between).await;
        }
    }
    Ok(found)
}

pub(super) async fn invariants<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "invariants";
    let Ok(found) = broken(&shared.driver, BETWEEN).await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    let told = found.iter().map(told).collect();
    or_ok(CHECK, told, "every rule about jobs, tasks and places holds")
}

pub(super) fn told(broken: &Broken) -> Finding {
    let Broken {
        invariant,
        what,
        bends,
    } = broken;
    let (verdict, advice) = if *bends {
        let advice =
            "the agent came back smaller: let what runs there finish, or give it back what it had";
        (Verdict::Warning, advice)
    } else {
        let advice = "this is a bug: keep the coordinator's log, then restart the coordinator";
        (Verdict::Problem, advice)
    };
    Finding::of("invariants", verdict, invariant, what.clone(), advice)
}

/// Twice, because a task may be about to move.
pub(super) async fn stuck<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "stuck";
    let look = || {
        shared
            .driver
            .look(|fleet: &Fleet, now| fleet.stuck(now, PATIENCE, TOLD * 2))
    };
    let Ok(mut first) = look().await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    if !first.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        let again = look().await.unwrap_or_default();
        first.retain(|stuck| again.contains(stuck));
    }
    let told = first.iter().map(|stuck| {
        let (subject, advice) = match stuck {
            Stuck::OfferUnanswered { attempt, .. } => (
                attempt.to_string(),
                "look at that agent's log; restarting the agent touches no container",
            ),
            Stuck::Overdue { attempt, .. } => (
                attempt.to_string(),
                "look at that container and at the agent's log",
            ),
            Stuck::RetryOverdue { task, .. } => (
                task.to_string(),
                "this is a bug: keep the coordinator's log, then restart the coordinator",
            ),
            Stuck::NotAssigned { job } => (
                job.to_string(),
                "see: muster why JOB; a restart of the coordinator places anew",
            ),
        };
        Finding::of(CHECK, Verdict::Problem, subject, stuck.to_string(), advice)
    });
    let told = told.collect();
    or_ok(
        CHECK,
        told,
        "every task moves or has a visible reason not to",
    )
}

pub(super) async fn quarantine<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "quarantine";
    let held = shared.driver.look(|fleet, _| {
        let held = fleet.tasks().filter(|(_, task)| task.is_quarantined());
        let jobs = held.filter_map(|(id, _)| fleet.job(id.job));
        let mut teams = std::collections::BTreeMap::new();
        for live in jobs {
            *teams.entry(live.job.team.clone()).or_insert(0) += 1;
        }
        teams
    });
    let Ok(held) = held.await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    let told = held.into_iter().map(|(team, count)| {
        let what = match count {
            1 => "1 task waits for a person".to_owned(),
            count => format!("{count} tasks wait for a person"),
        };
        let advice = "see: muster -T TEAM quarantine list; then requeue or drop them";
        Finding::of(CHECK, Verdict::Warning, team, what, advice)
    });
    or_ok(CHECK, told.collect(), "no task waits for a person")
}

/// Why the whole fleet does less than it could, on purpose.
pub(super) async fn hold_backs<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "held_back";
    let why = shared.driver.look(|fleet, _| {
        let safe = fleet.safe_mode().map(ToString::to_string);
        (safe, fleet.suspicion().is_some())
    });
    let Ok((safe, suspects)) = why.await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    let safe = safe.map(|what| {
        let advice = "nothing is started or stopped until then: muster coordinator adopt --dry-run";
        Finding::of(CHECK, Verdict::Problem, "safe_mode", what, advice)
    });
    let suspicion = suspects.then(|| {
        let what = "most agents vanished together: the coordinator may be the one that is cut off, and gives nothing up";
        let advice = "look at the network of this host; muster agent confirm-lost says that an agent is gone";
        Finding::of(CHECK, Verdict::Problem, "suspicion", what, advice)
    });
    let told = safe.into_iter().chain(suspicion).collect();
    or_ok(CHECK, told, "nothing is held back")
}
