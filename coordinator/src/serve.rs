//! The gRPC listener.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1::admin_service_server::AdminServiceServer;
use muster_proto::v1::agent_service_server::AgentServiceServer;
use muster_proto::v1::channel_service_server::ChannelServiceServer;
use muster_proto::v1::job_service_server::JobServiceServer;
use muster_proto::v1::manifest_service_server::ManifestServiceServer;
use muster_proto::v1::rollout_service_server::RolloutServiceServer;
use muster_proto::v1::session_service_server::SessionServiceServer;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;

use crate::api::Shared;
use crate::api::admin::Admin;
use crate::api::agents::Agents;
use crate::api::channels::Channels;
use crate::api::jobs::Jobs;
use crate::api::manifests::Manifests;
use crate::api::rollouts::Rollouts;
use crate::listen::Listen;
use crate::session::Sessions;
use crate::store::Store;
use crate::telemetry::grpc_span;

/// Largest message that is read: a submission of many jobs. What is larger is refused unread.
const MESSAGE_MAX: usize = 16 << 20;
/// Open calls and streams of one connection.
const STREAMS_MAX: u32 = 1_024;
/// HTTP/2 pings find a peer that is gone without a word.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that a peer may send ahead on one stream, and on all of a connection. Fixed: measuring what a link takes needs
/// pings.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// For open calls when the coordinator ends. Streams are ended by their own token.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// A bound listener.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    pub(crate) async fn bind(listen: &Listen) -> std::io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => bind_unix(path).map(Self::Unix),
        }
    }

    /// As clients write it.
    pub(crate) fn address(&self) -> std::io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
                Ok(format!("unix://{}", path.display()))
            }
        }
    }
}

/// Only the owner may connect. A socket that a dead process left behind is replaced; the data
/// directory's lock says that it is dead.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Everything that is served over gRPC.
pub(crate) async fn routes<S: Store>(
    shared: Arc<Shared<S>>,
    sessions: Sessions,
    admin: Admin<S>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<JobServiceServer<Jobs<S>>>().await;
    health.set_serving::<AgentServiceServer<Agents<S>>>().await;
    health
        .set_serving::<ChannelServiceServer<Channels<S>>>()
        .await;
    health
        .set_serving::<RolloutServiceServer<Rollouts<S>>>()
        .await;
    health
        .set_serving::<ManifestServiceServer<Manifests<S>>>()
        .await;
    health.set_serving::<SessionServiceServer<Sessions>>().await;
    let reflect = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(muster_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let jobs = JobServiceServer::new(Jobs(shared.clone())).max_decoding_message_size(MESSAGE_MAX);
    let sessions = SessionServiceServer::new(sessions).max_decoding_message_size(MESSAGE_MAX);
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(jobs)
        .add_service(AgentServiceServer::new(Agents(shared.clone())))
        .add_service(ChannelServiceServer::new(Channels(shared.clone())))
        .add_service(RolloutServiceServer::new(Rollouts(shared.clone())))
        .add_service(ManifestServiceServer::new(Manifests(shared)))
        .add_service(AdminServiceServer::new(admin))
        .add_service(sessions)
        .add_service(health_service)
        .add_service(reflect().build_v1()?)
        // Older clients ask for this one.
        .add_service(reflect().build_v1alpha()?);
    Ok(routes.routes())
}

/// Serves until `stop`, and then for up to 2 s what is open.
pub(crate) async fn serve(
    bound: Bound,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let router = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_DEADLINE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .layer(CatchPanicLayer::new())
        .layer(
            TraceLayer::new_for_grpc()
                // A refused request is the client's business, not an error of ours.
                .on_failure(())
                .make_span_with(grpc_span),
        )
        .add_routes(routes);
    let ended = stop.clone().cancelled_owned();
    let serving = async {
        match bound {
            Bound::Tcp(listener) => {
                // The builder's own option does not reach a listener that is passed in; without it every
                // other answer waits 40 ms for an acknowledgement.
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, ended).await
            }
            Bound::Unix(listener) => {
                let incoming = UnixListenerStream::new(listener);
                router.serve_with_incoming_shutdown(incoming, ended).await
            }
        }
    };
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        biased;
        result = serving => result,
        () = too_late => Ok(()),
    }
}
