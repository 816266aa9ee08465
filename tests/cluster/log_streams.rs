//! An agent has a stream for output only while there is some.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use muster_agent::runtime::fake::Behaviour;
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use muster_proto::v1::session_service_client::SessionServiceClient;
use muster_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use muster_tests::cluster::{Cluster, Host, reference, spec, until};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// Streams of output, ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Streams {
    opened: usize,
    ended: usize,
}

/// Stands between an agent and its coordinator, passes everything on, and counts.
#[derive(Clone)]
struct Relay {
    coordinator: SessionServiceClient<Channel>,
    streams: Arc<Mutex<Streams>>,
}

impl Relay {
    fn count(&self, change: impl FnOnce(&mut Streams)) {
        change(&mut self.streams.lock().unwrap());
    }
}

/// Counted as ended when it is dropped.
struct Open(Relay);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|streams| streams.ended += 1);
    }
}

/// The same request, of which `held` is dropped with its stream.
fn passed_on<T: Send + 'static>(
    request: Request<Streaming<T>>,
    held: Option<Open>,
) -> Request<impl futures_util::Stream<Item = T> + Send + 'static> {
    let (metadata, extensions, messages) = request.into_parts();
    let messages = messages
        .scan((), |(), message| std::future::ready(message.ok()))
        .inspect(move |_| {
            let _ = &held;
        });
    Request::from_parts(metadata, extensions, messages)
}

#[tonic::async_trait]
impl SessionService for Relay {
    type OpenStream = Streaming<pb::CoordinatorMessage>;
    type ShipLogsStream = Streaming<pb::LogAck>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut coordinator = self.coordinator.clone();
        coordinator.open(passed_on(request, None)).await
    }

    async fn ship_logs(
        &self,
        request: Request<Streaming<pb::LogChunk>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        self.count(|streams| streams.opened += 1);
        let open = Open(self.clone());
        let mut coordinator = self.coordinator.clone();
        coordinator.ship_logs(passed_on(request, Some(open))).await
    }
}

/// The output of the job's only task, once it is complete.
async fn output(cluster: &Cluster, job: &str) -> String {
    let request = pb::LogsRequest {
        job: job.to_owned(),
        follow: true,
        ..Default::default()
    };
    let parts = cluster.jobs().logs(request).await.unwrap().into_inner();
    let parts: Vec<pb::LogEntries> = parts.try_collect().await.unwrap();
    assert!(parts.last().is_some_and(|last| last.complete));
    let entries = parts.into_iter().flat_map(|part| part.entries);
    let bytes = entries.flat_map(|entry| entry.data).collect();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn output_is_whole_after_streams_that_were_closed_because_nothing_was_left() {
    let cluster = Cluster::start().await;
    let relay = Relay {
        coordinator: SessionServiceClient::new(cluster.connect()),
        streams: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = Server::builder()
        .add_service(SessionServiceServer::new(relay.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let mut host = Host::new("etl-1", 1);
    host.log_stream_idle = Some(Duration::from_millis(1));
    // More than one chunk.
    let line = "x".repeat(60_000) + "\n";
    let talks = Behaviour {
        output: vec![(LogStream::Stdout, line.clone()); 10],
        ..Behaviour::default()
    };
    host.engine.script("talk", talks);
    host.start_at(&cluster, &address).await;
    for turn in 1..=5 {
        let job = cluster.submit(spec(&reference(), "talk"), 1).await;
        let said = output(&cluster, &job.id).await;
        assert!(said == line.repeat(10), "{} bytes", said.len());
        let all = Streams {
            opened: turn,
            ended: turn,
        };
        until("the end of the stream", || async {
            (*relay.streams.lock().unwrap() == all).then_some(())
        })
        .await;
    }
    host.stop().await;
}
