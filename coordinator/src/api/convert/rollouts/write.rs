//! A rollout for clients and for the store.

use std::collections::BTreeMap;

use muster_core::channel::ChannelId;
use muster_core::rollout::gate::{self, NameTally, Past, Ran, Reading, Tally};
use muster_core::rollout::plan::{Plan, Step};
use muster_core::rollout::policy::{Bake, Canary, Restart, Validate};
use muster_core::rollout::{Moment, Phase, Rollout, State, Validation};
use muster_proto::v1 as pb;
use pb::rollout_step::Step as WireStep;

use super::policy::{
    bake_to_wire, canary_to_wire, policy_to_wire, restart_to_wire, validate_to_wire,
};
use crate::api::convert::channels::release_to_wire;
use crate::api::convert::duration::{millis_to_wire, time_to_wire};

/// The rollout; how far the fetching has come is for the caller to add.
pub(crate) fn rollout_to_wire(rollout: &Rollout) -> pb::Rollout {
    let Rollout {
        channel: ChannelId { team, name },
        from,
        to,
        policy,
        plan: Plan { steps },
        state,
        began,
        validation,
        tally,
        timeline,
    } = rollout;
    let (step, since, paused, end) = match state {
        State::Active {
            step,
            since,
            paused,
        } => (*step, *since, paused.map(time_to_wire), None),
        State::Ended { how, at, reason } => {
            let end = pb::RolloutEnd {
                how: how.as_str().to_owned(),
                at: Some(time_to_wire(*at)),
                reason: reason.clone(),
            };
            (reached(rollout), *at, None, Some(end))
        }
    };
    let gates = if tally.names.is_empty() {
        Vec::new()
    } else {
        gate::read(tally, &policy.gates, &BTreeMap::new())
    };
    pb::Rollout {
        team: team.to_string(),
        channel: name.to_string(),
        from: Some(release_to_wire(from)),
        to: Some(release_to_wire(to)),
        policy: Some(policy_to_wire(policy)),
        steps: steps.iter().map(step_to_wire).collect(),
        step: small(step),
        began: Some(time_to_wire(*began)),
        since: Some(time_to_wire(since)),
        paused,
        end,
        validation: validation.as_ref().map(validation_to_wire),
        tally: Some(tally_to_wire(tally)),
        timeline: timeline.iter().map(moment_to_wire).collect(),
        gates: gates.iter().map(reading_to_wire).collect(),
        agents_ready: 0,
        agents: 0,
        fetches: Vec::new(),
    }
}

/// The last step that an ended rollout says something about.
fn reached(rollout: &Rollout) -> usize {
    let seen = |step: &Step| {
        let phase = step.phase();
        let of_step = |moment: &Moment| moment.phase == phase && phase != Phase::Ended;
        rollout.timeline.iter().any(of_step)
    };
    rollout.plan.steps.iter().rposition(seen).unwrap_or(0)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn step_to_wire(step: &Step) -> pb::RolloutStep {
    let step = match step.clone() {
        Step::Prefetch {
            agents,
            enough,
            at_a_time,
            patience,
        } => WireStep::Prefetch(pb::PrefetchStep {
            agents: agents.iter().map(ToString::to_string).collect(),
            enough: small(enough),
            at_a_time: small(at_a_time),
            patience: Some(millis_to_wire(patience)),
        }),
        Step::Validate {
            command,
            timeout,
            exit_code,
            pool,
        } => WireStep::Validate(validate_to_wire(Validate {
            command,
            timeout,
            exit_code,
            pool,
        })),
        Step::Canary {
            share,
            jobs,
            sample,
            patience,
            after_patience,
        } => WireStep::Canary(canary_to_wire(Canary {
            share,
            jobs,
            sample,
            patience,
            after_patience,
        })),
        Step::Promote => WireStep::Promote(pb::PromoteStep {}),
        Step::Restart {
            jobs,
            healthy_after,
            patience,
        } => WireStep::Restart(restart_to_wire(Restart {
            jobs,
            healthy_after,
            patience,
        })),
        Step::Bake { lasts } => WireStep::Bake(bake_to_wire(Bake { lasts })),
    };
    pb::RolloutStep { step: Some(step) }
}

fn validation_to_wire(validation: &Validation) -> pb::Validation {
    let Validation { job, passed, how } = validation;
    pb::Validation {
        job: job.to_string(),
        passed: *passed,
        how: how.clone(),
    }
}

fn tally_to_wire(tally: &Tally) -> pb::CanaryTally {
    let Tally {
        made,
        forgiven,
        names,
    } = tally;
    let names = names.iter().map(|(name, tally)| {
        let NameTally {
            past:
                Past {
                    attempts,
                    failed,
                    run,
                    peak_memory,
                },
            good,
            bad,
            runs,
        } = tally;
        pb::NameTally {
            name: name.to_string(),
            good: *good,
            bad: *bad,
            past_attempts: *attempts,
            past_failed: *failed,
            past_run: run.map(millis_to_wire),
            past_peak_memory_bytes: *peak_memory,
            runs: runs.iter().map(ran_to_wire).collect(),
        }
    });
    pb::CanaryTally {
        made: *made,
        forgiven: *forgiven,
        names: names.collect(),
    }
}

fn ran_to_wire(ran: &Ran) -> pb::JudgedRun {
    let Ran {
        good,
        run,
        peak_memory,
    } = *ran;
    pb::JudgedRun {
        good,
        run: Some(millis_to_wire(run)),
        peak_memory_bytes: peak_memory,
    }
}

fn moment_to_wire(moment: &Moment) -> pb::RolloutMoment {
    let Moment { at, phase, what } = moment;
    pb::RolloutMoment {
        at: Some(time_to_wire(*at)),
        phase: phase.as_str().to_owned(),
        what: what.clone(),
    }
}

fn reading_to_wire(reading: &Reading) -> pb::GateReading {
    let Reading {
        gate,
        name,
        value,
        before,
        limit,
        broken,
    } = reading;
    pb::GateReading {
        gate: gate.as_str().to_owned(),
        name: name.as_ref().map(ToString::to_string).unwrap_or_default(),
        value: *value,
        before: *before,
        limit: *limit,
        broken: *broken,
    }
}
