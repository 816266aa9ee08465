//! Tasks that wait for a person because too many of their attempts died.

use muster_core::effect::Answer;
use muster_core::event::Event;
use muster_core::ids::{TaskId, Ticket};
use muster_proto::v1 as pb;
use tonic::Status;

use crate::api::convert::jobs::{attempt_to_wire, task_to_wire};
use crate::api::{Shared, mismatched, refused, stopping, team_from_wire, unreadable};
use crate::store::Store;

/// Tasks of one answer.
const LISTED: usize = 1_000;

pub(super) async fn list<S: Store>(
    shared: &Shared<S>,
    team: &str,
) -> Result<pb::ListQuarantinedResponse, Status> {
    let team = team_from_wire(team)?;
    let held = shared.driver.look(move |fleet, _| fleet.quarantined(&team));
    let held = held.await.map_err(stopping)?;
    let total = u32::try_from(held.len()).unwrap_or(u32::MAX);
    let mut tasks = Vec::new();
    for id in held.into_iter().take(LISTED) {
        let entry = shared.store.task(id).await.map_err(unreadable)?;
        let attempts = shared.store.list_attempts(id).await.map_err(unreadable)?;
        let attempts = attempts.iter().map(|attempt| attempt_to_wire(id, attempt));
        tasks.push(pb::QuarantinedTask {
            task: entry.as_ref().map(task_to_wire),
            attempts: attempts.collect(),
        });
    }
    Ok(pb::ListQuarantinedResponse { tasks, total })
}

pub(super) async fn requeue<S: Store>(
    shared: &Shared<S>,
    team: &str,
    task: Option<TaskId>,
) -> Result<u32, Status> {
    let team = team_from_wire(team)?;
    released(shared, move |ticket| Event::Requeued { ticket, team, task }).await
}

pub(super) async fn drop_task<S: Store>(shared: &Shared<S>, task: TaskId) -> Result<u32, Status> {
    released(shared, move |ticket| Event::Dropped { ticket, task }).await
}

async fn released<S: Store>(
    shared: &Shared<S>,
    event: impl FnOnce(Ticket) -> Event + Send + 'static,
) -> Result<u32, Status> {
    match shared.driver.ask(event).await.map_err(stopping)? {
        Answer::Released { tasks } => Ok(tasks),
        Answer::Refused(refusal) => Err(refused(&refusal)),
        other @ (Answer::Submitted(_)
        | Answer::CancelRequested { .. }
        | Answer::LossesConfirmed { .. }
        | Answer::Agent(_)
        | Answer::Adopted(_)
        | Answer::Channel(_)) => Err(mismatched(&other)),
    }
}
