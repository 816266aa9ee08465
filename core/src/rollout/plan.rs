//! From a policy and what is known at the beginning to the steps of a rollout: a pure function. A plan
//! is complete and never changes; whoever carries it out has nothing left to choose.

use std::collections::BTreeSet;

use super::policy::{AfterPatience, Bake, Canary, Policy, Prefetch, Restart, Share, Validate};
use super::{Facts, Phase};
use crate::ids::{AgentId, JobName, PoolName};
use crate::time::Millis;

/// The steps of a rollout, in order. Exactly one of them is `Promote`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Prefetch {
        agents: BTreeSet<AgentId>,
        /// So many of them have to hold the image.
        enough: usize,
        at_a_time: usize,
        patience: Millis,
    },
    Validate {
        command: Vec<String>,
        timeout: Millis,
        exit_code: u8,
        pool: PoolName,
    },
    Canary {
        share: Share,
        jobs: BTreeSet<JobName>,
        sample: u32,
        patience: Millis,
        after_patience: AfterPatience,
    },
    Promote,
    Restart {
        jobs: BTreeSet<JobName>,
        healthy_after: Millis,
        patience: Millis,
    },
    Bake {
        lasts: Millis,
    },
}

impl Step {
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Prefetch { .. } => Phase::Prefetch,
            Self::Validate { .. } => Phase::Validate,
            Self::Canary { .. } => Phase::Canary,
            Self::Promote => Phase::Promote,
            Self::Restart { .. } => Phase::Restart,
            Self::Bake { .. } => Phase::Bake,
        }
    }
}

/// Why there can be no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    #[error("{objection}")]
    Objection { objection: String },
    #[error(
        "the policy asks for a validation, and neither it nor the image's label muster.validate has a command"
    )]
    NothingToValidate,
}

/// Makes the plan. `agents` are those that are online and in service.
///
/// # Errors
/// If the image was objected to, or a step lacks what it needs.
pub fn plan(
    policy: &Policy,
    facts: &Facts,
    agents: &BTreeSet<AgentId>,
) -> Result<Plan, Unplannable> {
    let Policy {
        prefetch,
        validate,
        canary,
        restart,
        bake,
        gates: _,
        newer: _,
    } = policy;
    if let Some(objection) = &facts.objection {
        let objection = objection.clone();
        return Err(Unplannable::Objection { objection });
    }
    let mut steps = Vec::new();
    steps.extend(
        prefetch
            .as_ref()
            .map(|prefetch| plan_prefetch(prefetch, agents)),
    );
    if let Some(validate) = validate {
        steps.push(plan_validate(validate, facts)?);
    }
    steps.extend(canary.as_ref().map(plan_canary));
    steps.push(Step::Promote);
    steps.extend(restart.as_ref().map(|restart| {
        let Restart {
            jobs,
            healthy_after,
            patience,
        } = restart.clone();
        Step::Restart {
            jobs,
            healthy_after,
            patience,
        }
    }));
    steps.extend(bake.map(|Bake { lasts }| Step::Bake { lasts }));
    Ok(Plan { steps })
}

fn plan_prefetch(prefetch: &Prefetch, agents: &BTreeSet<AgentId>) -> Step {
    let Prefetch {
        enough_percent,
        at_a_time,
        patience,
    } = *prefetch;
    let percent = usize::try_from(enough_percent.min(100)).expect("at most 100");
    Step::Prefetch {
        agents: agents.clone(),
        enough: (agents.len() * percent).div_ceil(100),
        at_a_time: usize::try_from(at_a_time.max(1)).unwrap_or(usize::MAX),
        patience,
    }
}

fn plan_validate(validate: &Validate, facts: &Facts) -> Result<Step, Unplannable> {
    let Validate {
        command,
        timeout,
        exit_code,
        pool,
    } = validate.clone();
    let command = if command.is_empty() {
        facts.validate.clone()
    } else {
        command
    };
    if command.is_empty() {
        return Err(Unplannable::NothingToValidate);
    }
    Ok(Step::Validate {
        command,
        timeout,
        exit_code,
        pool,
    })
}

fn plan_canary(canary: &Canary) -> Step {
    let Canary {
        share,
        jobs,
        sample,
        patience,
        after_patience,
    } = canary.clone();
    // A larger sample than there are canaries would never be reached.
    let sample = match share {
        Share::First(count) => sample.min(count),
        Share::Percent(_) => sample,
    };
    Step::Canary {
        share,
        jobs,
        sample,
        patience,
        after_patience,
    }
}

#[cfg(test)]
mod tests;
