//! Between the wire's messages and the agent's words.

use muster_core::ids::{AttemptId, AttemptNo, TaskId};
use muster_core::outcome::{End, Outcome};
use muster_core::time::{Millis, Timestamp};
use muster_proto::v1 as pb;

/// `None`: the job's id is none.
pub(crate) fn attempt_id(wire: &pb::AttemptId) -> Option<AttemptId> {
    let pb::AttemptId { job, index, number } = wire;
    Some(AttemptId {
        task: TaskId {
            job: job.parse().ok()?,
            index: *index,
        },
        number: AttemptNo(*number),
    })
}

pub(crate) fn from_attempt_id(id: AttemptId) -> pb::AttemptId {
    let AttemptId { task, number } = id;
    let TaskId { job, index } = task;
    pb::AttemptId {
        job: job.to_string(),
        index,
        number: number.0,
    }
}

pub(crate) fn from_end(end: &End) -> pb::End {
    let End {
        outcome,
        exit_code,
        reason,
        message,
    } = end;
    let outcome = match outcome {
        Outcome::Succeeded => pb::Outcome::Succeeded,
        Outcome::Failed => pb::Outcome::Failed,
        Outcome::Oom => pb::Outcome::Oom,
        Outcome::Timeout => pb::Outcome::Timeout,
        Outcome::Canceled => pb::Outcome::Canceled,
        Outcome::Lost => pb::Outcome::Lost,
        Outcome::Preempted => pb::Outcome::Preempted,
        Outcome::ImageError => pb::Outcome::ImageError,
        Outcome::InfraError => pb::Outcome::InfraError,
    };
    pb::End {
        outcome: outcome.into(),
        exit_code: *exit_code,
        reason: reason.as_str().to_owned(),
        message: message.clone(),
    }
}

pub(crate) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.0 % 1000).expect("below 1000") * 1_000_000;
    prost_types::Timestamp {
        seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX),
        nanos,
    }
}

pub(crate) fn duration(span: Millis) -> prost_types::Duration {
    let nanos = i32::try_from(span.0 % 1000).expect("below 1000") * 1_000_000;
    prost_types::Duration {
        seconds: i64::try_from(span.0 / 1000).unwrap_or(i64::MAX),
        nanos,
    }
}

/// `None` for a negative one.
pub(crate) fn millis(wire: &prost_types::Duration) -> Option<Millis> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u64::try_from(wire.nanos).ok()?;
    Some(Millis(
        seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000)?,
    ))
}

/// The number of each report about an attempt. They are fixed, so that they are the same when a
/// restarted agent repeats one.
pub(crate) mod seq {
    /// Accepted or refused.
    pub(crate) const ANSWER: u64 = 1;
    pub(crate) const STARTED: u64 = 2;
    pub(crate) const ENDED: u64 = 3;
}

pub(crate) fn report(id: AttemptId, seq: u64, news: pb::report::News) -> pb::Report {
    pb::Report {
        attempt: Some(from_attempt_id(id)),
        seq,
        news: Some(news),
    }
}
