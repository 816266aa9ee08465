//! The gRPC services for clients: requests become events and queries, answers become replies.

use std::sync::Arc;

use muster_core::effect::{Answer, Refusal};
use muster_core::ids::{JobId, TeamName};
use muster_core::time::Millis;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::driver::{DriverGone, DriverHandle};
use crate::poll::Follower;
use crate::registry::Registry;
use crate::session::Loads;
use crate::store::{ReadError, Resolved, Store};

pub mod convert;

pub mod admin;
pub mod agents;
pub mod channels;
pub mod jobs;
pub mod manifests;
pub mod rollouts;

use convert::Violation;

const DEFAULT_TEAM: &str = "default";
/// Rows of a page when the client names no number, and the most it may ask for.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// Status details travel in HTTP headers, which have a bound.
const VIOLATIONS_SHOWN: usize = 32;

/// What the services share.
pub struct Shared<S> {
    pub driver: DriverHandle,
    pub store: Arc<S>,
    pub registry: Arc<dyn Registry>,
    pub follower: Follower,
    pub logs: Arc<crate::logs::LogStore>,
    pub loads: Loads,
    pub metrics: crate::metrics::Metrics,
    /// Between two heartbeats of an agent.
    pub heartbeat: Millis,
}

impl<S> std::fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl<S: Store> Shared<S> {
    /// The job that a client names by its id or the end of it.
    async fn resolve_job(&self, team: &str, text: &str) -> Result<JobId, Status> {
        let team = team_from_wire(team)?;
        if !muster_core::ids::is_job_id_end(text) {
            let problem =
                format!("{text:?} is not a job's id, or at least eight characters of its end");
            return Err(invalid("job", problem));
        }
        match self
            .store
            .resolve_job(&team, text)
            .await
            .map_err(unreadable)?
        {
            Resolved::One(id) => Ok(id),
            Resolved::None => Err(Status::not_found(format!("team {team} has no job {text}"))),
            Resolved::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let problem = format!("{text} is the end of several jobs: {}", ids.join(", "));
                Err(invalid("job", problem))
            }
        }
    }
}

fn team_from_wire(team: &str) -> Result<TeamName, Status> {
    let text = if team.is_empty() { DEFAULT_TEAM } else { team };
    TeamName::parse(text).map_err(|error| invalid("team", format!("{text:?} {error}")))
}

/// How many rows a page has.
fn page_size(asked: u32) -> Result<u32, Status> {
    match asked {
        0 => Ok(PAGE),
        1..=PAGE_MAX => Ok(asked),
        _ => Err(invalid(
            "page_size",
            format!("{asked} is more than {PAGE_MAX}"),
        )),
    }
}

fn invalid(field: &str, problem: impl Into<String>) -> Status {
    bad_request(vec![Violation {
        field: field.to_owned(),
        problem: problem.into(),
    }])
}

/// `INVALID_ARGUMENT` with `google.rpc.BadRequest`: nothing was stored.
fn bad_request(violations: Vec<Violation>) -> Status {
    let count = violations.len();
    let message = violations
        .first()
        .map(|first| format!("{}: {}", first.field, first.problem));
    let more = if count > 1 {
        format!(" (and {} more)", count - 1)
    } else {
        String::new()
    };
    let mut details = ErrorDetails::new();
    for Violation { field, problem } in violations.into_iter().take(VIOLATIONS_SHOWN) {
        details.add_bad_request_violation(field, problem);
    }
    let message = format!("{}{more}", message.unwrap_or_default());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn unreadable(error: ReadError) -> Status {
    if matches!(error, ReadError::Stopping) {
        return Status::unavailable(error.to_string());
    }
    let chain = muster_core::error_chain::error_chain(&error);
    tracing::error!(error = chain, "the store could not be read");
    Status::internal(chain)
}

fn stopping(error: DriverGone) -> Status {
    Status::unavailable(error.to_string())
}

/// Each refusal with the status that tells a client what to do about it.
fn refused(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::KeyInUse { .. } => Code::AlreadyExists,
        Refusal::NoSuchAgent { .. } | Refusal::NoSuchChannel { .. } => Code::NotFound,
        Refusal::NotRestored
        | Refusal::StoreBehind { .. }
        | Refusal::AgentsMissing { .. }
        | Refusal::JobEnded { .. }
        | Refusal::NotQuarantined { .. }
        | Refusal::NoPreviousRelease { .. }
        | Refusal::Objection { .. }
        | Refusal::AlreadyThere { .. }
        | Refusal::NoRollout { .. }
        | Refusal::AlreadyPaused { .. }
        | Refusal::NotPaused { .. }
        | Refusal::AlreadyPromoted { .. } => Code::FailedPrecondition,
    };
    Status::new(code, refusal.to_string())
}

/// An answer of another kind than the question: a bug in the fleet.
fn mismatched(answer: &Answer) -> Status {
    tracing::error!(?answer, "the fleet's answer does not fit the question");
    Status::internal("the fleet's answer does not fit the question")
}
