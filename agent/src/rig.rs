//! A coordinator for tests: takes what agents send and gives orders by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_core::logframe::{self, LogStream};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_message::Kind as Up;
use muster_proto::v1::coordinator_message::Kind as Down;
use muster_proto::v1::order::Kind as OrderKind;
use muster_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::Config;
use crate::wire;

pub(crate) mod bench;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Everything it was told and everything it does about it.
#[derive(Default)]
pub(crate) struct Seen {
    pub hellos: Vec<pb::Hello>,
    /// The first report of each number, by attempt.
    pub reports: BTreeMap<(AttemptId, u64), pb::report::News>,
    pub beats: Vec<pb::Heartbeat>,
    pub logs: BTreeMap<AttemptId, Vec<u8>>,
    pub complete: Vec<AttemptId>,
    /// Of all logs.
    pub chunks: usize,
    pub log_streams: LogStreams,
    orders: Option<mpsc::Sender<Result<pb::CoordinatorMessage, Status>>>,
    term: u64,
    sessions: u64,
    /// Reports are taken and not acknowledged.
    pub mute: bool,
    /// Chunks are refused.
    pub deaf: bool,
    /// Heartbeats get no answer.
    pub unheard: bool,
}

/// So many, ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogStreams {
    pub opened: usize,
    pub ended: usize,
}

/// The coordinator and its clients' side.
#[derive(Clone)]
pub(crate) struct Coordinator {
    seen: Arc<Mutex<Seen>>,
    turn: watch::Sender<u64>,
    pub address: SocketAddr,
    stop: CancellationToken,
}

impl Coordinator {
    pub(crate) async fn start(term: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seen = Seen {
            term,
            ..Seen::default()
        };
        let coordinator = Self {
            seen: Arc::new(Mutex::new(seen)),
            turn: watch::Sender::new(0),
            address: listener.local_addr().unwrap(),
            stop: CancellationToken::new(),
        };
        let service = SessionServiceServer::new(coordinator.clone());
        let incoming = TcpListenerStream::new(listener)
            .map(|stream| stream.inspect(|stream| stream.set_nodelay(true).unwrap()));
        let stop = coordinator.stop.clone();
        tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, async move {
                    stop.cancelled().await;
                })
                .await
                .unwrap();
        });
        coordinator
    }

    pub(crate) fn config(&self, data_dir: &Path) -> Config {
        let name = format!("agent-{}", uuid::Uuid::now_v7().simple());
        let vars = [
            (
                "MUSTER_AGENT_COORDINATOR",
                format!("http://{}", self.address),
            ),
            ("MUSTER_AGENT_NAME", name),
            ("MUSTER_AGENT_DATA_DIR", data_dir.display().to_string()),
            // What the tests are about is not how full the disk of this machine is.
            ("MUSTER_AGENT_DISK_FREE", "64MiB".to_owned()),
            ("MUSTER_AGENT_DISK_FREE_PERCENT", "0".to_owned()),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value));
        Config::parse(&vars.into()).unwrap()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
    }

    /// Waits until `found` has an answer.
    pub(crate) async fn until<T>(&self, what: &str, found: impl Fn(&Seen) -> Option<T>) -> T {
        let mut turn = self.turn.subscribe();
        let search = async {
            loop {
                if let Some(answer) = found(&self.lock()) {
                    return answer;
                }
                turn.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(DEADLINE, search).await {
            Ok(answer) => answer,
            Err(_) => panic!("still waiting for {what}"),
        }
    }

    pub(crate) async fn order(&self, kind: OrderKind) {
        let term = self.lock().term;
        let orders = vec![pb::Order { kind: Some(kind) }];
        self.say(Some(Down::Orders(pb::Orders { term, orders })))
            .await;
    }

    pub(crate) async fn say(&self, kind: Option<Down>) {
        let sender = self.until("an agent", |seen| seen.orders.clone()).await;
        // A stream that has just broken: the test's agent will be back.
        let _ = sender.send(Ok(pb::CoordinatorMessage { kind })).await;
    }

    pub(crate) async fn ended(&self, id: AttemptId) -> pb::Ended {
        self.until("the end", |seen| {
            match seen.reports.get(&(id, wire::seq::ENDED))? {
                pb::report::News::Ended(ended) => Some(ended.clone()),
                _ => None,
            }
        })
        .await
    }

    pub(crate) async fn started(&self, id: AttemptId) {
        self.until("the start", |seen| {
            seen.reports.get(&(id, wire::seq::STARTED)).map(drop)
        })
        .await;
    }

    /// The whole log, once it is complete: stream and data of each frame.
    pub(crate) async fn log(&self, id: AttemptId) -> Vec<(LogStream, String)> {
        let bytes = self
            .until("the log", |seen| {
                let complete = seen.complete.contains(&id);
                complete.then(|| seen.logs.get(&id).cloned().unwrap_or_default())
            })
            .await;
        logframe::decode(&bytes)
            .map(|frame| {
                let frame = frame.unwrap();
                (
                    frame.stream,
                    String::from_utf8_lossy(frame.data).into_owned(),
                )
            })
            .collect()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.change(change);
        self.turn.send_modify(|turn| *turn += 1);
    }

    fn on_up(&self, kind: Up) -> Vec<pb::Order> {
        let mut acks = Vec::new();
        self.note(|seen| match kind {
            Up::Hello(hello) => seen.hellos.push(hello),
            Up::Heartbeat(beat) => seen.beats.push(beat),
            Up::Reports(reports) => {
                for report in reports.reports {
                    let id = wire::attempt_id(report.attempt.as_ref().unwrap()).unwrap();
                    let news = report.news.unwrap();
                    seen.reports.entry((id, report.seq)).or_insert(news);
                    let ack = pb::Ack {
                        attempt: report.attempt,
                        seq: report.seq,
                    };
                    acks.push(pb::Order {
                        kind: Some(OrderKind::Ack(ack)),
                    });
                }
                if seen.mute {
                    acks.clear();
                }
            }
        });
        acks
    }

    fn on_chunk(&self, chunk: pb::LogChunk) -> Result<pb::LogAck, Status> {
        if self.lock().deaf {
            return Err(Status::unavailable("deaf"));
        }
        let id = wire::attempt_id(chunk.attempt.as_ref().unwrap()).unwrap();
        let mut ack = pb::LogAck {
            attempt: chunk.attempt,
            ..Default::default()
        };
        self.note(|seen| {
            seen.chunks += 1;
            let log = seen.logs.entry(id).or_default();
            if u64::try_from(log.len()).unwrap() == chunk.offset {
                log.extend(&chunk.data);
                if chunk.last && crc32fast::hash(log) == chunk.crc32 {
                    seen.complete.push(id);
                    ack.complete = true;
                } else if chunk.last {
                    log.clear();
                }
            }
            ack.length = u64::try_from(seen.logs[&id].len()).unwrap();
        });
        Ok(ack)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Coordinator {
    type OpenStream = Answers<pb::CoordinatorMessage>;
    type ShipLogsStream = Answers<pb::LogAck>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let this = self.clone();
        tokio::spawn(async move {
            let first = incoming.message().await.ok().flatten();
            let Some(Up::Hello(hello)) = first.and_then(|message| message.kind) else {
                panic!("the first message is not Hello");
            };
            let welcome = {
                let mut seen = this.lock();
                seen.sessions += 1;
                pb::Welcome {
                    cluster: "0123456789abcdef".into(),
                    term: seen.term,
                    session: seen.sessions,
                    heartbeat_interval: Some(prost_types::Duration {
                        seconds: 0,
                        nanos: 200_000_000,
                    }),
                }
            };
            let kind = Some(Down::Welcome(welcome));
            let _ = sender.send(Ok(pb::CoordinatorMessage { kind })).await;
            this.note(|seen| seen.orders = Some(sender.clone()));
            this.on_up(Up::Hello(hello));
            while let Ok(Some(message)) = incoming.message().await {
                let kind = message.kind.unwrap();
                if let Up::Heartbeat(beat) = &kind
                    && !this.lock().unheard
                {
                    let number = beat.number;
                    let kind = Some(Down::Heard(pb::Heard { number }));
                    let _ = sender.send(Ok(pb::CoordinatorMessage { kind })).await;
                }
                let orders = this.on_up(kind);
                if !orders.is_empty() {
                    let term = this.lock().term;
                    let kind = Some(Down::Orders(pb::Orders { term, orders }));
                    let _ = sender.send(Ok(pb::CoordinatorMessage { kind })).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ship_logs(
        &self,
        request: Request<Streaming<pb::LogChunk>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        let this = self.clone();
        let stream = LogStreamOpen::new(self.clone());
        let chunks = request.into_inner();
        let acks = chunks.map(move |chunk| {
            let _ = &stream; // it is open until this is dropped
            this.on_chunk(chunk?)
        });
        Ok(Response::new(Box::pin(acks)))
    }
}

/// Counted from its beginning to its end.
struct LogStreamOpen(Coordinator);

impl LogStreamOpen {
    fn new(coordinator: Coordinator) -> Self {
        coordinator.note(|seen| seen.log_streams.opened += 1);
        Self(coordinator)
    }
}

impl Drop for LogStreamOpen {
    fn drop(&mut self) {
        self.0.note(|seen| seen.log_streams.ended += 1);
    }
}

/// An offer of a small task: `argv` on `image`.
pub(crate) fn offer(image: &str, argv: &[&str]) -> (AttemptId, pb::Offer) {
    let job = muster_core::ids::JobId(uuid::Uuid::now_v7());
    let attempt = pb::AttemptId {
        job: job.to_string(),
        index: 0,
        number: 1,
    };
    let id = wire::attempt_id(&attempt).unwrap();
    let mut spec = pb::JobSpec {
        name: "test".into(),
        pool: "default".into(),
        command: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        resources: Some(pb::Resources {
            cpu_millis: 1000,
            memory_bytes: 64 << 20,
            pids: 64,
            ..Default::default()
        }),
        kill_grace: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..Default::default()
    };
    spec.set_network(pb::Network::None);
    let offer = pb::Offer {
        attempt: Some(attempt),
        team: "default".into(),
        spec: Some(spec),
        array: 1,
        image: image.into(),
        ..Default::default()
    };
    (id, offer)
}

pub(crate) fn stop(id: AttemptId, reason: pb::StopReason) -> OrderKind {
    OrderKind::Stop(pb::Stop {
        attempt: Some(wire::from_attempt_id(id)),
        reason: reason.into(),
        now: false,
    })
}

/// An agent in this process that can be stopped and started again.
pub(crate) struct Agent {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), crate::RunError>>,
}

impl Agent {
    pub(crate) fn start<R: crate::runtime::Runtime>(runtime: R, config: Config) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(crate::run_with(runtime, config, stop.clone()));
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}
