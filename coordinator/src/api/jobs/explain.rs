//! Why a job or task waits, was retried, or ended as it did.

use muster_core::fleet::{Explanation, OutOfSight, Waiting};
use muster_core::ids::TaskId;
use muster_core::outcome::{End, Outcome};
use muster_core::task::RowState;
use muster_proto::v1 as pb;
use tonic::Status;

use crate::api::convert::jobs::attempt_to_wire;
use crate::api::{Shared, stopping, unreadable};
use crate::store::{JobRow, Store, TaskEntry};

pub(super) async fn explain<S: Store>(
    shared: &Shared<S>,
    row: &JobRow,
    index: Option<u32>,
) -> Result<pb::Explanation, Status> {
    let job = row.job.id;
    // About a job with one task both are the same question.
    let index = index.or_else(|| (row.job.array == 1).then_some(0));
    let live = shared
        .driver
        .look(move |fleet, now| fleet.explain(now, job, index));
    let live = live.await.map_err(stopping)?;
    let mut reasons = live.map(live_reasons).unwrap_or_default();
    reasons.extend(cancel_reason(row));
    let Some(index) = index else {
        reasons.extend(bad_ends(row));
        return Ok(pb::Explanation {
            subject: job_subject(row),
            reasons,
            attempts: Vec::new(),
        });
    };
    let task = TaskId { job, index };
    let entry = shared.store.task(task).await.map_err(unreadable)?;
    let attempts = shared.store.list_attempts(task).await.map_err(unreadable)?;
    if let Some(entry) = &entry {
        reasons.extend(task_reasons(row, entry));
    }
    Ok(pb::Explanation {
        subject: task_subject(row, index, entry.as_ref()),
        reasons,
        attempts: attempts
            .iter()
            .map(|attempt| attempt_to_wire(task, attempt))
            .collect(),
    })
}

fn reason(code: &str, message: impl Into<String>) -> pb::Reason {
    pb::Reason {
        code: code.to_owned(),
        message: message.into(),
    }
}

fn live_reasons(explanation: Explanation) -> Vec<pb::Reason> {
    let Explanation {
        waiting,
        out_of_sight,
    } = explanation;
    let mut reasons = Vec::new();
    if let Some(Waiting { blockers, ahead }) = waiting {
        reasons.extend(
            blockers
                .iter()
                .map(|blocker| reason(blocker.code(), blocker.to_string())),
        );
        if ahead > 0 {
            let message = format!("{ahead} jobs with the same needs go before it");
            reasons.push(reason("in_line", message));
        }
    }
    if let Some(silent) = out_of_sight {
        let OutOfSight {
            agent,
            since: _,
            stops_in,
        } = silent;
        let message = match stops_in {
            None => format!("agent {agent} is out of sight; the task may still run there"),
            Some(left) => format!(
                "agent {agent} is out of sight; its host stops the task, which counts as stopped in {left}"
            ),
        };
        reasons.push(reason("out_of_sight", message));
    }
    reasons
}

fn job_subject(row: &JobRow) -> String {
    let (id, name) = (row.job.id.short(), &row.job.spec.name);
    let counts = &row.progress.counts;
    match row.outcome() {
        Some(outcome) => format!("{id} {name} ended, at worst {outcome}"),
        None => format!(
            "{id} {name}: {} pending, {} preparing, {} running of {} tasks",
            counts.pending, counts.preparing, counts.running, row.job.array
        ),
    }
}

fn cancel_reason(row: &JobRow) -> Option<pb::Reason> {
    let cancel = row.progress.cancel.as_ref()?;
    let message = match cancel.reason.as_str() {
        "" => "somebody canceled the job".to_owned(),
        why => format!("somebody canceled the job: {why}"),
    };
    Some(reason("canceled", message))
}

/// How many tasks ended otherwise than well.
fn bad_ends(row: &JobRow) -> Vec<pb::Reason> {
    let counts = &row.progress.counts;
    let mut reasons = Vec::new();
    for outcome in Outcome::ALL
        .into_iter()
        .filter(|outcome| *outcome != Outcome::Succeeded)
    {
        let count = counts.ended(outcome);
        if count > 0 {
            let id = row.job.id.short();
            let message = format!(
                "{count} of {} tasks ended {outcome}; see: muster ps {id} --state {outcome}",
                row.job.array
            );
            reasons.push(reason(outcome.as_str(), message));
        }
    }
    reasons
}

fn task_subject(row: &JobRow, index: u32, entry: Option<&TaskEntry>) -> String {
    let name = format!("{}.{index} {}", row.job.id.short(), row.job.spec.name);
    let Some(entry) = entry else {
        let withdrawn = &row.progress.withdrawn;
        let end = withdrawn
            .iter()
            .find(|withdrawn| withdrawn.tasks.contains(index));
        return match end {
            Some(withdrawn) => format!("{name} ended {} without an attempt", withdrawn.end),
            None => format!("{name} is pending"),
        };
    };
    let agent = &entry.row.agent;
    match &entry.row.state {
        RowState::Pending { .. } => format!("{name} is pending after attempt {}", entry.row.last),
        RowState::Assigned => format!("{name} is assigned to agent {agent}"),
        RowState::Preparing => format!("{name} is preparing on agent {agent}"),
        RowState::Running => format!("{name} is running on agent {agent}"),
        RowState::Ended { end, .. } => match entry.row.last.0 {
            1 => format!("{name} ended {end} in its only attempt"),
            attempts => format!("{name} ended {end} after {attempts} attempts"),
        },
    }
}

fn task_reasons(row: &JobRow, entry: &TaskEntry) -> Vec<pb::Reason> {
    let RowState::Ended { end, .. } = &entry.row.state else {
        return grown(row, entry);
    };
    let mut reasons = vec![reason(end.reason.as_str(), end_in_words(end))];
    reasons.extend(grown(row, entry));
    let (spent, policy) = (entry.row.spent, &row.job.spec.retry);
    match end.outcome {
        Outcome::Succeeded | Outcome::Canceled => {}
        Outcome::Failed | Outcome::Oom | Outcome::Timeout => {
            let message = format!("{} of {} user retries were used", spent.user, policy.user);
            reasons.push(reason("not_retried", message));
        }
        Outcome::Lost | Outcome::Preempted | Outcome::ImageError | Outcome::InfraError => {
            let message = format!(
                "{} of {} infra retries were used",
                spent.infra, policy.infra
            );
            reasons.push(reason("not_retried", message));
        }
    }
    reasons
}

/// What a task asks for that a retry rule has let grow.
fn grown(row: &JobRow, entry: &TaskEntry) -> Vec<pb::Reason> {
    let (grown, of_job) = (entry.row.spent.memory, row.job.memory(0));
    if grown == 0 {
        return Vec::new();
    }
    let message = format!("it asks for {grown} bytes of memory by now, the job for {of_job}");
    vec![reason("memory_grown", message)]
}

fn end_in_words(end: &End) -> String {
    let exit = end
        .exit_code
        .map(|code| format!("the process ended with exit code {code}"));
    match (exit, end.message.as_str()) {
        (Some(exit), "") => exit,
        (Some(exit), message) => format!("{exit}; {message}"),
        (None, "") => end.to_string(),
        (None, message) => message.to_owned(),
    }
}
