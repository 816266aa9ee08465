//! A rollout as the store gives it back.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::channel::{Cause, ChannelId, Release};
use muster_core::ids::{AgentId, ChannelName, JobName, TeamName};
use muster_core::rollout::gate::{NameTally, Past, Ran, Tally};
use muster_core::rollout::plan::{Plan, Step};
use muster_core::rollout::policy::{Bake, Canary, Restart, Validate};
use muster_core::rollout::{Conclusion, Moment, Phase, Rollout, State, Validation};
use muster_core::time::{Millis, Timestamp};
use muster_proto::v1 as pb;
use pb::rollout_step::Step as WireStep;

use super::policy::{policy_from_wire, read_bake, read_canary, read_restart, read_validate};
use crate::api::convert::Violations;
use crate::api::convert::duration::{millis_from_wire, time_from_wire};

/// Reads what [`super::rollout_to_wire`] wrote. `None` if this version could not have written it.
pub(crate) fn rollout_from_wire(wire: pb::Rollout) -> Option<Rollout> {
    let pb::Rollout {
        team,
        channel,
        from,
        to,
        policy,
        steps,
        step,
        began,
        since,
        paused,
        end,
        validation,
        tally,
        timeline,
        gates: _,
        agents_ready: _,
        agents: _,
        fetches: _,
    } = wire;
    let state = match end {
        None => State::Active {
            step: usize::try_from(step).ok()?,
            since: time(since.as_ref()),
            paused: paused.as_ref().map(time_from_wire),
        },
        Some(pb::RolloutEnd { how, at, reason }) => State::Ended {
            how: Conclusion::from_word(&how)?,
            at: time(at.as_ref()),
            reason,
        },
    };
    let steps: Option<Vec<Step>> = steps.into_iter().map(read_step).collect();
    let timeline: Option<Vec<Moment>> = timeline.into_iter().map(read_moment).collect();
    Some(Rollout {
        channel: ChannelId {
            team: TeamName::parse(&team).ok()?,
            name: ChannelName::parse(&channel).ok()?,
        },
        from: read_release(from?)?,
        to: read_release(to?)?,
        policy: policy_from_wire(&policy?).ok()?,
        plan: Plan { steps: steps? },
        state,
        began: time(began.as_ref()),
        validation: match validation {
            None => None,
            Some(validation) => Some(read_validation(validation)?),
        },
        tally: read_tally(tally?)?,
        timeline: timeline?,
    })
}

fn time(wire: Option<&prost_types::Timestamp>) -> Timestamp {
    wire.map(time_from_wire).unwrap_or_default()
}

fn span(wire: Option<&prost_types::Duration>) -> Option<Millis> {
    millis_from_wire(wire?)
}

fn read_release(wire: pb::Release) -> Option<Release> {
    let pb::Release {
        number,
        digest,
        at,
        cause,
        reason,
        by,
        revision,
        created,
        repository,
        policy,
    } = wire;
    let policy = match policy {
        None => None,
        Some(policy) => Some(Box::new(policy_from_wire(&policy).ok()?)),
    };
    Some(Release {
        number,
        repository: repository.parse().ok()?,
        digest: digest.parse().ok()?,
        at: time(at.as_ref()),
        cause: Cause::from_word(&cause)?,
        reason,
        by,
        revision,
        created,
        policy,
    })
}

fn read_step(wire: pb::RolloutStep) -> Option<Step> {
    // The same readers as a policy's, so that there is one opinion on what is valid.
    let mut bad = Violations::default();
    let step = match wire.step? {
        WireStep::Prefetch(wire) => {
            let pb::PrefetchStep {
                agents,
                enough,
                at_a_time,
                patience,
            } = wire;
            let agents: Option<BTreeSet<AgentId>> = agents
                .iter()
                .map(|agent| AgentId::parse(agent).ok())
                .collect();
            Step::Prefetch {
                agents: agents?,
                enough: usize::try_from(enough).ok()?,
                at_a_time: usize::try_from(at_a_time).ok()?,
                patience: span(patience.as_ref())?,
            }
        }
        WireStep::Validate(wire) => {
            let Validate {
                command,
                timeout,
                exit_code,
                pool,
            } = read_validate(&wire, &mut bad)?;
            Step::Validate {
                command,
                timeout,
                exit_code,
                pool,
            }
        }
        WireStep::Canary(wire) => {
            let Canary {
                share,
                jobs,
                sample,
                patience,
                after_patience,
            } = read_canary(&wire, &mut bad)?;
            Step::Canary {
                share,
                jobs,
                sample,
                patience,
                after_patience,
            }
        }
        WireStep::Promote(pb::PromoteStep {}) => Step::Promote,
        WireStep::Restart(wire) => {
            let Restart {
                jobs,
                healthy_after,
                patience,
            } = read_restart(&wire, &mut bad);
            Step::Restart {
                jobs,
                healthy_after,
                patience,
            }
        }
        WireStep::Bake(wire) => {
            let Bake { lasts } = read_bake(&wire, &mut bad);
            Step::Bake { lasts }
        }
    };
    bad.is_empty().then_some(step)
}

fn read_validation(wire: pb::Validation) -> Option<Validation> {
    let pb::Validation { job, passed, how } = wire;
    let job = job.parse().ok()?;
    Some(Validation { job, passed, how })
}

fn read_tally(wire: pb::CanaryTally) -> Option<Tally> {
    let pb::CanaryTally {
        made,
        forgiven,
        names,
    } = wire;
    let mut read = BTreeMap::new();
    for wire in names {
        let pb::NameTally {
            name,
            good,
            bad,
            past_attempts,
            past_failed,
            past_run,
            past_peak_memory_bytes,
            runs,
        } = wire;
        let past = Past {
            attempts: past_attempts,
            failed: past_failed,
            run: span(past_run.as_ref()),
            peak_memory: past_peak_memory_bytes,
        };
        let tally = NameTally {
            past,
            good,
            bad,
            runs: runs.into_iter().map(read_ran).collect(),
        };
        read.insert(JobName::parse(&name).ok()?, tally);
    }
    Some(Tally {
        made,
        forgiven,
        names: read,
    })
}

fn read_ran(wire: pb::JudgedRun) -> Ran {
    let pb::JudgedRun {
        good,
        run,
        peak_memory_bytes,
    } = wire;
    Ran {
        good,
        run: span(run.as_ref()).unwrap_or_default(),
        peak_memory: peak_memory_bytes,
    }
}

fn read_moment(wire: pb::RolloutMoment) -> Option<Moment> {
    let pb::RolloutMoment { at, phase, what } = wire;
    Some(Moment {
        at: time(at.as_ref()),
        phase: Phase::from_word(&phase)?,
        what,
    })
}
