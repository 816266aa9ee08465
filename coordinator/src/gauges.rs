//! Figures that are looked up now and then: how many tasks and agents are where.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::agent::{Link, Schedulable};
use muster_core::fleet::{Fleet, Tally};
use muster_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::driver::DriverHandle;
use crate::metrics::{Metrics, RolloutLabels};

/// Between two counts. The count walks over agents, not jobs.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counted {
    tasks: Tally,
    safe_mode: bool,
    agents: BTreeMap<(&'static str, &'static str), u64>,
    suspects_itself: bool,
    retries_paced: Vec<(String, usize)>,
    rollouts: Vec<(RolloutLabels, u64)>,
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
        let Ok(counted) = driver.look(count).await else {
            return;
        };
        let Tally {
            pending,
            preparing,
            running,
        } = counted.tasks;
        metrics.set_tasks("pending", pending);
        metrics.set_tasks("preparing", preparing);
        metrics.set_tasks("running", running);
        metrics.set_safe_mode(counted.safe_mode);
        let agents: Vec<_> = counted
            .agents
            .into_iter()
            .map(|((link, schedulable), count)| (link, schedulable, count))
            .collect();
        metrics.set_agents(&agents);
        metrics.set_suspects_itself(counted.suspects_itself);
        for (team, count) in counted.retries_paced {
            metrics.set_retries_paced(team, count);
        }
        metrics.set_rollouts(counted.rollouts);
    }
}

fn count(fleet: &Fleet, now: Timestamp) -> Counted {
    let mut counted = Counted {
        tasks: fleet.tally(),
        safe_mode: fleet.safe_mode().is_some(),
        suspects_itself: fleet.suspicion().is_some(),
        retries_paced: fleet
            .paced()
            .map(|(team, count)| (team.to_string(), count))
            .collect(),
        rollouts: fleet
            .rollouts()
            .map(|rollout| {
                let labels = RolloutLabels {
                    team: rollout.channel.team.to_string(),
                    channel: rollout.channel.name.to_string(),
                    phase: rollout.phase().as_str(),
                };
                (labels, now.since(rollout.began).0 / 1000)
            })
            .collect(),
        ..Counted::default()
    };
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
