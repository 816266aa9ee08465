//! The agent's stream to its coordinator: hello, orders in, reports and heartbeats out, and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_message::Kind as Up;
use muster_proto::v1::coordinator_message::Kind as Down;
use muster_proto::v1::session_service_client::SessionServiceClient;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::attempt::Shared;
use crate::contact::Beats;
use crate::host;
use crate::offer::{DISK_FULL, DOCKER_DEGRADED};
use crate::runtime::Runtime;
use crate::ship::Link;
use crate::supervisor::Message;
use crate::terms::{SeenTerm, StaleTerm};
use crate::wire;

mod dial;

const WELCOME: Duration = Duration::from_secs(20);
const MESSAGE_MAX: usize = 16 << 20;
/// Messages on their way to the coordinator.
const OUTGOING: usize = 64;
/// Reports in one message.
const BATCH: usize = 256;
/// For the engine to list its images.
const IMAGES: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Dial(#[from] dial::DialError),
    #[error("the coordinator ended the stream: {} {}", status.code(), status.message())]
    Status { status: Box<tonic::Status> },
    #[error("the coordinator refuses this agent: {}", status.message())]
    Refused { status: Box<tonic::Status> },
    #[error("the coordinator did not say welcome")]
    NoWelcome,
    #[error("the coordinator closed the stream")]
    Closed,
    #[error("the coordinator's messages make no sense")]
    Protocol,
    #[error(transparent)]
    Stale(#[from] StaleTerm),
    #[error("the term can't be stored")]
    Store { source: std::io::Error },
    #[error("the agent is stopping")]
    Stopping,
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        let status = Box::new(status);
        match status.code() {
            // As when its store is an old copy: another try does not help.
            tonic::Code::FailedPrecondition => Self::Refused { status },
            _ => Self::Status { status },
        }
    }
}

/// What a session works with.
pub(crate) struct Session<R> {
    pub shared: Arc<Shared<R>>,
    pub supervisor: mpsc::Sender<Message>,
    /// Where the shipper of logs learns of a working connection.
    pub links: watch::Sender<Option<Link>>,
    pub term: SeenTerm,
    /// Of this process.
    pub process: String,
}

impl<R: Runtime> Session<R> {
    /// Keeps a stream open until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let begin = Instant::now();
            let before = self.shared.metrics.session_connects.get();
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.once() => result,
            };
            self.links.send_replace(None);
            self.shared.orphans.disconnected();
            let welcomed = self.shared.metrics.session_connects.get() > before;
            let lasted = begin.elapsed();
            failures = dial::failures_before(failures, lasted, welcomed);
            match result {
                // Somebody has to look: this is no failure of the network.
                Err(
                    error @ (SessionError::Stale(_)
                    | SessionError::Refused { .. }
                    | SessionError::Store { .. }),
                ) => {
                    tracing::error!(%error, "coordinator refused");
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "coordinator unreachable");
                }
                Ok(never) => match never {},
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(dial::pause(failures, lasted)) => {}
            }
            failures = failures.saturating_add(1);
        }
    }

    /// One stream, until it fails.
    async fn once(&mut self) -> Result<std::convert::Infallible, SessionError> {
        let channel = dial::connect(&self.shared.config.coordinator).await?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        // Before the call: its answer comes only after the coordinator has read this.
        let hello = Up::Hello(self.hello().await?);
        let said_hello = host::boot_clock();
        send(&sender, hello).await?;
        let mut client =
            SessionServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let opened = client.open(ReceiverStream::new(receiver));
        let opened = tokio::time::timeout(WELCOME, opened).await;
        let mut incoming = opened.map_err(|_| SessionError::NoWelcome)??.into_inner();
        let first = tokio::time::timeout(WELCOME, incoming.message()).await;
        let first = first.map_err(|_| SessionError::NoWelcome)??;
        let Some(Down::Welcome(welcome)) = first.and_then(|message| message.kind) else {
            return Err(SessionError::NoWelcome);
        };
        self.note_term(welcome.term, &welcome.cluster).await?;
        self.shared.contact.note(said_hello);
        // Only now: this coordinator's term is not behind. A cluster's id never changes.
        let _ = self.shared.cluster.set(welcome.cluster.clone());
        self.shared.metrics.session_connects.inc();
        self.shared.orphans.connected(Instant::now());
        tracing::info!(
            cluster = welcome.cluster,
            term = welcome.term,
            session = welcome.session,
            "coordinator connected"
        );
        self.links.send_replace(Some(Link {
            channel,
            agent: self.shared.config.name.to_string(),
            session: welcome.session,
        }));
        self.converse(&welcome, &mut incoming, &sender).await
    }

    async fn converse(
        &mut self,
        welcome: &pb::Welcome,
        incoming: &mut Streaming<pb::CoordinatorMessage>,
        sender: &mpsc::Sender<pb::AgentMessage>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let interval = welcome.heartbeat_interval.as_ref().and_then(wire::millis);
        let interval = interval.map_or(HEARTBEAT, Duration::from);
        let mut beats = tokio::time::interval(interval.max(Duration::from_millis(10)));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut images = self.shared.watch.images_changed();
        images.mark_changed(); // something may have changed since the hello
        let mut held = Vec::new();
        let mut numbers = Beats::default();
        // Everything unacknowledged goes over each new stream.
        let mut sent = self.send_reports(sender, 0).await?;
        loop {
            tokio::select! {
                message = incoming.message() => {
                    let message = message?.ok_or(SessionError::Closed)?;
                    if let Some(Down::Heard(pb::Heard { number })) = &message.kind {
                        if let Some(sent) = numbers.heard(*number) {
                            self.shared.contact.note(sent);
                        }
                        continue;
                    }
                    self.on_message(message, &welcome.cluster).await?;
                }
                () = self.shared.outbox.added() => {
                    sent = self.send_reports(sender, sent).await?;
                }
                _ = beats.tick() => {
                    let beat = self.heartbeat(None, numbers.next(host::boot_clock())).await;
                    send(sender, Up::Heartbeat(beat)).await?;
                }
                changed = images.changed() => {
                    changed.map_err(|_| SessionError::Stopping)?;
                    if let Some(now) = self.held().await && now != held {
                        held.clone_from(&now);
                        let number = numbers.next(host::boot_clock());
                        let beat = self.heartbeat(Some(now), number).await;
                        send(sender, Up::Heartbeat(beat)).await?;
                    }
                }
            }
        }
    }

    async fn on_message(
        &mut self,
        message: pb::CoordinatorMessage,
        cluster: &str,
    ) -> Result<(), SessionError> {
        let pb::Orders { term, orders } = match message.kind {
            Some(Down::Orders(orders)) => orders,
            Some(Down::Welcome(_) | Down::Heard(_)) => return Err(SessionError::Protocol),
            // A newer coordinator has more to say than this agent can understand.
            None => {
                tracing::warn!("message of an unknown kind");
                return Ok(());
            }
        };
        self.note_term(term, cluster).await?;
        let message = Message::Orders {
            cluster: cluster.to_owned(),
            term,
            orders,
        };
        let sent = self.supervisor.send(message).await;
        sent.map_err(|_| SessionError::Stopping)
    }

    /// Refuses a term below the largest seen, and stores a larger one before anything is done by it.
    async fn note_term(&mut self, term: u64, cluster: &str) -> Result<(), SessionError> {
        if self.term.check(term)? || self.term.cluster() != cluster {
            let stored = self.term.store(term, cluster).await;
            stored.map_err(|source| SessionError::Store { source })?;
            failpoint::hit(Point::AgentTermStored);
        }
        Ok(())
    }

    async fn send_reports(
        &self,
        sender: &mpsc::Sender<pb::AgentMessage>,
        mut sent: u64,
    ) -> Result<u64, SessionError> {
        loop {
            let batch = self.shared.outbox.after(sent, BATCH);
            let Some((last, _)) = batch.last() else {
                return Ok(sent);
            };
            sent = *last;
            let reports: Vec<_> = batch.into_iter().map(|(_, report)| report).collect();
            failpoint::hit_if(Point::AgentBeforeReport, || any_end(&reports));
            let reported = failpoint::soon(Point::AgentAfterReport, || any_end(&reports));
            send(sender, Up::Reports(pb::Reports { reports })).await?;
            reported.hit();
        }
    }

    async fn hello(&self) -> Result<pb::Hello, SessionError> {
        let (reply, inventory) = oneshot::channel();
        let asked = self.supervisor.send(Message::Inventory(reply)).await;
        asked.map_err(|_| SessionError::Stopping)?;
        let details = inventory.await.map_err(|_| SessionError::Stopping)?;
        let held: BTreeSet<AttemptId> = details
            .iter()
            .filter_map(|held| held.attempt.as_ref().and_then(wire::attempt_id))
            .collect();
        let orphans = self.shared.orphans.named(self.term.cluster());
        let config = &self.shared.config;
        let images = self.held().await.unwrap_or_default();
        Ok(pb::Hello {
            agent: config.name.to_string(),
            pool: config.pool.to_string(),
            labels: config.labels.clone(),
            capacity: Some(pb::Capacity {
                cpu_millis: config.cpu_millis,
                memory_bytes: config.memory_bytes,
                places: config.places,
                gpus: config.gpus,
                custom: config.resources.clone(),
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.shared.engine.version.clone(),
            platform: self.shared.engine.platform.clone(),
            boot_id: self.shared.boot_id.clone(),
            process: self.process.clone(),
            term: self.term.largest(),
            attempts: details
                .iter()
                .filter_map(|held| held.attempt.clone())
                .collect(),
            images,
            cluster: self.term.cluster().to_owned(),
            details,
            orphans: orphans
                .into_iter()
                .filter(|(id, _)| !held.contains(id))
                .map(|(_, orphan)| orphan)
                .collect(),
            leases: self.shared.init.is_some() && self.shared.contact.is_kept(),
        })
    }

    /// The engine's images, if it says so at once: the stream does not wait for it.
    async fn held(&self) -> Option<Vec<pb::HeldImage>> {
        match tokio::time::timeout(IMAGES, self.shared.images.held()).await {
            Ok(Ok(images)) => return Some(images),
            Ok(Err(error)) => tracing::warn!(%error, "images can't be listed"),
            Err(_) => tracing::warn!("images are not listed in time"),
        }
        None
    }

    async fn heartbeat(&self, images: Option<Vec<pb::HeldImage>>, number: u64) -> pb::Heartbeat {
        let shared = &self.shared;
        let metrics = &shared.metrics;
        // Not asked now: an engine that hangs must not hold up the heartbeats.
        let latency = shared.probe.latency();
        metrics
            .engine_latency
            .set(latency.unwrap_or_default().as_secs_f64());
        let (spool, unsent) = shared.logs.sizes();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.log_spool_bytes.set(gauge(spool));
        metrics.log_unsent_bytes.set(gauge(unsent));
        let unacknowledged = i64::try_from(shared.outbox.len()).unwrap_or(i64::MAX);
        metrics.unacknowledged_reports.set(unacknowledged);
        let refusing = shared.refusing();
        let disk_free_bytes = shared.disks.free();
        metrics.disk_free_bytes.set(gauge(disk_free_bytes));
        metrics.refuses(&refusing);
        let count = |value: i64| u32::try_from(value).unwrap_or(0);
        pb::Heartbeat {
            load: Some(pb::HostLoad {
                load1: host::load1(),
                memory_available_bytes: host::memory_available(),
                disk_free_bytes,
                preparing: count(metrics.preparing.get()),
                running: count(metrics.running.get()),
                engine_latency: latency.and_then(|took| took.try_into().ok()),
                disk_full: refusing.contains(&DISK_FULL),
                docker_degraded: refusing.contains(&DOCKER_DEGRADED),
                unfinished_logs: u32::try_from(shared.logs.unfinished()).unwrap_or(u32::MAX),
            }),
            images: images.map(|images| pb::HeldImages { images }),
            samples: metrics.samples(),
            at: Some(wire::timestamp(host::now())),
            fetches: shared.images.fetches(),
            number,
        }
    }
}

async fn send(sender: &mpsc::Sender<pb::AgentMessage>, kind: Up) -> Result<(), SessionError> {
    let message = pb::AgentMessage { kind: Some(kind) };
    sender.send(message).await.map_err(|_| SessionError::Closed)
}

fn any_end(reports: &[pb::Report]) -> bool {
    let is_end = |report: &pb::Report| matches!(report.news, Some(pb::report::News::Ended(_)));
    reports.iter().any(is_end)
}
