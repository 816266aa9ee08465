//! Streams of the coordinator that survive its restarts.
//!
//! Each is a task that keeps its own place and sends news over a bounded channel. Dropping the receiver
//! ends it.

use std::collections::BTreeSet;

use muster_proto::v1;
use muster_proto::v1::watch_event::Change;
use tokio::sync::mpsc;
use tonic::Status;

use crate::client::{Backoff, Client, is_transient};

/// News are small, and whoever reads them is quick.
const BUFFERED: usize = 64;

/// What a stream says.
#[derive(Debug)]
pub(crate) enum News<T> {
    Item(T),
    /// The coordinator can't be reached now; said once.
    Lost,
    /// It answers again.
    Back,
    /// The stream said all there is.
    Ended,
    /// It will not go on.
    Failed(Status),
}

/// Follows jobs until every one of them has ended.
pub(crate) fn jobs(client: &Client, request: v1::WatchRequest) -> mpsc::Receiver<News<Change>> {
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let watch = JobWatch {
        client: client.clone(),
        wanted: request.jobs.len(),
        request,
        ended: BTreeSet::new(),
    };
    tokio::spawn(keep_going(watch, sender));
    receiver
}

/// Follows the log of one attempt. After a broken connection it goes on where it was.
pub(crate) fn logs(client: &Client, request: v1::LogsRequest) -> mpsc::Receiver<News<LogPiece>> {
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let logs = LogWatch {
        client: client.clone(),
        request,
        first: None,
        delivered: [0; 4],
        complete: false,
    };
    tokio::spawn(keep_going(logs, sender));
    receiver
}

/// Follows a rollout until it has ended.
pub(crate) fn rollout(
    client: &Client,
    request: v1::GetRolloutRequest,
) -> mpsc::Receiver<News<v1::Rollout>> {
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let watch = RolloutWatch {
        client: client.clone(),
        request,
        ended: false,
    };
    tokio::spawn(keep_going(watch, sender));
    receiver
}

/// A part of a log.
#[derive(Debug)]
pub(crate) enum LogPiece {
    Entry(v1::LogEntry),
    /// Nothing is missing and nothing will follow.
    Complete,
}

/// One stream that can be opened again.
trait Source {
    type Item;

    /// Opens the stream and passes on what it says, until it ends or breaks.
    fn pass(
        &mut self,
        out: &mut Outlet<Self::Item>,
    ) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// Whether everything was said, should the stream end without an error.
    fn is_done(&self) -> bool;
}

/// Why a pass stopped early.
enum Stopped {
    /// Nobody reads any more.
    Closed,
    Broken(Status),
}

impl From<Status> for Stopped {
    fn from(status: Status) -> Self {
        Self::Broken(status)
    }
}

/// Where news go. Says `Back` before the first item after a loss.
struct Outlet<T> {
    sender: mpsc::Sender<News<T>>,
    lost: bool,
    backoff: Backoff,
}

impl<T> Outlet<T> {
    async fn item(&mut self, item: T) -> Result<(), Stopped> {
        self.answered().await?;
        self.news(News::Item(item)).await
    }

    async fn answered(&mut self) -> Result<(), Stopped> {
        self.backoff.reset();
        if std::mem::take(&mut self.lost) {
            self.news(News::Back).await?;
        }
        Ok(())
    }

    async fn news(&self, news: News<T>) -> Result<(), Stopped> {
        self.sender.send(news).await.map_err(|_| Stopped::Closed)
    }
}

async fn keep_going<S: Source>(mut source: S, sender: mpsc::Sender<News<S::Item>>) {
    let mut out = Outlet {
        sender: sender.clone(),
        lost: false,
        backoff: Backoff::new(),
    };
    loop {
        let passed = tokio::select! {
            passed = source.pass(&mut out) => passed,
            () = sender.closed() => return,
        };
        match passed {
            Err(Stopped::Closed) => return,
            Err(Stopped::Broken(status)) if !is_transient(&status) => {
                // A reader that is gone needs no news.
                out.news(News::Failed(status)).await.ok();
                return;
            }
            Ok(()) if source.is_done() => {
                out.news(News::Ended).await.ok();
                return;
            }
            // A coordinator that stops ends its streams without an error.
            Ok(()) | Err(Stopped::Broken(_)) => {
                if !std::mem::replace(&mut out.lost, true) && out.news(News::Lost).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(out.backoff.next_delay()) => {}
                    () = sender.closed() => return,
                }
            }
        }
    }
}

struct JobWatch {
    client: Client,
    /// Its position moves on with each event.
    request: v1::WatchRequest,
    wanted: usize,
    ended: BTreeSet<String>,
}

impl Source for JobWatch {
    type Item = Change;

    async fn pass(&mut self, out: &mut Outlet<Change>) -> Result<(), Stopped> {
        let mut stream = self
            .client
            .jobs()
            .watch(self.request.clone())
            .await?
            .into_inner();
        out.answered().await?;
        while let Some(event) = stream.message().await? {
            if let Some(Change::Job(job)) = &event.change
                && job.state() == v1::JobState::Ended
            {
                self.ended.insert(job.id.clone());
            }
            if let Some(change) = event.change {
                out.item(change).await?;
            }
            self.request.position = event.position;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended.len() >= self.wanted
    }
}

struct LogWatch {
    client: Client,
    request: v1::LogsRequest,
    /// The time of the first entry: with `tail` or `since` a second request begins there.
    first: Option<prost_types::Timestamp>,
    /// Bytes passed on, by stream.
    delivered: [usize; 4],
    complete: bool,
}

impl Source for LogWatch {
    type Item = LogPiece;

    async fn pass(&mut self, out: &mut Outlet<LogPiece>) -> Result<(), Stopped> {
        let mut request = self.request.clone();
        if request.tail > 0 && self.first.is_some() {
            request.tail = 0;
            request.since = self.first;
        }
        let mut skip = self.delivered;
        let mut stream = self.client.jobs().logs(request).await?.into_inner();
        out.answered().await?;
        while let Some(message) = stream.message().await? {
            for mut entry in message.entries {
                self.first = self.first.or(entry.at);
                let place = usize::try_from(entry.stream).unwrap_or(0).min(3);
                let known = skip[place].min(entry.data.len());
                skip[place] -= known;
                entry.data = entry.data.split_off(known);
                if !entry.data.is_empty() {
                    let length = entry.data.len();
                    out.item(LogPiece::Entry(entry)).await?;
                    self.delivered[place] += length;
                }
            }
            if message.complete {
                self.complete = true;
                out.item(LogPiece::Complete).await?;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        // Without `follow` the stream ends at what there is now.
        self.complete || !self.request.follow
    }
}

struct RolloutWatch {
    client: Client,
    request: v1::GetRolloutRequest,
    ended: bool,
}

impl Source for RolloutWatch {
    type Item = v1::Rollout;

    async fn pass(&mut self, out: &mut Outlet<v1::Rollout>) -> Result<(), Stopped> {
        let request = self.request.clone();
        let mut stream = self.client.rollouts().watch(request).await?.into_inner();
        out.answered().await?;
        while let Some(rollout) = stream.message().await? {
            self.ended = rollout.end.is_some();
            out.item(rollout).await?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}
