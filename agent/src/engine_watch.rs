//! Listens to the engine: who else signalled a container, and whether images changed.
//!
//! The engine tells of a signal before it tells of the death that followed, on one stream. So when a
//! death has been heard, every signal before it has been heard too.
//!
//! When the stream breaks, the engine may have been stopping for as long as this process was not looking,
//! which is long if the process or its host stood still. So the last contact is the last look but one.

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
/// How often it is noted that the stream stands.
const LOOK: Duration = Duration::from_millis(500);
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
    contact: Contact,
}

/// With one stream of events.
#[derive(Debug, Clone, Copy, Default)]
struct Contact {
    latest: Timestamp,
    /// What had come by the latest look is only known to be all that came by this one: a process that
    /// wakes up looks before it hears what happened.
    sure: Timestamp,
}

impl Contact {
    const fn begin(now: Timestamp) -> Self {
        Self {
            latest: now,
            sure: now,
        }
    }

    const fn look(&mut self, now: Timestamp) {
        self.sure = self.latest;
        self.latest = now;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    kill: Option<Timestamp>,
    died: bool,
    /// The last contact before the stream first broke.
    contact: Option<Timestamp>,
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

    /// The engine does not say everything: a push gives an image that is there a digest.
    pub(crate) fn note_images_changed(&self) {
        self.images.send_modify(|count| *count += 1);
    }

    pub(crate) fn images_changed(&self) -> watch::Receiver<u64> {
        self.images.subscribe()
    }

    /// The last good contact with the engine that the container was first heard from, if that engine's
    /// stream has broken since. Breaks after the first may be those of other engines.
    pub(crate) fn last_contact(&self, container: &str) -> Option<Timestamp> {
        self.lock().containers.get(container)?.contact
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
                    since = Some(self.lock().contact.sure);
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
        {
            let mut heard = self.lock();
            heard.connected = true;
            heard.contact = Contact::begin(host::now());
        }
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                _ = looks.tick() => {
                    self.lock().contact.look(host::now());
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => self.on_event(event),
                Some(Err(error)) => {
                    tracing::debug!(%error, "engine events ended");
                    break;
                }
                None => break,
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
        let contact = heard.contact.sure;
        for fate in heard.containers.values_mut() {
            fate.contact.get_or_insert(contact);
        }
        drop(heard);
        self.turn.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const NAME: &str = "mu-0123456789abcdef-1";

    #[tokio::test]
    async fn later_breaks_say_nothing_about_the_engine_of_the_first() {
        let watch = EngineWatch::new();
        watch.remember(NAME);
        assert_eq!(watch.last_contact(NAME), None);
        watch.listen(stream::empty()).await;
        let first = watch.last_contact(NAME);
        assert!(first.is_some_and(|first| first <= host::now()));

        // Another engine, which comes and goes.
        let later = host::now() + muster_core::time::Millis::from_secs(60);
        watch.lock().contact = Contact::begin(later);
        watch.on_gone();
        assert_eq!(watch.last_contact(NAME), first);
    }

    #[test]
    fn a_process_that_stood_still_knows_of_no_contact_meanwhile() {
        let watch = EngineWatch::new();
        watch.remember(NAME);
        let mut contact = Contact::begin(Timestamp(1_000));
        contact.look(Timestamp(1_500));
        contact.look(Timestamp(2_000));
        // It stands still, and looks before it hears that the stream has ended.
        contact.look(Timestamp(90_000));
        watch.lock().contact = contact;
        watch.on_gone();
        assert_eq!(watch.last_contact(NAME), Some(Timestamp(2_000)));
    }
}
