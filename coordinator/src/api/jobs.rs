//! `JobService`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use muster_core::effect::{Answer, Refusal};
use muster_core::event::Event;
use muster_core::ids::TaskId;
use muster_core::image::{BadImage, Digest, DigestPrefix};
use muster_core::outcome::Outcome;
use muster_core::ranges::Ranges;
use muster_proto::v1 as pb;
use muster_proto::v1::job_service_server::JobService;
use tonic::{Request, Response, Status};

use super::convert::jobs::{attempt_to_wire, job_to_wire, outcome_from_wire, task_to_wire};
use super::{
    Shared, invalid, mismatched, page_size, refused, stopping, team_from_wire, unreadable,
};
use crate::store::{JobQuery, JobRow, JobState, Store, TaskQuery, TaskStateWord};

mod explain;
mod logs;
mod quarantine;
mod submit;
mod watch;

/// Longest reason that is kept, in bytes.
const REASON_MAX: usize = 1024;

#[derive(Debug)]
pub struct Jobs<S>(pub Arc<Shared<S>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> JobService for Jobs<S> {
    type WatchStream = Answers<pb::WatchEvent>;
    type LogsStream = Answers<pb::LogEntries>;

    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitResponse>, Status> {
        let traceparent = crate::telemetry::current_traceparent()
            .or_else(|| crate::telemetry::callers_traceparent(request.metadata()));
        let submitted = submit::submit(&self.0, request.into_inner(), traceparent).await?;
        Ok(Response::new(submitted))
    }

    async fn get(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::Job>, Status> {
        let pb::GetJobRequest { team, id } = request.into_inner();
        let id = self.0.resolve_job(&team, &id).await?;
        let row = self.job_row(id).await?;
        Ok(Response::new(job_to_wire(&row)))
    }

    async fn list(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let digest = self.digest(&request.digest).await?;
        let query = job_query(request, digest)?;
        let page = self.0.store.list_jobs(query).await.map_err(unreadable)?;
        Ok(Response::new(pb::ListJobsResponse {
            jobs: page.rows.iter().map(job_to_wire).collect(),
            next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<pb::ListTasksRequest>,
    ) -> Result<Response<pb::ListTasksResponse>, Status> {
        let pb::ListTasksRequest {
            team,
            job,
            states,
            outcomes,
            page_size: size,
            page_token,
        } = request.into_inner();
        let query = TaskQuery {
            job: self.0.resolve_job(&team, &job).await?,
            states: task_states_from_wire(&states)?,
            outcomes: outcomes_from_wire(&outcomes)?,
            after: token("page_token", &page_token)?,
            limit: page_size(size)?,
        };
        let page = self.0.store.list_tasks(query).await.map_err(unreadable)?;
        Ok(Response::new(pb::ListTasksResponse {
            tasks: page.rows.iter().map(task_to_wire).collect(),
            next_page_token: page.next.map(|index| index.to_string()).unwrap_or_default(),
        }))
    }

    async fn list_attempts(
        &self,
        request: Request<pb::ListAttemptsRequest>,
    ) -> Result<Response<pb::ListAttemptsResponse>, Status> {
        let pb::ListAttemptsRequest { team, job, index } = request.into_inner();
        let task = self.task(&team, &job, index).await?;
        let rows = self.0.store.list_attempts(task).await.map_err(unreadable)?;
        let attempts = rows.iter().map(|row| attempt_to_wire(task, row)).collect();
        Ok(Response::new(pb::ListAttemptsResponse { attempts }))
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let events = watch::watch(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(events)))
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        let pb::CancelRequest {
            team,
            job,
            tasks,
            reason,
            now,
        } = request.into_inner();
        if reason.len() > REASON_MAX {
            return Err(invalid(
                "reason",
                format!("is {} bytes long; at most 1024", reason.len()),
            ));
        }
        let job = self.0.resolve_job(&team, &job).await?;
        let ranges = (!tasks.is_empty()).then(|| ranges_from_wire(&tasks));
        let event = move |ticket| Event::CancelRequested {
            ticket,
            job,
            tasks: ranges,
            reason,
            now,
        };
        match self.0.driver.ask(event).await.map_err(stopping)? {
            Answer::CancelRequested { tasks } => Ok(Response::new(pb::CancelResponse { tasks })),
            // To cancel what has ended is no mistake of the caller's.
            Answer::Refused(Refusal::JobEnded { .. }) => {
                Ok(Response::new(pb::CancelResponse { tasks: 0 }))
            }
            Answer::Refused(refusal) => Err(refused(&refusal)),
            other @ (Answer::Submitted(_)
            | Answer::Released { .. }
            | Answer::LossesConfirmed { .. }
            | Answer::Agent(_)
            | Answer::Adopted(_)
            | Answer::Channel(_)) => Err(mismatched(&other)),
        }
    }

    async fn logs(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let entries = logs::logs(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(entries)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let pb::ExplainRequest { team, job, index } = request.into_inner();
        let job = self.0.resolve_job(&team, &job).await?;
        let row = self.job_row(job).await?;
        if let Some(index) = index {
            check_index(&row, index)?;
        }
        Ok(Response::new(explain::explain(&self.0, &row, index).await?))
    }

    async fn list_quarantined(
        &self,
        request: Request<pb::ListQuarantinedRequest>,
    ) -> Result<Response<pb::ListQuarantinedResponse>, Status> {
        let pb::ListQuarantinedRequest { team } = request.into_inner();
        Ok(Response::new(quarantine::list(&self.0, &team).await?))
    }

    async fn requeue(
        &self,
        request: Request<pb::RequeueRequest>,
    ) -> Result<Response<pb::RequeueResponse>, Status> {
        let pb::RequeueRequest { team, job, index } = request.into_inner();
        let task = match job.as_str() {
            "" => None,
            job => Some(self.task(&team, job, index).await?),
        };
        let tasks = quarantine::requeue(&self.0, &team, task).await?;
        Ok(Response::new(pb::RequeueResponse { tasks }))
    }

    async fn drop(
        &self,
        request: Request<pb::DropRequest>,
    ) -> Result<Response<pb::DropResponse>, Status> {
        let pb::DropRequest { team, job, index } = request.into_inner();
        let task = self.task(&team, &job, index).await?;
        quarantine::drop_task(&self.0, task).await?;
        Ok(Response::new(pb::DropResponse {}))
    }
}

impl<S: Store> Jobs<S> {
    async fn job_row(&self, id: muster_core::ids::JobId) -> Result<JobRow, Status> {
        let row = self.0.store.job(id).await.map_err(unreadable)?;
        row.ok_or_else(|| Status::not_found(format!("no job {id}")))
    }

    /// The digest that a client names, or begins.
    async fn digest(&self, text: &str) -> Result<Option<Digest>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let bad = |problem: String| invalid("digest", problem);
        let prefix: DigestPrefix = text
            .parse()
            .map_err(|error: BadImage| bad(error.to_string()))?;
        if prefix.first == prefix.last {
            return Ok(Some(prefix.first));
        }
        let found = self.0.store.find_digests(prefix).await;
        match found.map_err(unreadable)?.as_slice() {
            // What no attempt was ever made on has no jobs, as with all the digits.
            [] => Ok(Some(prefix.first)),
            [one] => Ok(Some(*one)),
            [one, other, ..] => Err(bad(format!(
                "{text:?} begins more than one digest, such as {one} and {other}: give more of it"
            ))),
        }
    }

    /// The task that a client names; its index is within the job's array.
    async fn task(&self, team: &str, job: &str, index: u32) -> Result<TaskId, Status> {
        let job = self.0.resolve_job(team, job).await?;
        check_index(&self.job_row(job).await?, index)?;
        Ok(TaskId { job, index })
    }
}

fn check_index(row: &JobRow, index: u32) -> Result<(), Status> {
    let array = row.job.array;
    if index < array {
        return Ok(());
    }
    let id = row.job.id.short();
    let problem = format!(
        "job {id} has no task {index}: its indexes are 0 to {}",
        array - 1
    );
    Err(Status::not_found(problem))
}

fn job_query(wire: pb::ListJobsRequest, digest: Option<Digest>) -> Result<JobQuery, Status> {
    let pb::ListJobsRequest {
        team,
        states,
        outcomes,
        labels,
        name,
        page_size: size,
        page_token,
        digest: _,
    } = wire;
    Ok(JobQuery {
        team: Some(team_from_wire(&team)?),
        states: job_states_from_wire(&states)?,
        outcomes: outcomes_from_wire(&outcomes)?,
        labels,
        name: (!name.is_empty()).then_some(name),
        digest,
        before: token("page_token", &page_token)?,
        limit: page_size(size)?,
    })
}

/// A page token is what the page before gave; an empty one begins at the beginning.
fn token<T: std::str::FromStr>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| invalid(field, format!("{text:?} is not from the page before")))
}

fn job_states_from_wire(wire: &[i32]) -> Result<Vec<JobState>, Status> {
    let read = |state: &i32| match pb::JobState::try_from(*state) {
        Ok(pb::JobState::Pending) => Ok(JobState::Pending),
        Ok(pb::JobState::Running) => Ok(JobState::Running),
        Ok(pb::JobState::Ended) => Ok(JobState::Ended),
        Ok(pb::JobState::Unspecified) | Err(_) => {
            Err(invalid("states", format!("{state} is not a job's state")))
        }
    };
    wire.iter().map(read).collect()
}

fn task_states_from_wire(wire: &[i32]) -> Result<Vec<TaskStateWord>, Status> {
    let read = |state: &i32| match pb::TaskState::try_from(*state) {
        Ok(pb::TaskState::Pending) => Ok(TaskStateWord::Pending),
        Ok(pb::TaskState::Assigned) => Ok(TaskStateWord::Assigned),
        Ok(pb::TaskState::Preparing) => Ok(TaskStateWord::Preparing),
        Ok(pb::TaskState::Running) => Ok(TaskStateWord::Running),
        Ok(pb::TaskState::Ended) => Ok(TaskStateWord::Ended),
        Ok(pb::TaskState::Unspecified) | Err(_) => {
            Err(invalid("states", format!("{state} is not a task's state")))
        }
    };
    wire.iter().map(read).collect()
}

fn outcomes_from_wire(wire: &[i32]) -> Result<Vec<Outcome>, Status> {
    let read = |outcome: &i32| {
        let problem = || invalid("outcomes", format!("{outcome} is not an outcome"));
        outcome_from_wire(*outcome).ok_or_else(problem)
    };
    wire.iter().map(read).collect()
}

fn ranges_from_wire(wire: &[pb::IndexRange]) -> Ranges {
    Ranges::from_ranges(
        wire.iter()
            .map(|pb::IndexRange { first, last }| *first..=*last),
    )
}
