//! Ships logs to the coordinator: one chunk per attempt at a time, from wherever the coordinator says
//! it is. See `docs/logs.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use muster_proto::v1::session_service_client::SessionServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::files;
use crate::output::Logs;
use crate::output::spool::LogFile;
use crate::wire;

const CHUNK: usize = 256 << 10;
/// Chunks under way at a time, of all attempts.
const UNDER_WAY: usize = 8;
/// A chunk without an answer for so long: the stream is dead.
const ANSWER: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// A stream that nothing is left for goes after so long: most agents of a large fleet are idle most of the time.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// A connection that the session found to work; the agent's name is sent along.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub channel: Channel,
    pub agent: String,
    pub session: u64,
}

/// Ships whatever is in `logs` while there is a link, on streams that last for `idle` after the last log is gone.
pub(crate) async fn run(
    logs: Arc<Logs>,
    mut links: watch::Receiver<Option<Link>>,
    idle: Duration,
    shutdown: CancellationToken,
) {
    loop {
        let link = links.borrow_and_update().clone();
        let work = async {
            match link {
                None => std::future::pending().await,
                Some(link) => loop {
                    if let Err(error) = ship(&logs, link.clone(), idle).await {
                        tracing::debug!(%error, "log stream ended");
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = links.changed() => if changed.is_err() { return },
            () = work => {}
        }
    }
}

/// Opens a stream when there is something to ship, and returns when nothing has been left for a while.
async fn ship(logs: &Logs, link: Link, idle: Duration) -> Result<(), Status> {
    while logs.is_empty() {
        logs.changed().await;
    }
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let mut request = tonic::Request::new(ReceiverStream::new(receiver));
    let metadata = request.metadata_mut();
    if let Ok(agent) = link.agent.parse() {
        metadata.insert("muster-agent", agent);
    }
    metadata.insert("muster-session", link.session.into());
    let mut client = SessionServiceClient::new(link.channel);
    let acks = client.ship_logs(request).await?.into_inner();
    Shipment {
        sender,
        acks,
        // What was looked at on an earlier stream may not have arrived.
        waiting: logs.attempts(),
        places: BTreeMap::new(),
        under_way: 0,
        last: None,
    }
    .run(logs, idle)
    .await
}

/// One stream.
struct Shipment {
    sender: mpsc::Sender<pb::LogChunk>,
    acks: Streaming<pb::LogAck>,
    /// Logs that may have something to send.
    waiting: BTreeSet<AttemptId>,
    places: BTreeMap<AttemptId, Place>,
    under_way: usize,
    /// Whose turn it was last.
    last: Option<AttemptId>,
}

/// Where one attempt's log stands on this stream.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The length the coordinator said it has; `None`: not asked yet.
    length: Option<u64>,
    under_way: bool,
    /// The end was announced with this length. Where the coordinator has more than there is, because this host
    /// lost some of it, that is the longer one: the checksum tells the coordinator to begin again.
    ended_at: Option<u64>,
}

impl Shipment {
    async fn run(mut self, logs: &Logs, idle: Duration) -> Result<(), Status> {
        loop {
            self.send(logs).await;
            let waiting = self.under_way > 0;
            tokio::select! {
                ack = self.acks.message() => match ack? {
                    Some(ack) => self.on_ack(logs, &ack),
                    None => return Err(Status::unavailable("the coordinator ended the stream")),
                },
                () = logs.changed() => {}
                () = tokio::time::sleep(ANSWER), if waiting => {
                    return Err(Status::deadline_exceeded("no answer to a log chunk"));
                }
                () = tokio::time::sleep(idle), if !waiting => {
                    if logs.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends the next chunk of every log that has one, in turn.
    async fn send(&mut self, logs: &Logs) {
        self.waiting.append(&mut logs.touched());
        let mut unreadable = BTreeSet::new();
        while self.under_way < UNDER_WAY
            && let Some(attempt) = self.next_turn()
        {
            self.last = Some(attempt);
            let file = logs.file(attempt).filter(|file| !file.is_complete());
            let Some(file) = file else {
                self.places.remove(&attempt);
                continue;
            };
            let fresh = Place {
                length: (!file.was_shipped()).then_some(0),
                under_way: false,
                ended_at: None,
            };
            let place = self.places.entry(attempt).or_insert(fresh);
            if !place.wants(&file) {
                continue;
            }
            let Some(chunk) = next_chunk(place.length, &file).await else {
                unreadable.insert(attempt);
                continue;
            };
            place.under_way = true;
            file.note_shipping();
            place.ended_at = chunk.last.then(|| end_of(&chunk));
            self.under_way += 1;
            let full = failpoint::soon(Point::AgentLogSent, || !chunk.data.is_empty());
            if self.sender.send(chunk).await.is_err() {
                return; // the stream is over; reading its answers says why
            }
            full.hit();
        }
        // Perhaps at the next change.
        self.waiting.append(&mut unreadable);
    }

    /// Takes out the next one after the last, round and round.
    fn next_turn(&mut self) -> Option<AttemptId> {
        let after = (
            self.last.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let next = self
            .waiting
            .range(after)
            .next()
            .or_else(|| self.waiting.first());
        let next = *next?;
        self.waiting.take(&next)
    }

    fn on_ack(&mut self, logs: &Logs, ack: &pb::LogAck) {
        let Some(attempt) = ack.attempt.as_ref().and_then(wire::attempt_id) else {
            return;
        };
        let Some(place) = self.places.get_mut(&attempt) else {
            return;
        };
        if place.under_way {
            place.under_way = false;
            self.under_way -= 1;
        }
        place.length = Some(ack.length);
        if place.ended_at.is_some_and(|end| ack.length != end) {
            place.ended_at = None; // it has something else: go on from there
        }
        let Some(file) = logs.file(attempt) else {
            self.places.remove(&attempt);
            return;
        };
        file.note_sent(ack.length);
        if ack.complete {
            file.complete();
            self.places.remove(&attempt);
            return;
        }
        // It may have more.
        self.waiting.insert(attempt);
    }
}

impl Place {
    fn wants(&self, file: &LogFile) -> bool {
        if self.under_way || file.is_complete() {
            return false;
        }
        match self.length {
            None => true,
            Some(length) => {
                length < file.written() || (file.finished().is_some() && self.ended_at.is_none())
            }
        }
    }
}

/// The chunk from `length` on; an empty one to ask for the length. `None`: the disk failed.
async fn next_chunk(length: Option<u64>, file: &Arc<LogFile>) -> Option<pb::LogChunk> {
    let attempt = Some(wire::from_attempt_id(file.attempt()));
    let Some(offset) = length else {
        return Some(pb::LogChunk {
            attempt,
            ..Default::default()
        });
    };
    // In this order: what is final does not grow.
    let finished = file.finished();
    let read = if offset >= file.written() {
        Ok(Ok(Vec::new())) // as of a task that printed nothing
    } else {
        let reader = Arc::clone(file);
        files::spawn(move || reader.read(offset, CHUNK)).await
    };
    match read {
        Ok(Ok(data)) => {
            let mut chunk = pb::LogChunk {
                attempt,
                offset,
                data: data.into(),
                ..Default::default()
            };
            if let Some(crc32) = finished.filter(|_| end_of(&chunk) >= file.written()) {
                chunk.last = true;
                chunk.crc32 = crc32;
            }
            Some(chunk)
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "spooled output can't be read");
            None
        }
        Err(_) => None,
    }
}

/// Where the next chunk begins.
fn end_of(chunk: &pb::LogChunk) -> u64 {
    chunk.offset + u64::try_from(chunk.data.len()).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests;
