//! Figures that are counted, not kept: how many tasks and agents are where.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::agent::{Link, Schedulable};
use muster_core::fleet::Fleet;
use tokio_util::sync::CancellationToken;

use crate::driver::DriverHandle;
use crate::metrics::Metrics;

/// Between two counts. The count walks over live jobs, not tasks.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counted {
    pending: u64,
    preparing: u64,
    running: u64,
    safe_mode: bool,
    agents: BTreeMap<(&'static str, &'static str), u64>,
    suspects_itself: bool,
}

/// Counts until `stop`, or until the driver has stopped.
pub(crate) async fn keep(driver: DriverHandle, metrics: Metrics, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let Ok(counted) = driver.look(|fleet, _| count(fleet)).await else {
            return;
        };
        metrics.set_tasks("pending", counted.pending);
        metrics.set_tasks("preparing", counted.preparing);
        metrics.set_tasks("running", counted.running);
        metrics.set_safe_mode(counted.safe_mode);
        let agents: Vec<_> = counted
            .agents
            .into_iter()
            .map(|((link, schedulable), count)| (link, schedulable, count))
            .collect();
        metrics.set_agents(&agents);
        metrics.set_suspects_itself(counted.suspects_itself);
    }
}

fn count(fleet: &Fleet) -> Counted {
    let mut counted = Counted {
        safe_mode: fleet.safe_mode().is_some(),
        suspects_itself: fleet.suspicion().is_some(),
        ..Counted::default()
    };
    for live in fleet.jobs() {
        let counts = &live.progress.counts;
        counted.pending += u64::from(counts.pending);
        counted.preparing += u64::from(counts.preparing);
        counted.running += u64::from(counts.running);
    }
    for agent in fleet.agents() {
        let link = match agent.link {
            Link::Online { .. } => "online",
            Link::Unreachable { .. } => "unreachable",
            Link::Lost { .. } => "lost",
        };
        let schedulable = match agent.schedulable {
            Schedulable::Yes => "yes",
            Schedulable::Cordoned { .. } => "cordoned",
            Schedulable::Draining { .. } => "draining",
        };
        *counted.agents.entry((link, schedulable)).or_default() += 1;
    }
    counted
}
