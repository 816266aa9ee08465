//! Registries' webhooks. Each delivery is a hint to look at a repository and nothing more: muster
//! resolves the tag itself, so a forged delivery costs a look and a lost one waits for the poll.

use std::collections::BTreeSet;

use http::{HeaderMap, StatusCode};
use muster_core::image::{Repository, Tag};
use muster_core::time::Timestamp;

use crate::poll::Hint;

mod distribution;
mod dockerhub;
mod ecr;
mod gar;
mod generic;
mod github;
mod harbor;
mod limit;
mod receive;
mod secrets;

pub(crate) use receive::{Webhooks, routes};
pub use secrets::{BadSecrets, Secret, Secrets};

/// Hints that are taken from one delivery.
const HINTS_MAX: usize = 100;

/// How deliveries are checked.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What senders must know. `MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE`, default none.
    pub secrets: Secrets,
    /// The listener is on loopback: adapters without a secret take every delivery. On any other
    /// address they take none.
    pub loopback: bool,
}

/// Whose deliveries; the word in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Adapter {
    Distribution,
    DockerHub,
    Ecr,
    Gar,
    Generic,
    GitHub,
    Harbor,
}

impl Adapter {
    pub const ALL: [Self; 7] = [
        Self::Distribution,
        Self::DockerHub,
        Self::Ecr,
        Self::Gar,
        Self::Generic,
        Self::GitHub,
        Self::Harbor,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::DockerHub => "dockerhub",
            Self::Ecr => "ecr",
            Self::Gar => "gar",
            Self::Generic => "generic",
            Self::GitHub => "github",
            Self::Harbor => "harbor",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|adapter| adapter.as_str() == word)
    }

    /// Checks that the sender knows one of `secrets` (none: anybody may send) and reads the body.
    fn read(self, delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
        match self {
            Self::Distribution => distribution::read(delivery, secrets),
            Self::DockerHub => dockerhub::read(delivery, secrets),
            Self::Ecr => ecr::read(delivery, secrets),
            Self::Gar => gar::read(delivery, secrets),
            Self::Generic => generic::read(delivery, secrets),
            Self::GitHub => github::read(delivery, secrets),
            Self::Harbor => harbor::read(delivery, secrets),
        }
    }
}

/// One request, as adapters see it.
#[derive(Debug, Clone, Copy)]
struct Delivery<'a> {
    headers: &'a HeaderMap,
    body: &'a [u8],
    /// The part of the path after the adapter's name.
    path_token: Option<&'a str>,
    /// The value of `token` in the query.
    query_token: Option<&'a str>,
    now: Timestamp,
}

/// What a good delivery says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    /// None if it is about something that no channel can follow: a blob, a pull, a ping.
    hints: Vec<Hint>,
    /// A name that only this delivery has, if it was signed.
    id: Option<String>,
}

impl Accepted {
    /// In order, each once, at most as many as one delivery may cause.
    fn hints(hints: impl IntoIterator<Item = Hint>) -> Self {
        let unique: BTreeSet<_> = hints.into_iter().take(HINTS_MAX).collect();
        Self {
            hints: unique.into_iter().collect(),
            id: None,
        }
    }
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("no adapter of that name")]
    NoSuchAdapter,
    #[error("no secret is configured for this adapter")]
    NoSecret,
    #[error("the signature or token is missing or wrong")]
    Unauthorized,
    #[error("the timestamp is more than 5 minutes off")]
    Stale,
    #[error("the body is not the JSON that this registry sends")]
    BadBody { source: serde_json::Error },
    #[error("{field} is missing or not understood")]
    BadField { field: &'static str },
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    #[error("the body did not arrive")]
    CutOff,
    #[error("the body did not arrive within 10 s")]
    TooSlow,
    #[error("more than 60 deliveries in a minute")]
    TooMany,
    #[error("too many hints wait; the poll will look")]
    Busy,
}

impl Rejected {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchAdapter => StatusCode::NOT_FOUND,
            Self::NoSecret | Self::Unauthorized | Self::Stale => StatusCode::UNAUTHORIZED,
            Self::BadBody { .. } | Self::BadField { .. } | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A word for metrics.
    const fn word(&self) -> &'static str {
        match self {
            Self::NoSuchAdapter | Self::BadBody { .. } | Self::BadField { .. } | Self::CutOff => {
                "bad_request"
            }
            Self::NoSecret | Self::Unauthorized | Self::Stale => "unauthorized",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::TooMany => "too_many",
            Self::Busy => "busy",
        }
    }
}

/// Reads JSON of which only some fields matter; unknown ones are skipped.
fn json<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejected> {
    serde_json::from_slice(body).map_err(|source| Rejected::BadBody { source })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What stands in `Authorization`, without `Bearer` before it.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let value = header(headers, "authorization")?;
    Some(value.strip_prefix("Bearer ").unwrap_or(value))
}

/// Takes a fixed secret that the sender repeats each time.
fn check_token(secrets: &[Secret], presented: Option<&str>) -> Result<(), Rejected> {
    let known = |presented: &str| {
        // Every secret is compared, so that the time says nothing about which one matched.
        let matches = secrets.iter().map(|secret| secret.is(presented));
        matches.fold(false, |any, one| any | one)
    };
    if secrets.is_empty() || presented.is_some_and(known) {
        Ok(())
    } else {
        Err(Rejected::Unauthorized)
    }
}

/// `HOST/PATH` as a repository; absent if `host` could not stand in a reference.
fn repository(host: &str, path: &str) -> Option<Repository> {
    let is_host = host.contains(['.', ':']) || host == "localhost";
    is_host.then(|| format!("{host}/{path}").parse().ok())?
}

/// A tag, or nothing if it is empty or none.
fn tag(text: Option<&str>) -> Option<Tag> {
    text.and_then(|text| Tag::parse(text).ok())
}

#[cfg(test)]
mod tests;
