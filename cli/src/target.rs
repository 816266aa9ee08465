//! What a command is about: a job, tasks of it, or one attempt.

use std::fmt;
use std::str::FromStr;

use muster_core::ids::is_job_id_end;
use muster_core::ranges::Ranges;

/// `JOB`, `JOB.INDEX`, `JOB.RANGES` or `JOB.INDEX#ATTEMPT`; `@last` stands for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The end of a job's id, eight characters or more, or `@last`.
    pub(crate) job: String,
    pub(crate) part: Part,
}

/// Which part of the job is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Tasks(Ranges),
    Attempt { index: u32, number: u32 },
}

/// Stands for the team's newest job.
pub(crate) const LAST: &str = "@last";

/// Why a text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTarget {
    #[error(
        "{text:?} is not the id of a job: at least its last 8 characters of 0-9 and a-z without i, l, o, u"
    )]
    Job { text: String },
    #[error("{text:?} is not an index or a range such as 3 or 12-40; indexes start at 0")]
    Tasks { text: String },
    #[error("{text:?} is not the number of an attempt; the first is 1, as in JOB.0#1")]
    Attempt { text: String },
    #[error("{text} names more than a job; this command takes a JOB")]
    WantsJob { text: String },
    #[error("{text} names more than one task; this command takes one, such as {job}.0")]
    WantsTask { text: String, job: String },
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (job, rest) = match text.split_once('.') {
            Some((job, rest)) => (job, Some(rest)),
            None => (text, None),
        };
        if job != LAST && !is_job_id_end(job) {
            return Err(BadTarget::Job {
                text: job.to_owned(),
            });
        }
        Ok(Self {
            job: job.to_owned(),
            part: rest.map_or(Ok(Part::Whole), parse_part)?,
        })
    }
}

fn parse_part(text: &str) -> Result<Part, BadTarget> {
    let bad_tasks = |part: &str| BadTarget::Tasks {
        text: part.to_owned(),
    };
    if let Some((index, number)) = text.split_once('#') {
        let bad = || BadTarget::Attempt {
            text: number.to_owned(),
        };
        let number = number.parse().ok().filter(|number| *number > 0);
        return Ok(Part::Attempt {
            index: index.parse().map_err(|_| bad_tasks(index))?,
            number: number.ok_or_else(bad)?,
        });
    }
    let ranges: Ranges = text.parse().map_err(|_| bad_tasks(text))?;
    if ranges.is_empty() {
        return Err(bad_tasks(text));
    }
    Ok(Part::Tasks(ranges))
}

impl Target {
    /// For commands about a whole job.
    pub(crate) fn whole_job(&self) -> Result<&str, BadTarget> {
        match self.part {
            Part::Whole => Ok(&self.job),
            Part::Tasks(_) | Part::Attempt { .. } => Err(BadTarget::WantsJob {
                text: self.to_string(),
            }),
        }
    }

    /// For commands about one task: its index, if one is named, and the attempt, if one is named.
    pub(crate) fn one_task(&self) -> Result<(Option<u32>, Option<u32>), BadTarget> {
        match &self.part {
            Part::Whole => Ok((None, None)),
            Part::Attempt { index, number } => Ok((Some(*index), Some(*number))),
            Part::Tasks(ranges) => {
                let first = ranges.iter().next().map(|range| *range.start());
                first
                    .filter(|_| ranges.count() == 1)
                    .map(|index| (Some(index), None))
                    .ok_or_else(|| BadTarget::WantsTask {
                        text: self.to_string(),
                        job: self.job.clone(),
                    })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Part::Whole => f.write_str(&self.job),
            Part::Tasks(ranges) => write!(f, "{}.{ranges}", self.job),
            Part::Attempt { index, number } => write!(f, "{}.{index}#{number}", self.job),
        }
    }
}

/// The end of an id that people type.
pub(crate) fn short(id: &str) -> &str {
    let start = id.len().saturating_sub(muster_core::ids::SHORT_ID_LENGTH);
    id.get(start..).unwrap_or(id)
}

#[cfg(test)]
mod tests;
