//! The HTTP listener: webhooks, metrics, and whether the coordinator is alive.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::metrics::{self, Metrics};
use crate::poll::Follower;
use crate::webhook::{self, Webhooks};

/// For a request from its head to the answer; reading a webhook's body has a shorter limit of its own.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// For open requests when the coordinator ends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// All routes: `/webhook/…`, `/metrics`, `/healthz`.
pub fn router(webhooks: webhook::Config, follower: Follower, metrics: Metrics) -> Router {
    let own = Router::new()
        .route("/metrics", get(show_metrics))
        .with_state(metrics.clone())
        .route("/healthz", get(async || "ok\n"));
    own.merge(webhook::routes(Webhooks::new(webhooks, follower, metrics)))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_DEADLINE,
        ))
        .layer(CatchPanicLayer::new())
        // Failed answers are logged where they are made.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_failure(()),
        )
}

/// Serves until `stop` is cancelled and open requests are answered, or for 2 s more.
///
/// # Errors
/// If the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let drained = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, service).with_graceful_shutdown(drained);
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        biased;
        result = async { serving.await } => result,
        () = too_late => Ok(()),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> impl axum::response::IntoResponse {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        metrics.text(),
    )
}

/// Names the route and never the address: addresses of webhooks end with secrets.
fn span(request: &Request) -> Span {
    let path = request.uri().path();
    let route = match path.split('/').nth(1) {
        Some("webhook") => "/webhook",
        Some("metrics") => "/metrics",
        Some("healthz") => "/healthz",
        Some(_) | None => "unknown",
    };
    tracing::debug_span!("http.serve", http.method = %request.method(), http.route = route)
}

#[cfg(test)]
mod tests;
