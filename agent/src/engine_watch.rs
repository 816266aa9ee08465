//! Listens to the engine: who else signalled a container, and whether images changed.
//!
//! The engine tells of a signal before it tells of the death that followed, on one stream. So when a
//! death has been heard, every signal before it has been heard too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use muster_core::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host;
use crate::runtime::{EngineError, EngineEvent, Runtime};

/// How long the end of an attempt waits for the word of its death.
const SETTLE: Duration = Duration::from_millis(250);
const RECONNECT: Duration = Duration::from_secs(1);
/// SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM: what ends a process that does not expect it.
const DEADLY: [i32; 5] = [1, 2, 3, 9, 15];

/// What was heard.
#[derive(Debug)]
pub(crate) struct EngineWatch {
    heard: Mutex<Heard>,
    /// Counts what was heard of containers.
    turn: watch::Sender<u64>,
    /// Counts changes of images.
    images: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Only of containers that somebody asked to be kept in mind.
    containers: BTreeMap<String, Fate>,
    connected: bool,
    /// When the stream last broke.
    last_contact: Timestamp,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    kill: Option<Timestamp>,
    died: bool,
}

impl EngineWatch {
    pub(crate) fn new() -> Self {
        Self {
            heard: Mutex::default(),
            turn: watch::Sender::new(0),
            images: watch::Sender::new(0),
        }
    }

    /// Keeps what is heard of this container from now on.
    pub(crate) fn remember(&self, container: &str) {
        let mut heard = self.lock();
        heard.containers.entry(container.to_owned()).or_default();
    }

    pub(crate) fn forget(&self, container: &str) {
        self.lock().containers.remove(container);
    }

    pub(crate) fn images_changed(&self) -> watch::Receiver<u64> {
        self.images.subscribe()
    }

    /// When the stream last broke: the last good contact with an engine that was restarted since.
    pub(crate) fn last_break(&self) -> Timestamp {
        self.lock().last_contact
    }

    /// When somebody had the engine send a deadly signal to a container that has ended. Waits a
    /// moment for the stream to catch up.
    pub(crate) async fn foreign_kill(&self, container: &str) -> Option<Timestamp> {
        let mut turn = self.turn.subscribe();
        let settled = async {
            loop {
                {
                    let heard = self.lock();
                    let fate = heard.containers.get(container);
                    if !heard.connected || fate.is_none_or(|fate| fate.died) {
                        return;
                    }
                }
                if turn.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SETTLE, settled).await.is_err() {
            tracing::debug!("no word of a container's death");
        }
        self.lock().containers.get(container)?.kill
    }

    /// Listens until `shutdown`, over restarts of the engine.
    pub(crate) async fn run(&self, runtime: impl Runtime, shutdown: CancellationToken) {
        let listen = async {
            let mut since = None;
            loop {
                // Only an engine that answers is a contact: the events themselves may be long in coming.
                let asked = host::now();
                if runtime.ping().await.is_ok() {
                    self.listen(runtime.events(since.or(Some(asked)))).await;
                    since = Some(self.last_break());
                }
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = listen => {}
        }
    }

    /// Takes in one stream of events, to its end.
    async fn listen(
        &self,
        mut events: impl Stream<Item = Result<EngineEvent, EngineError>> + Unpin,
    ) {
        self.lock().connected = true;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.on_event(event),
                Err(error) => {
                    tracing::debug!(%error, "engine events ended");
                    break;
                }
            }
        }
        self.on_gone();
    }

    fn on_event(&self, event: EngineEvent) {
        match event {
            EngineEvent::Images => self.images.send_modify(|count| *count += 1),
            EngineEvent::Kill {
                container,
                signal,
                at,
            } => {
                if DEADLY.contains(&signal)
                    && let Some(fate) = self.lock().containers.get_mut(&container)
                {
                    fate.kill.get_or_insert(at);
                }
            }
            EngineEvent::Die { container } => {
                if let Some(fate) = self.lock().containers.get_mut(&container) {
                    fate.died = true;
                }
                self.turn.send_modify(|count| *count += 1);
            }
        }
    }

    fn on_gone(&self) {
        let mut heard = self.lock();
        heard.connected = false;
        heard.last_contact = host::now();
        drop(heard);
        self.turn.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no holder of the lock panics")
    }
}
