//! Stands between an agent and its coordinator, and keeps the reports that pass.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _};
use muster_proto::v1 as pb;
use muster_proto::v1::session_service_client::SessionServiceClient;
use muster_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

type Reports = Arc<Mutex<Vec<pb::Report>>>;

/// Gone when it is dropped.
#[derive(Debug)]
pub(super) struct Tap {
    /// Where the agent dials.
    pub(super) address: String,
    reports: Reports,
    _running: AbortOnDropHandle<Result<(), tonic::transport::Error>>,
}

impl Tap {
    pub(super) async fn before(coordinator: Channel) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let reports = Reports::default();
        let relay = Relay {
            coordinator: SessionServiceClient::new(coordinator),
            reports: Arc::clone(&reports),
        };
        let server = Server::builder().add_service(SessionServiceServer::new(relay));
        let running = server.serve_with_incoming(TcpListenerStream::new(listener));
        Self {
            address,
            reports,
            _running: AbortOnDropHandle::new(tokio::spawn(running)),
        }
    }

    /// What the agent reported so far, in its order.
    pub(super) fn reports(&self) -> Vec<pb::Report> {
        self.reports.lock().unwrap().clone()
    }
}

struct Relay {
    coordinator: SessionServiceClient<Channel>,
    reports: Reports,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Relay {
    type OpenStream = Answers<pb::CoordinatorMessage>;
    type ShipLogsStream = Answers<pb::LogAck>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let reports = Arc::clone(&self.reports);
        let messages = whole(request.into_inner()).inspect(move |message| {
            if let Some(pb::agent_message::Kind::Reports(new)) = &message.kind {
                reports.lock().unwrap().extend(new.reports.clone());
            }
        });
        let answers = self.coordinator.clone().open(messages).await?;
        Ok(Response::new(Box::pin(answers.into_inner())))
    }

    async fn ship_logs(
        &self,
        request: Request<Streaming<pb::LogChunk>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        let chunks = whole(request.into_inner());
        let answers = self.coordinator.clone().ship_logs(chunks).await?;
        Ok(Response::new(Box::pin(answers.into_inner())))
    }
}

/// What arrives until the stream ends or breaks.
fn whole<T: Send + 'static>(messages: Streaming<T>) -> impl Stream<Item = T> + Send {
    messages
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(|message| std::future::ready(message.ok()))
}
