//! What taking a restored store over means.

use muster_proto::v1;
use serde::Serialize;

use crate::render::{span, words};

#[derive(Debug, Serialize)]
pub(crate) struct AdoptionJson {
    why: String,
    backup: Option<String>,
    called: Vec<String>,
    missing: Vec<String>,
    taken_over: u32,
    again: Vec<TasksJson>,
    lost: Vec<TasksJson>,
    strays: Vec<StrayJson>,
}

#[derive(Debug, Serialize)]
struct TasksJson {
    job: String,
    name: String,
    tasks: Vec<RangeJson>,
}

#[derive(Debug, Serialize)]
struct RangeJson {
    first: u32,
    last: u32,
}

#[derive(Debug, Serialize)]
struct StrayJson {
    job: String,
    index: u32,
    number: u32,
    agent: String,
    end: Option<String>,
}

impl From<v1::AdoptResponse> for AdoptionJson {
    fn from(adoption: v1::AdoptResponse) -> Self {
        let v1::AdoptResponse {
            why,
            backup,
            called,
            missing,
            taken_over,
            again,
            lost,
            strays,
        } = adoption;
        Self {
            why,
            backup: span::rfc3339(backup),
            called,
            missing,
            taken_over,
            again: again.into_iter().map(TasksJson::from).collect(),
            lost: lost.into_iter().map(TasksJson::from).collect(),
            strays: strays.into_iter().map(StrayJson::from).collect(),
        }
    }
}

impl From<v1::AdoptedTasks> for TasksJson {
    fn from(of: v1::AdoptedTasks) -> Self {
        let v1::AdoptedTasks { job, name, tasks } = of;
        let ranges = tasks
            .into_iter()
            .map(|v1::IndexRange { first, last }| RangeJson { first, last });
        Self {
            job,
            name,
            tasks: ranges.collect(),
        }
    }
}

impl From<v1::StrayAttempt> for StrayJson {
    fn from(stray: v1::StrayAttempt) -> Self {
        let v1::StrayAttempt {
            attempt,
            agent,
            end,
        } = stray;
        let v1::AttemptId { job, index, number } = attempt.unwrap_or_default();
        Self {
            job,
            index,
            number,
            agent,
            end: end.as_ref().map(words::end),
        }
    }
}
