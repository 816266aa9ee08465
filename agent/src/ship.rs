//! Ships logs to the coordinator: one chunk per attempt at a time, from wherever the coordinator says
//! it is. See `docs/logs.md`.

use std::collections::BTreeMap;
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

use crate::output::Logs;
use crate::output::spool::LogFile;
use crate::wire;

const CHUNK: usize = 256 << 10;
/// Chunks under way at a time, of all attempts.
const UNDER_WAY: usize = 8;
/// A chunk without an answer for so long: the stream is dead.
const ANSWER: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// A connection that the session found to work; the agent's name is sent along.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub channel: Channel,
    pub agent: String,
    pub session: u64,
}

/// Ships whatever is in `logs` while there is a link.
pub(crate) async fn run(
    logs: Arc<Logs>,
    mut links: watch::Receiver<Option<Link>>,
    shutdown: CancellationToken,
) {
    loop {
        let link = links.borrow_and_update().clone();
        let work = async {
            match link {
                None => std::future::pending().await,
                Some(link) => {
                    if let Err(error) = ship(&logs, link).await {
                        tracing::debug!(%error, "log stream ended");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = links.changed() => if changed.is_err() { return },
            () = work => {}
        }
    }
}

async fn ship(logs: &Logs, link: Link) -> Result<(), Status> {
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
        places: BTreeMap::new(),
        under_way: 0,
        last: None,
    }
    .run(logs)
    .await
}

/// One stream.
struct Shipment {
    sender: mpsc::Sender<pb::LogChunk>,
    acks: Streaming<pb::LogAck>,
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
    /// The end was announced with this length.
    ended_at: Option<u64>,
}

impl Shipment {
    async fn run(mut self, logs: &Logs) -> Result<(), Status> {
        loop {
            self.send(logs).await;
            let waiting = self.under_way > 0;
            tokio::select! {
                ack = self.acks.message() => match ack? {
                    Some(ack) => self.on_ack(logs, &ack),
                    None => return Ok(()),
                },
                () = logs.changed() => {}
                () = tokio::time::sleep(ANSWER), if waiting => {
                    return Err(Status::deadline_exceeded("no answer to a log chunk"));
                }
            }
        }
    }

    /// Sends the next chunk of every log that has one, in turn.
    async fn send(&mut self, logs: &Logs) {
        let mut files = logs.files();
        self.places
            .retain(|attempt, place| place.under_way || has(&files, *attempt));
        let turn = files.partition_point(|file| Some(file.attempt()) <= self.last);
        files.rotate_left(turn);
        for file in files {
            if self.under_way >= UNDER_WAY {
                return;
            }
            let fresh = Place {
                length: (!file.was_shipped()).then_some(0),
                under_way: false,
                ended_at: None,
            };
            let place = self.places.entry(file.attempt()).or_insert(fresh);
            if !place.wants(&file) {
                continue;
            }
            let Some(chunk) = next_chunk(place.length, &file).await else {
                continue;
            };
            place.under_way = true;
            file.note_shipping();
            place.ended_at = chunk.last.then(|| file.written());
            self.last = Some(file.attempt());
            self.under_way += 1;
            let full = failpoint::soon(Point::AgentLogSent, || !chunk.data.is_empty());
            if self.sender.send(chunk).await.is_err() {
                return; // the stream is over; reading its answers says why
            }
            full.hit();
        }
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
        if place.ended_at.is_some_and(|end| ack.length < end) {
            place.ended_at = None; // it lost or refused something: send from there
        }
        let files = logs.files();
        let Some(file) = files.iter().find(|file| file.attempt() == attempt) else {
            return;
        };
        file.note_sent(ack.length);
        if ack.complete {
            file.complete();
        } else if ack.length > file.written() {
            // It has more than there is: this host lost some of it. Begin again.
            place.length = Some(0);
        }
    }
}

fn has(files: &[Arc<LogFile>], attempt: AttemptId) -> bool {
    files.iter().any(|file| file.attempt() == attempt)
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
    let reader = Arc::clone(file);
    let read = tokio::task::spawn_blocking(move || reader.read(offset, CHUNK)).await;
    match read {
        Ok(Ok(data)) => {
            let end = offset + u64::try_from(data.len()).expect("a length fits 64 bits");
            let last = finished.is_some() && end == file.written();
            Some(pb::LogChunk {
                attempt,
                offset,
                data: data.into(),
                last,
                crc32: if last { finished.unwrap_or(0) } else { 0 },
            })
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "spooled output can't be read");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
