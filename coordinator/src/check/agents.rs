//! Agents: what they said of themselves, and whether they say anything.

use muster_core::agent::{Agent, Link, Schedulable};
use muster_core::time::{Millis, Timestamp};

use super::{Finding, Verdict, or_ok};
use crate::api::Shared;
use crate::metrics::{AGENT_ORPHANS, AGENT_WEDGED, Sample};
use crate::session::Told;
use crate::store::Store;

/// Clocks that differ by more make times in logs and reports misleading, and certificates invalid.
const SKEW: Millis = Millis::from_secs(300);
const OURS: &str = env!("CARGO_PKG_VERSION");

/// An agent, and what its last heartbeat said.
pub(super) struct Seen {
    pub(super) agent: Agent,
    pub(super) told: Option<Told>,
    pub(super) samples: Vec<Sample>,
}

/// One check of one agent.
type Look = fn(&Seen, Timestamp) -> Option<Finding>;

pub(super) async fn all<S: Store>(shared: &Shared<S>, now: Timestamp) -> Vec<Finding> {
    let agents = shared
        .driver
        .look(|fleet, _| fleet.agents().cloned().collect::<Vec<_>>());
    let Ok(agents) = agents.await else {
        return vec![Finding::unknown(
            "agent_link",
            "the coordinator is stopping",
        )];
    };
    let seen: Vec<Seen> = agents
        .into_iter()
        .map(|agent| Seen {
            told: shared.loads.told(&agent.id),
            samples: shared.metrics.samples_of(&agent.id),
            agent,
        })
        .collect();
    judge(&seen, now)
}

/// Every check about agents; one that all of them pass is one finding.
pub(super) fn judge(seen: &[Seen], now: Timestamp) -> Vec<Finding> {
    if seen.is_empty() {
        let advice = "start one: muster agent --coordinator ADDR";
        let what = "no agent has ever called: nothing can run";
        return vec![Finding::of(
            "agent_link",
            Verdict::Warning,
            "",
            what,
            advice,
        )];
    }
    let count = seen.len();
    let checks: [(&'static str, &str, Look); 8] = [
        ("agent_link", "online", link),
        ("agent_service", "take work", service),
        ("agent_disk", "have room", disk),
        ("agent_engine", "have an engine that answers", engine),
        ("agent_wedged", "have no wedged container", wedged),
        (
            "agent_orphans",
            "have no container without a journal",
            orphans,
        ),
        ("agent_clock", "have our time", clock),
        ("agent_version", "have our version", version),
    ];
    let run = checks.into_iter().flat_map(|(check, well, look)| {
        let found = seen.iter().filter_map(|seen| look(seen, now)).collect();
        or_ok(check, found, format!("{count} {well}"))
    });
    run.collect()
}

fn link(seen: &Seen, now: Timestamp) -> Option<Finding> {
    let (verdict, what, advice) = match seen.agent.link {
        Link::Online { .. } => return None,
        Link::Unreachable { since, lost_at } => {
            let (silent, left) = (now.since(since), lost_at.since(now));
            let what = format!("out of sight for {silent}; its attempts are given up in {left}");
            let advice = "look at that host, its network and the agent's log";
            (Verdict::Problem, what, advice)
        }
        Link::Lost { since } => {
            let what = format!("was given up {} ago", now.since(since));
            let advice = "bring the host back, or forget about it if it is gone for good";
            (Verdict::Warning, what, advice)
        }
    };
    Some(Finding::of(
        "agent_link",
        verdict,
        &seen.agent.id,
        what,
        advice,
    ))
}

fn service(seen: &Seen, now: Timestamp) -> Option<Finding> {
    let what = match &seen.agent.schedulable {
        Schedulable::Yes => return None,
        Schedulable::Cordoned { reason, until } => {
            let left = until.map(|at| format!(", tried again in {}", at.since(now)));
            format!("cordoned{}: {reason}", left.unwrap_or_default())
        }
        Schedulable::Draining { reason, deadline } => {
            let left = deadline.map(|at| format!(", until in {}", at.since(now)));
            format!("draining{}: {reason}", left.unwrap_or_default())
        }
    };
    let advice = "when it is well again: muster agent uncordon NAME";
    Some(Finding::of(
        "agent_service",
        Verdict::Warning,
        &seen.agent.id,
        what,
        advice,
    ))
}

fn disk(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let load = seen.told.as_ref()?.load?;
    load.disk_full.then(|| {
        let what = format!(
            "takes no tasks: {} MiB of disk are free",
            load.disk_free_bytes >> 20
        );
        let advice = "free some on that host: its own and Docker's directory; it goes on by itself";
        Finding::of("agent_disk", Verdict::Problem, &seen.agent.id, what, advice)
    })
}

fn engine(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let load = seen.told.as_ref()?.load?;
    load.docker_degraded.then(|| {
        let what = "takes no tasks: its container engine is slow or silent";
        let advice = "look at Docker on that host; the agent goes on by itself";
        Finding::of(
            "agent_engine",
            Verdict::Problem,
            &seen.agent.id,
            what,
            advice,
        )
    })
}

fn wedged(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let count = figure(seen, AGENT_WEDGED)?;
    let what = format!("{count} containers do not die or can't be inspected");
    let advice = "look at those containers' processes and shims: see the agent's log";
    Some(Finding::of(
        "agent_wedged",
        Verdict::Problem,
        &seen.agent.id,
        what,
        advice,
    ))
}

fn orphans(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let count = figure(seen, AGENT_ORPHANS)?;
    let what = format!("{count} containers of ours run and are in no journal");
    let advice = "restart the agent: those that hold a task are taken up again, and the others are stopped, what nobody \
                  knows after 10 minutes";
    Some(Finding::of(
        "agent_orphans",
        Verdict::Warning,
        &seen.agent.id,
        what,
        advice,
    ))
}

/// The value of a gauge, if it is not zero.
fn figure(seen: &Seen, name: &str) -> Option<f64> {
    let sample = seen.samples.iter().find(|sample| sample.name == name)?;
    (sample.value > 0.0).then_some(sample.value)
}

fn clock(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let (ahead, direction) = match seen.told.as_ref()?.clock? {
        crate::session::Skew::Ahead(by) => (by, "ahead of"),
        crate::session::Skew::Behind(by) => (by, "behind"),
    };
    (ahead > SKEW).then(|| {
        let what = format!("its clock is {ahead} {direction} the coordinator's");
        let advice = "set both hosts' clocks: NTP, chrony or systemd-timesyncd";
        Finding::of(
            "agent_clock",
            Verdict::Warning,
            &seen.agent.id,
            what,
            advice,
        )
    })
}

fn version(seen: &Seen, _: Timestamp) -> Option<Finding> {
    let theirs = &seen.agent.profile.version;
    (theirs != OURS).then(|| {
        let what = format!("runs {theirs}, the coordinator {OURS}");
        let advice = "one version apart is fine for the time of an upgrade; then bring both to one";
        Finding::of(
            "agent_version",
            Verdict::Warning,
            &seen.agent.id,
            what,
            advice,
        )
    })
}
