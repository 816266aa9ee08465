//! The HTTP side: takes a delivery, has its adapter read it, passes the hints on, answers at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use muster_core::time::Timestamp;
use serde_json::json;

use crate::metrics::Metrics;
use crate::poll::Follower;

use super::limit::{Kind, Limits};
use super::{Accepted, Adapter, Config, Delivery, Rejected};

const BODY_MAX: usize = 1 << 20;
/// For the whole body: one that trickles in holds a connection and nothing else.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What deliveries are handed to.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    follower: Follower,
    metrics: Metrics,
    limits: Mutex<Limits>,
}

impl Webhooks {
    pub(crate) fn new(config: Config, follower: Follower, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            config,
            follower,
            metrics,
            limits: Mutex::default(),
        }))
    }

    async fn receive(
        &self,
        adapter: Adapter,
        path_token: Option<&str>,
        query_token: Option<&str>,
        request: Request,
    ) -> Result<usize, Rejected> {
        let now = now();
        let source = source(&request);
        if self
            .limits()
            .is_spent(now, (source, adapter, Kind::Rejected))
        {
            return Err(Rejected::TooMany);
        }
        let (parts, body) = request.into_parts();
        let result = match read_body(&parts.headers, body).await {
            Ok(body) => {
                let delivery = Delivery {
                    headers: &parts.headers,
                    body: &body,
                    path_token,
                    query_token,
                    now,
                };
                self.read(adapter, &delivery)
            }
            Err(rejected) => Err(rejected),
        };
        if result.is_err() {
            self.limits().count(now, (source, adapter, Kind::Rejected));
        }
        self.pass_on(adapter, source, now, result?)
    }

    fn read(&self, adapter: Adapter, delivery: &Delivery<'_>) -> Result<Accepted, Rejected> {
        let secrets = self.0.config.secrets.of(adapter);
        if secrets.is_empty() && !self.0.config.loopback {
            return Err(Rejected::NoSecret);
        }
        adapter.read(delivery, secrets)
    }

    /// Returns how many hints were passed on.
    fn pass_on(
        &self,
        adapter: Adapter,
        source: Option<IpAddr>,
        now: Timestamp,
        accepted: Accepted,
    ) -> Result<usize, Rejected> {
        let Accepted { hints, id } = accepted;
        if hints.is_empty() {
            return Ok(0); // of these a push sends many, and they cost nothing
        }
        let key = (source, adapter, Kind::Hints);
        {
            let mut limits = self.limits();
            if limits.is_spent(now, key) {
                return Err(Rejected::TooMany);
            }
            limits.count(now, key);
            if id.is_some_and(|id| !limits.is_new(now, id)) {
                return Ok(0); // it was taken before; the sender missed the answer, or is another one
            }
        }
        let count = hints.len();
        for hint in hints {
            self.0.follower.hint(hint).map_err(|_| Rejected::Busy)?;
        }
        Ok(count)
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.0.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /webhook/ADAPTER` and `POST /webhook/ADAPTER/TOKEN`.
pub(crate) fn routes(webhooks: Webhooks) -> Router {
    Router::new()
        .route("/webhook/{adapter}", post(take))
        .route("/webhook/{adapter}/{token}", post(take))
        .with_state(webhooks)
}

async fn take(
    State(webhooks): State<Webhooks>,
    Path(path): Path<BTreeMap<String, String>>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let word = path.get("adapter").map(String::as_str).unwrap_or_default();
    let Some(adapter) = Adapter::from_word(word) else {
        return answer(&Rejected::NoSuchAdapter);
    };
    let path_token = path.get("token").map(String::as_str);
    let query_token = query.get("token").map(String::as_str);
    let result = webhooks
        .receive(adapter, path_token, query_token, request)
        .await;
    let metrics = &webhooks.0.metrics;
    match result {
        Ok(hints) => {
            let word = if hints == 0 { "ignored" } else { "accepted" };
            metrics.webhook(adapter.as_str(), word);
            tracing::debug!(webhook.adapter = adapter.as_str(), hints, "webhook taken");
            (StatusCode::ACCEPTED, Json(json!({ "hints": hints }))).into_response()
        }
        Err(rejected) => {
            metrics.webhook(adapter.as_str(), rejected.word());
            tracing::warn!(
                webhook.adapter = adapter.as_str(),
                error = %rejected,
                "webhook rejected"
            );
            answer(&rejected)
        }
    }
}

fn answer(rejected: &Rejected) -> Response {
    let body = Json(json!({ "error": rejected.to_string() }));
    (rejected.status(), body).into_response()
}

async fn read_body(headers: &http::HeaderMap, body: Body) -> Result<Vec<u8>, Rejected> {
    let announced = super::header(headers, header::CONTENT_LENGTH.as_str());
    let announced: Option<usize> = announced.and_then(|length| length.parse().ok());
    if announced.is_some_and(|length| length > BODY_MAX) {
        return Err(Rejected::TooLarge);
    }
    tokio::time::timeout(BODY_DEADLINE, collect(body))
        .await
        .unwrap_or(Err(Rejected::TooSlow))
}

async fn collect(body: Body) -> Result<Vec<u8>, Rejected> {
    let mut all = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Rejected::CutOff)?;
        if all.len() + chunk.len() > BODY_MAX {
            return Err(Rejected::TooLarge);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The address at the other end; a proxy in front makes all senders one.
fn source(request: &Request) -> Option<IpAddr> {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(address)| address.ip())
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
