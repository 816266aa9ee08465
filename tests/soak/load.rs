//! The jobs: what is submitted, and how each task must end.

use std::time::Duration;

use muster_proto::v1 as pb;
use muster_tests::{cluster, sample};

/// Tasks of one job. Small, so that jobs end and are forgotten all the time.
pub(crate) const ARRAY: u32 = 200;

/// What a job's tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Short,
    Long,
    /// Prints some lines.
    Prints,
    /// Exits with 3, and is tried twice.
    Fails,
    /// The engine can't start it.
    Impossible,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Short,
        Self::Long,
        Self::Prints,
        Self::Fails,
        Self::Impossible,
    ];

    /// Of the job with this number.
    pub(crate) fn of(job: u32) -> Self {
        match job % 50 {
            1 | 26 => Self::Prints,
            3 => Self::Fails,
            5 => Self::Impossible,
            other if other.is_multiple_of(2) => Self::Short,
            _ => Self::Long,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Prints => "prints",
            Self::Fails => "fails",
            Self::Impossible => "impossible",
        }
    }

    pub(crate) const fn takes(self) -> Duration {
        match self {
            Self::Long => Duration::from_secs(2),
            Self::Short | Self::Prints | Self::Fails | Self::Impossible => {
                Duration::from_millis(100)
            }
        }
    }

    /// How each of its tasks must end, whatever happens to hosts, engines and connections.
    pub(crate) const fn outcome(self) -> pb::Outcome {
        match self {
            Self::Short | Self::Long | Self::Prints => pb::Outcome::Succeeded,
            Self::Fails => pb::Outcome::Failed,
            Self::Impossible => pb::Outcome::ImageError,
        }
    }

    /// Retries of its own that it must have used.
    pub(crate) const fn user_retries(self) -> u32 {
        match self {
            Self::Fails => 1,
            Self::Short | Self::Long | Self::Prints | Self::Impossible => 0,
        }
    }

    /// The request for the job with this number. Its key makes it the same job however often it is sent.
    pub(crate) fn submission(self, job: u32, array: u32, run: &str) -> pb::SubmitRequest {
        let mut spec = cluster::spec(&sample::image(1).to_string(), self.word());
        let retry = spec.retry.get_or_insert_default();
        retry.user = Some(self.user_retries());
        // More than a soak ever needs; one that is used up shows as a failure of the platform.
        retry.infra = Some(5);
        cluster::submission(spec, array, &format!("{run}-{job}"))
    }
}
