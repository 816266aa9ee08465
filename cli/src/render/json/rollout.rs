//! Rollouts.

use muster_proto::v1;
use serde::Serialize;

use super::{ReleaseJson, set};
use crate::render::span;

#[derive(Debug, Serialize)]
pub(crate) struct RolloutJson {
    team: String,
    channel: String,
    from: Option<ReleaseJson>,
    to: Option<ReleaseJson>,
    /// The words of the steps, in order.
    steps: Vec<&'static str>,
    /// Index of the step that is under way.
    step: u32,
    began: Option<String>,
    since: Option<String>,
    paused: Option<String>,
    end: Option<EndJson>,
    validation: Option<ValidationJson>,
    canaries: u32,
    forgiven: u32,
    judged: Vec<JudgedJson>,
    gates: Vec<GateJson>,
    timeline: Vec<MomentJson>,
    agents_ready: u32,
    agents: u32,
    fetches: Vec<FetchJson>,
}

#[derive(Debug, Serialize)]
struct EndJson {
    how: String,
    at: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct ValidationJson {
    job: String,
    passed: Option<bool>,
    how: Option<String>,
}

#[derive(Debug, Serialize)]
struct JudgedJson {
    name: String,
    good: u32,
    bad: u32,
    past_attempts: u32,
    past_failed: u32,
    past_run_seconds: Option<f64>,
    past_peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct GateJson {
    gate: String,
    name: Option<String>,
    value: u64,
    before: u64,
    limit: u64,
    broken: bool,
}

#[derive(Debug, Serialize)]
struct FetchJson {
    agent: String,
    done_bytes: u64,
    total_bytes: u64,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct MomentJson {
    at: Option<String>,
    phase: String,
    what: String,
}

impl From<v1::Rollout> for RolloutJson {
    fn from(rollout: v1::Rollout) -> Self {
        let v1::Rollout {
            team,
            channel,
            from,
            to,
            policy: _,
            steps,
            step,
            began,
            since,
            paused,
            end,
            validation,
            tally,
            timeline,
            gates,
            agents_ready,
            agents,
            fetches,
        } = rollout;
        let v1::CanaryTally {
            made,
            forgiven,
            names,
        } = tally.unwrap_or_default();
        Self {
            team,
            channel,
            from: from.map(ReleaseJson::from),
            to: to.map(ReleaseJson::from),
            steps: steps.iter().map(step_word).collect(),
            step,
            began: span::rfc3339(began),
            since: span::rfc3339(since),
            paused: span::rfc3339(paused),
            end: end.map(|v1::RolloutEnd { how, at, reason }| EndJson {
                how,
                at: span::rfc3339(at),
                reason: set(reason),
            }),
            validation: validation.map(|v1::Validation { job, passed, how }| ValidationJson {
                job,
                passed,
                how: set(how),
            }),
            canaries: made,
            forgiven,
            judged: names.into_iter().map(judged).collect(),
            gates: gates.into_iter().map(gate).collect(),
            timeline: timeline.into_iter().map(moment).collect(),
            agents_ready,
            agents,
            fetches: fetches.into_iter().map(fetch).collect(),
        }
    }
}

const fn step_word(step: &v1::RolloutStep) -> &'static str {
    use v1::rollout_step::Step;
    match &step.step {
        Some(Step::Prefetch(_)) => "prefetch",
        Some(Step::Validate(_)) => "validate",
        Some(Step::Canary(_)) => "canary",
        Some(Step::Promote(_)) => "promote",
        Some(Step::Restart(_)) => "restart",
        Some(Step::Bake(_)) => "bake",
        None => "unknown",
    }
}

fn judged(tally: v1::NameTally) -> JudgedJson {
    let v1::NameTally {
        name,
        good,
        bad,
        past_attempts,
        past_failed,
        past_run,
        past_peak_memory_bytes,
        runs: _,
    } = tally;
    JudgedJson {
        name,
        good,
        bad,
        past_attempts,
        past_failed,
        past_run_seconds: span::seconds(past_run),
        past_peak_memory_bytes,
    }
}

fn gate(reading: v1::GateReading) -> GateJson {
    let v1::GateReading {
        gate,
        name,
        value,
        before,
        limit,
        broken,
    } = reading;
    GateJson {
        gate,
        name: set(name),
        value,
        before,
        limit,
        broken,
    }
}

fn fetch(fetch: v1::AgentFetch) -> FetchJson {
    let v1::AgentFetch {
        agent,
        done_bytes,
        total_bytes,
        problem,
    } = fetch;
    FetchJson {
        agent,
        done_bytes,
        total_bytes,
        problem: set(problem),
    }
}

fn moment(moment: v1::RolloutMoment) -> MomentJson {
    let v1::RolloutMoment { at, phase, what } = moment;
    MomentJson {
        at: span::rfc3339(at),
        phase,
        what,
    }
}
