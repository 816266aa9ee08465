//! Jobs, tasks and attempts for clients.

use muster_core::effect::Because;
use muster_core::ids::{AttemptId, TaskId};
use muster_core::job::{Counts, Job, JobProgress};
use muster_core::outcome::{End, Outcome, Usage};
use muster_core::retry::Spent;
use muster_core::task::{RowState, TaskRow};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::duration::{millis_to_wire, time_to_wire};
use super::spec::spec_to_wire;
use crate::store::{AttemptEnded, AttemptRow, JobRow, JobState, LateReport, TaskEntry};

pub(crate) fn job_to_wire(row: &JobRow) -> pb::Job {
    let JobRow {
        job,
        progress,
        rev: _,
    } = row;
    let Job {
        id,
        team,
        spec,
        array,
        key,
        pinned,
        release: _,
        created,
        traceparent: _,
    } = job.as_ref();
    let JobProgress {
        unstarted: _,
        withdrawn: _,
        counts,
        started,
        ended,
        cancel,
        canceling: _,
    } = progress;
    pb::Job {
        id: id.to_string(),
        team: team.to_string(),
        spec: Some(spec_to_wire(spec)),
        array: *array,
        idempotency_key: key.as_ref().map(|key| key.key.clone()).unwrap_or_default(),
        created: Some(time_to_wire(*created)),
        state: state_to_wire(row.state()).into(),
        counts: Some(counts_to_wire(counts)),
        started: started.map(time_to_wire),
        ended: ended.map(time_to_wire),
        digest: pinned
            .as_ref()
            .map(|image| image.digest().to_string())
            .unwrap_or_default(),
        cancel_requested: cancel.is_some(),
        cancel_reason: cancel
            .as_ref()
            .map(|cancel| cancel.reason.clone())
            .unwrap_or_default(),
        outcome: row
            .outcome()
            .map_or(pb::Outcome::Unspecified, outcome_to_wire)
            .into(),
    }
}

const fn state_to_wire(state: JobState) -> pb::JobState {
    match state {
        JobState::Pending => pb::JobState::Pending,
        JobState::Running => pb::JobState::Running,
        JobState::Ended => pb::JobState::Ended,
    }
}

pub(crate) const fn counts_to_wire(counts: &Counts) -> pb::TaskCounts {
    let Counts {
        pending,
        preparing,
        running,
        succeeded,
        failed,
        oom,
        timeout,
        canceled,
        lost,
        preempted,
        image_error,
        infra_error,
        retries,
    } = *counts;
    pb::TaskCounts {
        pending,
        preparing,
        running,
        succeeded,
        failed,
        oom,
        timeout,
        canceled,
        lost,
        preempted,
        image_error,
        infra_error,
        retries,
    }
}

pub(crate) fn task_to_wire(entry: &TaskEntry) -> pb::Task {
    let TaskEntry {
        id: TaskId { job, index },
        row,
        rev: _,
    } = entry;
    let TaskRow {
        state,
        last,
        spent,
        agent,
        image,
        release: _,
        assigned: _,
        started,
    } = row;
    let Spent {
        user,
        infra,
        free: _,
        deaths,
        memory,
    } = *spent;
    let mut is_quarantined = false;
    let (word, end, ended, not_before) = match state {
        RowState::Pending {
            quarantined: true, ..
        } => {
            is_quarantined = true;
            (pb::TaskState::Pending, None, None, None)
        }
        RowState::Pending {
            not_before,
            budget: _,
            quarantined: false,
        } => (pb::TaskState::Pending, None, None, Some(*not_before)),
        RowState::Assigned => (pb::TaskState::Assigned, None, None, None),
        RowState::Preparing => (pb::TaskState::Preparing, None, None, None),
        RowState::Running => (pb::TaskState::Running, None, None, None),
        RowState::Ended { end, at } => (pb::TaskState::Ended, Some(end), Some(*at), None),
    };
    pb::Task {
        job: job.to_string(),
        index: *index,
        state: word.into(),
        end: end.map(end_to_wire),
        attempt: last.0,
        agent: agent.to_string(),
        digest: image.digest().to_string(),
        started: started.map(time_to_wire),
        ended: ended.map(time_to_wire),
        not_before: not_before.map(time_to_wire),
        user_retries_used: user,
        infra_retries_used: infra,
        quarantined: is_quarantined,
        deaths,
        memory_bytes: memory,
    }
}

pub(crate) fn attempt_to_wire(task: TaskId, row: &AttemptRow) -> pb::Attempt {
    let AttemptRow {
        number,
        agent,
        image,
        release: _,
        because,
        assigned,
        started,
        ended,
        late_report,
    } = row;
    let (end, ended_at, usage) = match ended {
        Some(AttemptEnded { at, end, usage }) => (
            Some(end_to_wire(end)),
            Some(time_to_wire(*at)),
            Some(usage_to_wire(usage)),
        ),
        None => (None, None, None),
    };
    pb::Attempt {
        job: task.job.to_string(),
        index: task.index,
        number: number.0,
        agent: agent.to_string(),
        image: image.to_string(),
        assigned: Some(time_to_wire(*assigned)),
        started: started.map(time_to_wire),
        ended: ended_at,
        end,
        usage,
        because: because_in_words(*because),
        late_report: late_report.as_ref().map(late_in_words).unwrap_or_default(),
    }
}

fn because_in_words(because: Because) -> String {
    match because {
        Because::First => "first".to_owned(),
        Because::UserRetry { number, allowed } => format!("user retry {number} of {allowed}"),
        Because::InfraRetry { number, allowed } => format!("infra retry {number} of {allowed}"),
        Because::FreeRetry => "refused or preempted before; costs no retry".to_owned(),
        Because::Forgiven => "failed on a release on trial; costs no retry".to_owned(),
    }
}

fn late_in_words(late: &LateReport) -> String {
    let LateReport { at, end } = late;
    let at = i64::try_from(at.0)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| end.to_string(), |at| format!("{end} at {at}"))
}

pub(crate) fn end_to_wire(end: &End) -> pb::End {
    let End {
        outcome,
        exit_code,
        reason,
        message,
    } = end;
    pb::End {
        outcome: outcome_to_wire(*outcome).into(),
        exit_code: *exit_code,
        reason: reason.as_str().to_owned(),
        message: message.clone(),
    }
}

fn usage_to_wire(usage: &Usage) -> pb::Usage {
    let Usage {
        peak_memory_bytes,
        cpu_micros,
        pull,
        start,
        run,
    } = *usage;
    let seconds = |span: Option<Millis>| span.map(millis_to_wire);
    pb::Usage {
        peak_memory_bytes,
        cpu_seconds: cpu_micros
            .map(|micros| std::time::Duration::from_micros(micros).as_secs_f64()),
        pull: seconds(pull),
        start: seconds(start),
        run: seconds(run),
    }
}

pub(crate) const fn outcome_to_wire(outcome: Outcome) -> pb::Outcome {
    match outcome {
        Outcome::Succeeded => pb::Outcome::Succeeded,
        Outcome::Failed => pb::Outcome::Failed,
        Outcome::Oom => pb::Outcome::Oom,
        Outcome::Timeout => pb::Outcome::Timeout,
        Outcome::Canceled => pb::Outcome::Canceled,
        Outcome::Lost => pb::Outcome::Lost,
        Outcome::Preempted => pb::Outcome::Preempted,
        Outcome::ImageError => pb::Outcome::ImageError,
        Outcome::InfraError => pb::Outcome::InfraError,
    }
}

/// `None` for a value that is unspecified or of a newer version.
pub(crate) fn outcome_from_wire(wire: i32) -> Option<Outcome> {
    let known = |outcome: &Outcome| i32::from(outcome_to_wire(*outcome)) == wire;
    Outcome::ALL.into_iter().find(known)
}

pub(crate) fn attempt_id_to_wire(attempt: AttemptId) -> pb::AttemptId {
    let AttemptId {
        task: TaskId { job, index },
        number,
    } = attempt;
    pb::AttemptId {
        job: job.to_string(),
        index,
        number: number.0,
    }
}
