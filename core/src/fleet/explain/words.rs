//! What keeps a task waiting, in words.

use std::fmt;

use super::Blocker;
use crate::ids::PoolName;
use crate::time::Millis;

const TASKS_QUARANTINED: &str = "of its tasks are quarantined; see: muster quarantine list";

const NO_LEASE: &str =
    "no agent that fits stops tasks when it is cut off; that needs muster's own init process";

fn poisoned(f: &mut fmt::Formatter<'_>, deaths: u32) -> fmt::Result {
    write!(
        f,
        "it is quarantined: {deaths} attempts were running when their host, engine or agent went away; muster quarantine requeue or drop decides"
    )
}

fn paced(f: &mut fmt::Formatter<'_>, ahead: usize, per_minute: u32) -> fmt::Result {
    write!(
        f,
        "the team's retries are paced, {per_minute} a minute and one more for every 10 tasks that succeed: {ahead} go before it"
    )
}

fn in_doubt(f: &mut fmt::Formatter<'_>, preparing: usize) -> fmt::Result {
    write!(
        f,
        "attempts of the job did not start, and none has yet: it waits for the {preparing} that are being prepared"
    )
}

fn no_labels(
    f: &mut fmt::Formatter<'_>,
    pool: &PoolName,
    agents: usize,
    labels: &[String],
) -> fmt::Result {
    let labels = labels.join(", ");
    write!(
        f,
        "no agent in pool {pool} has {labels} (0 of {agents} agents)"
    )
}

fn pull_fails(f: &mut fmt::Formatter<'_>, image: &str, left: Millis, message: &str) -> fmt::Result {
    write!(
        f,
        "{image} can't be pulled, and is tried again in {left}; agents that hold it are busy: {message}"
    )
}

fn not_held(f: &mut fmt::Formatter<'_>, image: &str, agents: usize) -> fmt::Result {
    write!(
        f,
        "no agent that fits holds {image} (0 of {agents} agents); push it to a registry, or load it there"
    )
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SafeMode(why) => write!(f, "{why}"),
            Self::Quarantined { deaths } => poisoned(f, *deaths),
            Self::TasksQuarantined { tasks } => write!(f, "{tasks} {TASKS_QUARANTINED}"),
            Self::RetryDelay { left } => write!(f, "its next attempt starts in {left}"),
            Self::RetriesPaced { ahead, per_minute } => paced(f, *ahead, *per_minute),
            Self::ConcurrencyKey { key, live, limit } => {
                write!(
                    f,
                    "{live} of {limit} attempts with concurrency key {key:?} are live"
                )
            }
            Self::StartsInDoubt { preparing } => in_doubt(f, *preparing),
            Self::PullFails {
                image,
                left,
                message,
            } => pull_fails(f, image, *left, message),
            Self::NoAgentInPool { pool, agents } => {
                write!(f, "no agent is in pool {pool} (0 of {agents} agents)")
            }
            Self::NoSuchAgent { agent } => write!(f, "agent {agent} has never called"),
            Self::NoAgentWithLabels {
                pool,
                agents,
                labels,
            } => no_labels(f, pool, *agents, labels),
            Self::NoLease { agents } => write!(f, "{NO_LEASE} (0 of {agents} agents)"),
            Self::ImageNotHeld { image, agents } => not_held(f, image, *agents),
            Self::TooLarge {
                what,
                wanted,
                most,
                agents,
            } => {
                write!(
                    f,
                    "it wants {wanted} {what}; the largest of the {agents} agents that match has {most}"
                )
            }
            Self::NobodyInService {
                agents,
                unreachable,
                cordoned,
                resting,
            } => {
                write!(
                    f,
                    "of the {agents} agents that match, {unreachable} are out of sight, {cordoned} out of service and \
                     {resting} refused the last offer because of their own state"
                )
            }
            Self::Full {
                pool,
                agents,
                busy_places,
                places,
            } => {
                write!(
                    f,
                    "pool {pool} is full: {busy_places} of {places} places on {agents} agents are taken"
                )
            }
            Self::NextInLine => f.write_str("it is next in line"),
        }
    }
}
