//! Agents' streams: one for offers, reports and heartbeats, one for output.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use muster_core::event::{Event, Fetch};
use muster_core::ids::{AgentId, SessionNo, Term};
use muster_core::time::{Millis, Timestamp};
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use muster_proto::v1::session_service_server::SessionService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::api::convert::agents::{fetch_from_wire, held_from_wire};
use crate::api::convert::duration::time_from_wire;
use crate::api::convert::session::{hello_from_wire, order_to_wire, report_from_wire};
use crate::driver::{Clock, DriverGone, DriverHandle, Orders};
use crate::metrics::{Metrics, Sample};
use crate::store::Identity;

mod log_upload;

/// How long an agent may take for its first message.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Silence of so many heartbeat intervals closes the stream.
pub(crate) const SILENT_BEATS: u32 = 4;
/// Messages on their way to one agent. The driver's own queue for it is the larger bound.
const OUTBOX: usize = 16;
/// Samples taken from one heartbeat.
const SAMPLES: usize = 500;
/// Images that one heartbeat says are being fetched.
const FETCHES: usize = 16;

/// What the session service needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub identity: Identity,
    /// How often agents say that they are alive. `MUSTER_COORDINATOR_HEARTBEAT`, default `10s`.
    pub heartbeat: Duration,
}

/// What agents told last. In memory only: a heartbeat never touches the disk.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<Mutex<BTreeMap<AgentId, Told>>>);

/// What an agent's last heartbeat said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    pub load: Option<pb::HostLoad>,
    /// `None`: an older agent does not tell its time.
    pub clock: Option<Skew>,
}

/// How an agent's clock stands to ours, the time of the message's way included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    Ahead(Millis),
    Behind(Millis),
}

impl Skew {
    /// Of a clock that showed `theirs` when ours showed `ours`.
    #[must_use]
    pub const fn between(theirs: Timestamp, ours: Timestamp) -> Self {
        if theirs.0 > ours.0 {
            Self::Ahead(theirs.since(ours))
        } else {
            Self::Behind(ours.since(theirs))
        }
    }
}

impl Loads {
    /// What the agent told last, if it is online.
    #[must_use]
    pub fn of(&self, agent: &AgentId) -> Option<pb::HostLoad> {
        self.told(agent)?.load
    }

    /// All of the last heartbeat, if the agent is online.
    #[must_use]
    pub fn told(&self, agent: &AgentId) -> Option<Told> {
        let loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loads.get(agent).copied()
    }

    /// An attempt has ended there. Until the next heartbeat says how much, some of its output is on its way.
    fn note_end(&self, agent: &AgentId) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = loads.get_mut(agent).and_then(|told| told.load.as_mut()) {
            load.unfinished_logs = load.unfinished_logs.max(1);
        }
    }

    fn set(&self, agent: &AgentId, told: Option<Told>) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Some(told) => loads.insert(agent.clone(), told),
            None => loads.remove(agent),
        };
    }
}

/// The service that agents dial.
#[derive(Debug)]
pub struct Sessions {
    config: Config,
    driver: DriverHandle,
    logs: Arc<crate::logs::LogStore>,
    loads: Loads,
    metrics: Metrics,
    stop: CancellationToken,
    last_session: AtomicU64,
}

impl Sessions {
    #[must_use]
    pub fn new(
        config: Config,
        driver: DriverHandle,
        logs: Arc<crate::logs::LogStore>,
        loads: Loads,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            config,
            driver,
            logs,
            loads,
            metrics,
            stop,
            last_session: AtomicU64::new(0),
        }
    }

    fn next_session(&self) -> SessionNo {
        SessionNo(self.last_session.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A coordinator that is behind what the agent has seen, or that is none of its attempts', must not
    /// give it orders.
    async fn check_term(&self, hello: &pb::Hello) -> Result<(), Status> {
        let Identity { cluster, term } = self.config.identity;
        let (ours, cluster) = (term.0, cluster.to_string());
        let foreign = !hello.cluster.is_empty() && hello.cluster != cluster;
        if foreign && !hello.attempts.is_empty() {
            tracing::error!(
                agent.id = hello.agent,
                cluster,
                held = hello.cluster,
                "agent holds attempts of another cluster"
            );
            return Err(Status::failed_precondition(format!(
                "agent {} holds attempts of cluster {}, this is {cluster}: is the coordinator's data \
                 directory the right one?",
                hello.agent, hello.cluster
            )));
        }
        if hello.term <= ours {
            return Ok(());
        }
        tracing::error!(
            agent.id = hello.agent,
            term = ours,
            seen = hello.term,
            "agent has seen a later term; was the store restored from a backup?"
        );
        // Only of this very cluster it says something about this store.
        if let (Ok(agent), true) = (AgentId::parse(&hello.agent), hello.cluster == cluster) {
            let seen = Event::TermSeen {
                agent,
                seen: Term(hello.term),
            };
            self.driver.tell(seen).await.map_err(stopping)?;
        }
        Err(Status::failed_precondition(format!(
            "agent {} has seen term {}, this coordinator is at {ours}: was its store restored from a \
             backup?",
            hello.agent, hello.term
        )))
    }
}

type Outbox = mpsc::Sender<Result<pb::CoordinatorMessage, Status>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Sessions {
    type OpenStream = Answers<pb::CoordinatorMessage>;
    type ShipLogsStream = Answers<pb::LogAck>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut messages = request.into_inner();
        let hello = first_message(&mut messages).await?;
        self.check_term(&hello).await?;
        let session = self.next_session();
        let cluster = self.config.identity.cluster.to_string();
        let hello = hello_from_wire(hello, session, &cluster)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let agent = hello.agent.clone();
        let orders = self
            .driver
            .attach(agent.clone(), session)
            .await
            .map_err(stopping)?;
        self.driver
            .tell(Event::AgentHello(hello))
            .await
            .map_err(stopping)?;
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let link = Link {
            agent,
            session,
            config: self.config,
            driver: self.driver.clone(),
            loads: self.loads.clone(),
            metrics: self.metrics.clone(),
        };
        tokio::spawn(link.run(messages, orders, outbox, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn ship_logs(
        &self,
        request: Request<Streaming<pb::LogChunk>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        let chunks = request.into_inner();
        let acks = log_upload::receive(self.logs.clone(), chunks, self.stop.clone());
        Ok(Response::new(Box::pin(acks)))
    }
}

fn stopping(error: DriverGone) -> Status {
    Status::unavailable(error.to_string())
}

async fn first_message(messages: &mut Streaming<pb::AgentMessage>) -> Result<pb::Hello, Status> {
    let first = tokio::time::timeout(HELLO_DEADLINE, messages.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello within 10 s"))??;
    match first.and_then(|message| message.kind) {
        Some(pb::agent_message::Kind::Hello(hello)) => Ok(hello),
        Some(_) | None => Err(Status::invalid_argument("the first message must be Hello")),
    }
}

/// One open stream.
struct Link {
    agent: AgentId,
    session: SessionNo,
    config: Config,
    driver: DriverHandle,
    loads: Loads,
    metrics: Metrics,
}

impl Link {
    async fn run(
        self,
        messages: Streaming<pb::AgentMessage>,
        orders: mpsc::Receiver<Orders>,
        outbox: Outbox,
        stop: CancellationToken,
    ) {
        self.metrics.session_opened();
        tracing::info!(agent.id = %self.agent, session = self.session.0, "agent connected");
        let reader = self.read(messages, &outbox);
        let writer = self.write(orders, &outbox);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            why = reader => tracing::info!(agent.id = %self.agent, session = self.session.0, why, "agent disconnected"),
            () = writer => tracing::info!(agent.id = %self.agent, session = self.session.0, "agent's stream was replaced or cut off"),
        }
        self.metrics.session_closed();
        self.loads.set(&self.agent, None);
        self.metrics.agent_gone(&self.agent);
        let gone = Event::AgentGone {
            agent: self.agent.clone(),
            session: self.session,
        };
        // A driver that has stopped needs no news.
        let _ = self.driver.tell(gone).await;
    }

    /// Hands on what the agent says, until it stops saying anything.
    async fn read(
        &self,
        mut messages: Streaming<pb::AgentMessage>,
        outbox: &Outbox,
    ) -> &'static str {
        let silence = self.config.heartbeat * SILENT_BEATS;
        loop {
            let message = match tokio::time::timeout(silence, messages.next()).await {
                Err(_) => return "silent",
                Ok(None) => return "closed",
                Ok(Some(Err(_))) => return "broken",
                Ok(Some(Ok(message))) => message,
            };
            if self.take(message, outbox).await.is_err() {
                return "coordinator stops";
            }
        }
    }

    async fn take(&self, message: pb::AgentMessage, outbox: &Outbox) -> Result<(), DriverGone> {
        match message.kind {
            Some(pb::agent_message::Kind::Reports(pb::Reports { reports })) => {
                if reports.iter().any(is_end) {
                    failpoint::hit(Point::ReportReceived);
                    self.loads.note_end(&self.agent);
                }
                for report in reports {
                    match report_from_wire(report, &self.agent, self.session) {
                        Ok(report) => self.driver.tell(Event::Reported(report)).await?,
                        Err(error) => {
                            tracing::warn!(agent.id = %self.agent, %error, "report can't be read");
                        }
                    }
                }
            }
            Some(pb::agent_message::Kind::Heartbeat(beat)) => self.beat(beat, outbox).await?,
            Some(pb::agent_message::Kind::Hello(_)) | None => {
                tracing::warn!(agent.id = %self.agent, "message makes no sense here");
            }
        }
        Ok(())
    }

    async fn beat(&self, beat: pb::Heartbeat, outbox: &Outbox) -> Result<(), DriverGone> {
        let pb::Heartbeat {
            load,
            images,
            samples,
            at,
            number,
            fetches,
        } = beat;
        let now = Clock::new().now();
        let clock = at.map(|at| Skew::between(time_from_wire(&at), now));
        self.loads.set(&self.agent, Some(Told { load, clock }));
        let samples = samples
            .into_iter()
            .take(SAMPLES)
            .map(sample_from_wire)
            .collect();
        self.metrics.agent_samples(&self.agent, samples);
        let held = images.map(|images| held_from_wire(images.images));
        let beat = Event::AgentBeat {
            agent: self.agent.clone(),
            session: self.session,
            held,
        };
        self.driver.tell(beat).await?;
        // Only now: whatever becomes of this stream, the fleet hears of the heartbeat first. An agent that
        // takes nothing gets its answer to the next one.
        if number > 0 {
            let heard = pb::coordinator_message::Kind::Heard(pb::Heard { number });
            let _ = outbox.try_send(Ok(pb::CoordinatorMessage { kind: Some(heard) }));
        }
        let fetches: Vec<Fetch> = fetches
            .into_iter()
            .take(FETCHES)
            .filter_map(fetch_from_wire)
            .collect();
        if fetches.is_empty() {
            return Ok(());
        }
        let agent = self.agent.clone();
        self.driver
            .tell(Event::AgentFetches { agent, fetches })
            .await
    }

    async fn write(&self, mut orders: mpsc::Receiver<Orders>, outbox: &Outbox) {
        let Identity { cluster, term } = self.config.identity;
        let interval = prost_types::Duration::try_from(self.config.heartbeat).unwrap_or_default();
        let welcome = pb::coordinator_message::Kind::Welcome(pb::Welcome {
            cluster: cluster.to_string(),
            term: term.0,
            session: self.session.0,
            heartbeat_interval: Some(interval),
        });
        let mut next = Some(welcome);
        while let Some(kind) = next {
            failpoint::hit_if(Point::ReportBeforeAck, || carries(&kind, is_ack));
            let acknowledged = failpoint::soon(Point::ReportAfterAck, || carries(&kind, is_ack));
            let offered = failpoint::soon(Point::AssignAfterSend, || carries(&kind, is_offer));
            let message = pb::CoordinatorMessage { kind: Some(kind) };
            if outbox.send(Ok(message)).await.is_err() {
                return;
            }
            acknowledged.hit();
            offered.hit();
            next = orders.recv().await.map(|orders| {
                let orders = orders.into_iter().map(order_to_wire).collect();
                pb::coordinator_message::Kind::Orders(pb::Orders {
                    term: term.0,
                    orders,
                })
            });
        }
    }
}

fn is_end(report: &pb::Report) -> bool {
    matches!(report.news, Some(pb::report::News::Ended(_)))
}

fn carries(kind: &pb::coordinator_message::Kind, what: fn(&pb::order::Kind) -> bool) -> bool {
    let pb::coordinator_message::Kind::Orders(pb::Orders { term: _, orders }) = kind else {
        return false;
    };
    orders
        .iter()
        .any(|order| order.kind.as_ref().is_some_and(what))
}

const fn is_offer(order: &pb::order::Kind) -> bool {
    matches!(order, pb::order::Kind::Offer(_))
}

const fn is_ack(order: &pb::order::Kind) -> bool {
    matches!(order, pb::order::Kind::Ack(_))
}

fn sample_from_wire(wire: pb::Sample) -> Sample {
    let pb::Sample {
        name,
        labels,
        value,
    } = wire;
    Sample {
        name,
        labels,
        value,
    }
}
