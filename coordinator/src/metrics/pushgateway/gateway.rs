//! The push gateway's HTTP interface, as far as it is used: replace a group, delete a group, list them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_core::ids::{JobName, TeamName};
use reqwest::{Client, StatusCode, Url, redirect};

use super::super::TASK_ATTEMPTS;

const DEADLINE: Duration = Duration::from_secs(5);
/// Of an answer that says no, for the log.
const ANSWER_MAX: usize = 300;
/// Of the list of groups.
const LIST_MAX: usize = 32 << 20;

/// What a group is called: tasks of the same team and job name share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) team: TeamName,
    pub(super) job_name: JobName,
}

/// Why the gateway does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// It was reached and said no; the same text will be refused again.
    #[error("the push gateway refused: {answer}")]
    Refused { answer: String },
    #[error("the push gateway answered {status}")]
    Trouble { status: StatusCode },
    #[error("the push gateway could not be reached")]
    Unreachable { source: reqwest::Error },
    #[error("the push gateway's list of groups is not what it should be")]
    OddList { source: serde_json::Error },
    #[error("the push gateway's list of groups has {length} bytes; at most {LIST_MAX} are read")]
    LongList { length: usize },
}

#[derive(Debug, Clone)]
pub(super) struct Gateway {
    base: Url,
    http: Client,
}

impl Gateway {
    pub(super) fn new(base: Url) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .timeout(DEADLINE)
        };
        // Without a CA bundle on the host the first build fails, even for plain HTTP.
        let http = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())?;
        Ok(Self { base, http })
    }

    /// Makes `text` all there is in the group.
    pub(super) async fn put(&self, key: &GroupKey, text: String) -> Result<(), PushError> {
        let request = self
            .http
            .put(self.group(key))
            .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            .body(text);
        checked(request).await.map(|_| ())
    }

    pub(super) async fn delete(&self, key: &GroupKey) -> Result<(), PushError> {
        checked(self.http.delete(self.group(key))).await.map(|_| ())
    }

    /// The groups that a muster made, this one or an earlier one.
    pub(super) async fn groups(&self) -> Result<Vec<GroupKey>, PushError> {
        let url = self.path(&["api", "v1", "metrics"]);
        let answer = checked(self.http.get(url)).await?;
        let body = answer.bytes().await.map_err(unreachable_by)?;
        if body.len() > LIST_MAX {
            return Err(PushError::LongList { length: body.len() });
        }
        let list: GroupList =
            serde_json::from_slice(&body).map_err(|source| PushError::OddList { source })?;
        Ok(list.data.iter().filter_map(ours).collect())
    }

    /// Names go in base64, so that they may hold anything that a path may not.
    fn group(&self, key: &GroupKey) -> Url {
        let GroupKey { team, job_name } = key;
        let (job, team) = (
            URL_SAFE_NO_PAD.encode(job_name.as_str()),
            URL_SAFE_NO_PAD.encode(team.as_str()),
        );
        self.path(&["metrics", "job@base64", &job, "team@base64", &team])
    }

    fn path(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("http addresses have a path")
            .pop_if_empty()
            .extend(parts);
        url
    }
}

#[derive(serde::Deserialize)]
struct GroupList {
    data: Vec<serde_json::Map<String, serde_json::Value>>,
}

fn ours(group: &serde_json::Map<String, serde_json::Value>) -> Option<GroupKey> {
    let labels = group.get("labels")?;
    let label = |name| labels.get(name).and_then(serde_json::Value::as_str);
    group.get(TASK_ATTEMPTS)?;
    Some(GroupKey {
        team: TeamName::parse(label("team")?).ok()?,
        job_name: JobName::parse(label("job")?).ok()?,
    })
}

async fn checked(request: reqwest::RequestBuilder) -> Result<reqwest::Response, PushError> {
    let answer = request.send().await.map_err(unreachable_by)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::BAD_REQUEST {
        let text = answer.text().await.unwrap_or_default();
        let answer = text.chars().take(ANSWER_MAX).collect();
        return Err(PushError::Refused { answer });
    }
    Err(PushError::Trouble { status })
}

/// The address may hold a password.
fn unreachable_by(error: reqwest::Error) -> PushError {
    PushError::Unreachable {
        source: error.without_url(),
    }
}
