//! An agent that runs nothing: it reports what a real one reported, twice, late and in another order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_proto::v1 as pb;
use muster_proto::v1::agent_message::Kind as Up;
use muster_proto::v1::coordinator_message::Kind as Down;
use muster_proto::v1::order::Kind as Order;
use muster_proto::v1::session_service_client::SessionServiceClient;
use muster_tests::random::Rng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

/// Reports of one attempt, by the first word of its command, its index and its number.
pub(super) type Recording = BTreeMap<(String, u32, u32), Vec<pb::Report>>;

/// Between two messages; slower than reports come due, so that many are there to choose from.
const TURN: Duration = Duration::from_millis(1);
/// Turns after which a stream is replaced.
const STREAM: u64 = 400;

pub(super) struct Player {
    channel: Channel,
    recording: Recording,
    random: Rng,
    term: u64,
    cluster: String,
    /// Offered, and not acknowledged up to the last report.
    held: BTreeMap<(String, u32, u32), Vec<pb::Report>>,
    offered: BTreeSet<(String, u32, u32)>,
    /// Everything that may be reported at this moment: what is due, and what was reported before.
    due: Vec<pb::Report>,
    /// Reports sent, and of them those that had been sent before.
    pub(super) sent: u64,
    pub(super) again: u64,
    pub(super) streams: u64,
}

impl Player {
    pub(super) fn new(channel: Channel, recording: Recording) -> Self {
        Self {
            channel,
            recording,
            random: Rng::new(1, "replay"),
            term: 0,
            cluster: String::new(),
            held: BTreeMap::new(),
            offered: BTreeSet::new(),
            due: Vec::new(),
            sent: 0,
            again: 0,
            streams: 0,
        }
    }

    /// Reports until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            self.stream(&stop).await;
        }
        self
    }

    async fn stream(&mut self, stop: &CancellationToken) {
        self.streams += 1;
        // What was sent last may have been lost with the stream before.
        self.due.extend(self.held.values().flatten().cloned());
        let (sender, receiver) = mpsc::channel(64);
        let hello = Up::Hello(self.hello());
        sender.send(message(hello)).await.unwrap();
        let mut client = SessionServiceClient::new(self.channel.clone());
        let opened = client.open(ReceiverStream::new(receiver)).await;
        let mut orders: Streaming<pb::CoordinatorMessage> = opened.unwrap().into_inner();
        let mut turns = tokio::time::interval(TURN);
        let mut left = STREAM;
        while left > 0 && !stop.is_cancelled() {
            tokio::select! {
                message = orders.message() => self.on_message(message.unwrap().unwrap()),
                _ = turns.tick() => {
                    left -= 1;
                    let reports = self.draw();
                    let kind = if reports.is_empty() {
                        Up::Heartbeat(pb::Heartbeat::default())
                    } else {
                        Up::Reports(pb::Reports { reports })
                    };
                    sender.send(message(kind)).await.unwrap();
                }
            }
        }
    }

    fn hello(&self) -> pb::Hello {
        let attempt = |(job, index, number): &(String, u32, u32)| pb::AttemptId {
            job: job.clone(),
            index: *index,
            number: *number,
        };
        pb::Hello {
            agent: "etl-1".into(),
            pool: "default".into(),
            capacity: Some(pb::Capacity {
                cpu_millis: 64_000,
                memory_bytes: 64 << 30,
                places: 500,
                ..Default::default()
            }),
            version: "0.1.0".into(),
            engine: "none".into(),
            boot_id: "boot".into(),
            process: "player".into(),
            term: self.term,
            cluster: self.cluster.clone(),
            attempts: self.held.keys().map(attempt).collect(),
            ..Default::default()
        }
    }

    /// What to report now: some of what is due, in any order. Most of it stays due, so that it comes again.
    fn draw(&mut self) -> Vec<pb::Report> {
        let mut drawn = Vec::new();
        for _ in 0..self.random.between(1, 12) {
            if self.due.is_empty() {
                break;
            }
            let place = self.random.index(self.due.len());
            // Half of it comes once more, at any later time.
            if self.random.chance(50) {
                drawn.push(self.due[place].clone());
                self.again += 1;
            } else {
                drawn.push(self.due.swap_remove(place));
            }
        }
        self.sent += u64::try_from(drawn.len()).unwrap();
        drawn
    }

    fn on_message(&mut self, message: pb::CoordinatorMessage) {
        match message.kind.unwrap() {
            Down::Welcome(welcome) => {
                self.term = welcome.term;
                self.cluster = welcome.cluster;
            }
            Down::Orders(orders) => {
                for order in orders.orders {
                    self.on_order(order.kind.unwrap());
                }
            }
            Down::Heard(_) => {} // it sends no heartbeats that want an answer
        }
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Offer(offer) => {
                let attempt = offer.attempt.unwrap();
                let of = (attempt.job.clone(), attempt.index, attempt.number);
                if !self.offered.insert(of.clone()) {
                    return; // nothing about it has arrived yet
                }
                let word = offer.spec.unwrap().command.swap_remove(0);
                let recorded = &self.recording[&(word, attempt.index, attempt.number)];
                let mut reports = recorded.clone();
                for report in &mut reports {
                    report.attempt = Some(attempt.clone());
                }
                self.due.extend(reports.clone());
                self.held.insert(of, reports);
            }
            Order::Ack(ack) => {
                let attempt = ack.attempt.unwrap();
                let of = (attempt.job, attempt.index, attempt.number);
                let reports = self.held.get(&of).and_then(|reports| reports.last());
                if reports.is_some_and(|last| last.seq <= ack.seq) {
                    self.held.remove(&of);
                }
            }
            // Nothing runs here.
            Order::Stop(_)
            | Order::Prefetch(_)
            | Order::Keep(_)
            | Order::Adopt(_)
            | Order::Discard(_) => {}
        }
    }
}

fn message(kind: Up) -> pb::AgentMessage {
    pb::AgentMessage { kind: Some(kind) }
}
