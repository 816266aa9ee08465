//! How a task ended, what is said about it, and the exit code it means.

use muster_core::outcome::{EndReason, Outcome};
use muster_core::time::Millis;
use muster_proto::v1;

use crate::exit::Exit;
use crate::render::{span, words};

/// The end of the task that was followed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending {
    /// `None`: an attempt's output was asked for, and the task goes on.
    pub(crate) end: Option<v1::End>,
    /// From submission to the end.
    span: Option<Millis>,
}

impl Ending {
    pub(crate) const GOES_ON: Self = Self {
        end: None,
        span: None,
    };

    pub(crate) fn of_task(task: &v1::Task, created: Option<prost_types::Timestamp>) -> Self {
        Self {
            end: Some(task.end.clone().unwrap_or_default()),
            span: span::between(created, task.ended),
        }
    }

    /// For a task that was never assigned: the job says how it ended.
    pub(crate) fn of_job(job: Option<&v1::Job>) -> Self {
        let outcome = job.map_or(v1::Outcome::Unspecified, v1::Job::outcome);
        Self {
            end: Some(v1::End {
                outcome: outcome.into(),
                message: job.map(|job| job.cancel_reason.clone()).unwrap_or_default(),
                ..v1::End::default()
            }),
            span: job.and_then(|job| span::between(job.created, job.ended)),
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        let end = self.end.as_ref()?;
        // An outcome that this version does not know is nobody's success.
        Some(words::outcome(end.outcome()).unwrap_or(Outcome::InfraError))
    }

    pub(crate) fn docker_exit(&self) -> Exit {
        let (Some(end), Some(outcome)) = (&self.end, self.outcome()) else {
            return Exit::DONE;
        };
        Exit::as_docker(outcome, end.exit_code, EndReason::from_word(&end.reason))
    }

    pub(crate) fn class_exit(&self) -> Exit {
        self.outcome().map_or(Exit::DONE, Exit::of_class)
    }

    /// `7f3kq2mp succeeded in 1.9 s (pull 1.4 s, start 0.2 s, run 0.3 s)`.
    pub(crate) fn text(&self, id: &str, usage: Option<&v1::Usage>) -> String {
        let Some(end) = &self.end else {
            return format!("{id} goes on");
        };
        let mut text = format!("{id} {}", words::end(end));
        if let Some(span) = self.span {
            text.push_str(&format!(" in {span}"));
        }
        let parts = usage.map(usage_parts).unwrap_or_default();
        if !parts.is_empty() {
            text.push_str(&format!(" ({})", parts.join(", ")));
        }
        if self.outcome() != Some(Outcome::Succeeded) {
            text.push_str(&format!("    see: muster why {id}"));
        }
        text
    }
}

fn usage_parts(usage: &v1::Usage) -> Vec<String> {
    let parts = [
        ("pull", span::millis(usage.pull)),
        ("start", span::millis(usage.start)),
        ("run", span::millis(usage.run)),
    ];
    let measured = parts
        .into_iter()
        .filter_map(|(name, span)| span.map(|span| (name, span)))
        // An image that was there is not worth a word.
        .filter(|(name, span)| *name != "pull" || span.0 > 0);
    measured
        .map(|(name, span)| format!("{name} {span}"))
        .collect()
}

#[cfg(test)]
mod tests;
