//! What is told to people and metrics after a commit. Nothing depends on its arrival.

use std::sync::Arc;
use std::time::Duration;

use muster_core::channel::ChannelId;
use muster_core::effect::Notice;
use muster_core::fleet::Fleet;
use muster_core::ids::{AgentId, AttemptId};
use muster_core::job::Job;
use muster_core::outcome::{End, Usage};
use muster_core::rollout::{Moment, Rollout};

use super::Clock;
use crate::metrics::Metrics;
use crate::metrics::pushgateway::{FinishedAttempt, PushGateway};

/// Where notices go.
#[derive(Debug, Clone)]
pub struct Observers {
    pub metrics: Metrics,
    /// `None`: no push gateway is configured.
    pub push_gateway: Option<PushGateway>,
}

impl Observers {
    pub(super) fn committed(&self, took: Duration, records: usize) {
        self.metrics.committed(took, records);
    }

    pub(super) fn notice(&self, fleet: &Fleet, notice: Notice) {
        match notice {
            Notice::JobChanged { .. } => {}
            Notice::AttemptMade { attempt, waited } => {
                self.metrics.assigned(waited);
                tracing::debug!(
                    job.id = %attempt.task.job, task.index = attempt.task.index,
                    attempt.number = attempt.number.0, "attempt assigned"
                );
            }
            Notice::AttemptEnded {
                attempt,
                job,
                end,
                usage,
                metrics,
            } => self.attempt_ended(attempt, &job, &end, usage, metrics),
            Notice::TaskRetried { task, after } => {
                tracing::info!(
                    job.id = %task.job, task.index = task.index, attempt.number = after.0,
                    "task is tried again"
                );
            }
            Notice::TaskQuarantined { task } => {
                tracing::warn!(
                    job.id = %task.job, task.index = task.index,
                    "task quarantined: too many of its attempts died; a person decides"
                );
            }
            Notice::NothingStarts {
                agent,
                failures,
                cordoned,
            } => self.nothing_starts(&agent, failures, cordoned),
            Notice::SafeModeEntered(why) => {
                tracing::error!(%why, "safe mode: nothing is started or stopped");
            }
            Notice::SafeModeLeft => tracing::warn!("safe mode ended: the store was adopted"),
            Notice::AttemptTakenOver { attempt, agent } => {
                tracing::warn!(
                    job.id = %attempt.task.job, task.index = attempt.task.index,
                    attempt.number = attempt.number.0, agent.id = %agent,
                    "attempt unknown to the restored store taken over"
                );
            }
            Notice::JobEnded { job } => tracing::info!(job.id = %job, "job ended"),
            Notice::AgentChanged { agent } => agent_changed(fleet, &agent),
            Notice::SuspicionBegan { missing, known } => alarm(missing, known),
            Notice::SuspicionEnded => tracing::warn!("the coordinator trusts its link again"),
            Notice::RolloutMoved {
                channel,
                release,
                moment,
                ended,
            } => self.rollout_moved(&channel, release, &moment, ended.as_deref()),
            Notice::Released { channel, release } => {
                self.metrics.released(release.cause);
                tracing::info!(
                    team = %channel.team, channel = %channel.name, release = release.number,
                    image.digest = %release.digest, cause = release.cause.as_str(),
                    "channel moved"
                );
            }
        }
    }

    fn nothing_starts(&self, agent: &AgentId, failures: u32, cordoned: bool) {
        if cordoned {
            self.metrics.agent_cordoned();
        }
        tracing::error!(
            agent.id = %agent, failures, cordoned,
            "attempts do not start on this agent"
        );
    }

    fn rollout_moved(
        &self,
        channel: &ChannelId,
        release: u64,
        moment: &Moment,
        ended: Option<&Rollout>,
    ) {
        if let Some(rollout) = ended {
            if let Some((how, took)) = rollout.end() {
                self.metrics.rollout_ended(how, took);
            }
            crate::telemetry::rollout_ended(rollout);
        }
        tracing::info!(
            team = %channel.team, channel = %channel.name, release,
            phase = moment.phase.as_str(), what = moment.what, "rollout"
        );
    }

    fn attempt_ended(
        &self,
        attempt: AttemptId,
        job: &Job,
        end: &End,
        usage: Usage,
        metrics: Option<Arc<[u8]>>,
    ) {
        tracing::info!(
            job.id = %attempt.task.job, task.index = attempt.task.index,
            attempt.number = attempt.number.0, team = %job.team,
            outcome = end.outcome.as_str(), reason = end.reason.as_str(),
            duration_ms = usage.run.map(|span| span.0), "attempt ended"
        );
        let pool = job.spec.requirements.pool.as_str();
        self.metrics
            .attempt_ended(job.team.as_str(), pool, end, usage.run);
        if let Some(gateway) = &self.push_gateway {
            gateway.finished(FinishedAttempt {
                team: job.team.clone(),
                job_name: job.spec.name.clone(),
                outcome: end.outcome,
                ended: Clock::new().now(),
                usage,
                metrics,
            });
        }
    }
}

fn agent_changed(fleet: &Fleet, agent: &AgentId) {
    let known = fleet.agents().find(|known| known.id == *agent);
    let link = known.map(|known| known.link);
    tracing::info!(agent.id = %agent, ?link, "agent changed");
}

fn alarm(missing: usize, known: usize) {
    tracing::error!(
        missing,
        known,
        "most agents vanished at once; the coordinator suspects that it is cut off and gives up nothing \
         until half are back. If they are gone: muster agent confirm-lost"
    );
}
