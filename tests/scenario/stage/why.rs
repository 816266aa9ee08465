//! The attempts of a task, as `muster why` would list them.

use muster_core::effect::Because;
use muster_core::ids::TaskId;
use muster_core::task::{RowState, TaskRow};

use super::Stage;
use crate::command::{Command, target};
use crate::words::digest_name;

impl Stage {
    pub(super) fn why(&self, command: &Command<'_>) -> Vec<String> {
        let (job, index, _) = target(command.word(0));
        let index = index.expect("JOB.INDEX").parse().expect("one index");
        let task = TaskId {
            job: self.jobs[job].id,
            index,
        };
        let attempts = self.attempts.iter().filter(|(id, _)| id.task == task);
        let mut lines: Vec<String> = attempts
            .map(|(id, attempt)| {
                let because = match attempt.because {
                    Because::First => "the first".to_owned(),
                    Because::UserRetry { number, allowed } => {
                        format!("user retry {number} of {allowed}")
                    }
                    Because::InfraRetry { number, allowed } => {
                        format!("infra retry {number} of {allowed}")
                    }
                    Because::FreeRetry => "a free retry".to_owned(),
                    Because::Forgiven => "a retry that the release has to answer for".to_owned(),
                };
                let end = attempt
                    .end
                    .as_ref()
                    .map_or_else(|| "lives".to_owned(), ToString::to_string);
                let late = attempt
                    .late
                    .as_ref()
                    .map(|late| format!("; came late: {late}"));
                let (agent, image) = (&attempt.agent, digest_name(attempt.image));
                format!(
                    "#{} {because}, on {agent} with {image}: {end}{}",
                    id.number,
                    late.unwrap_or_default()
                )
            })
            .collect();
        if let Some(TaskRow {
            state: RowState::Pending { not_before, .. },
            ..
        }) = self.tasks.get(&task)
            && *not_before > self.now
        {
            lines.push(format!("the next one in {}", not_before.since(self.now)));
        }
        lines
    }
}
