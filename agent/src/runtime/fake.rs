//! An engine in memory that misbehaves as the real one does, for tests and benchmarks.
//!
//! What it copies: a start whose caller hung up runs all the same; a second start of an exited
//! container runs it again; a name in use is a conflict; a container that was never started is
//! told from one that ended; one that the engine can't start stays `created`, with an error; what
//! becomes of containers when the daemon is killed or stopped, or the host loses its power.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use muster_core::logframe::LogStream;
use tokio::sync::{broadcast, watch};

use self::daemon::Feed;
pub use self::pace::Pace;
use super::{
    Container, DaemonStart, EngineEvent, ImageFacts, NewContainer, Output, Signal, Traces,
};
use crate::host;
use crate::plan::Seen;

mod daemon;
mod engine;
mod namespace;
mod pace;
mod parked;

/// What a container does once it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    pub takes: Duration,
    pub exit_code: i32,
    /// Printed at the start: stream and text, one piece each.
    pub output: Vec<(LogStream, String)>,
    /// What it does about TERM.
    pub on_term: OnTerm,
    /// The engine can't start it: `created`, code 128 and an error.
    pub refused: bool,
    /// One of its processes is killed for its memory; the exit code need not show it.
    pub oom: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTerm {
    Die,
    Ignore,
    /// Traps it and exits with this code.
    Exit(i32),
}

impl Default for Behaviour {
    /// Exits with 0 at once and prints nothing.
    fn default() -> Self {
        Self {
            takes: Duration::ZERO,
            exit_code: 0,
            output: Vec::new(),
            on_term: OnTerm::Die,
            refused: false,
            oom: false,
        }
    }
}

impl Behaviour {
    /// Runs until it is stopped.
    #[must_use]
    pub fn forever() -> Self {
        Self {
            takes: Duration::from_secs(86_400 * 365),
            ..Self::default()
        }
    }

    /// Its init process finds no such program.
    #[must_use]
    pub fn missing_entrypoint() -> Self {
        let text = "[FATAL tini (7)] exec /no/such failed: No such file or directory\n";
        Self {
            exit_code: 127,
            output: vec![(LogStream::Stderr, text.to_owned())],
            ..Self::default()
        }
    }
}

/// What the next start does wrong. A client of the engine can't tell the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The caller sees an error, and the container runs all the same.
    HangUpAfterStarting,
    /// The caller sees an error, and nothing runs.
    HangUpBeforeStarting,
}

/// The engine. Clones are the same engine: it outlives the agents that use it.
#[derive(Debug, Clone)]
pub struct FakeRuntime {
    inner: Arc<Mutex<Inner>>,
    events: broadcast::Sender<EngineEvent>,
    feed: Arc<Mutex<Feed>>,
    /// Changes when the daemon ends.
    life: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    started: DaemonStart,
    containers: BTreeMap<String, FakeContainer>,
    images: BTreeMap<String, ImageFacts>,
    /// Images that a registry has.
    remote: BTreeMap<String, ImageFacts>,
    /// Somebody's names for images, by reference.
    tags: BTreeMap<String, String>,
    scripts: Vec<(String, Behaviour)>,
    start_faults: VecDeque<StartFault>,
    /// The same for parked containers, when they are told what to run.
    tell_faults: VecDeque<StartFault>,
    /// What parked containers were told to run, by their names.
    told: BTreeMap<String, Vec<String>>,
    /// Starts per container name: more than one is a broken promise.
    starts: BTreeMap<String, u32>,
    /// What it was asked to create, and when; `None`: nobody wants to know.
    creations: Option<Vec<(String, SystemTime)>>,
    pulls: u32,
    /// With their labels.
    networks: BTreeMap<String, BTreeMap<String, String>>,
    /// It answers no ping.
    ill: bool,
    /// Containers that can't be signalled.
    stuck: BTreeSet<String>,
    /// Containers that can't be inspected.
    opaque: BTreeSet<String>,
    /// There is no daemon.
    down: bool,
    /// Containers outlive the daemon.
    live_restore: bool,
    /// The daemon can't write.
    full: bool,
    /// It can mount what is on this host.
    mounts: bool,
    pace: Pace,
    /// What tasks left in the network namespaces of parked containers.
    traces: BTreeMap<String, Traces>,
    /// The agent's host can see into its network namespaces.
    in_sight: bool,
}

#[derive(Debug)]
struct FakeContainer {
    new: NewContainer,
    state: Container,
    behaviour: Behaviour,
    logs: Vec<Output>,
    /// Grows with every change of state or output.
    turn: watch::Sender<u64>,
    /// The power went while it ran.
    cut_off: bool,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeRuntime {
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            started: start_now(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            remote: BTreeMap::new(),
            tags: BTreeMap::new(),
            scripts: Vec::new(),
            start_faults: VecDeque::new(),
            tell_faults: VecDeque::new(),
            told: BTreeMap::new(),
            mounts: false,
            starts: BTreeMap::new(),
            creations: None,
            pulls: 0,
            networks: BTreeMap::new(),
            ill: false,
            stuck: BTreeSet::new(),
            opaque: BTreeSet::new(),
            down: false,
            live_restore: false,
            full: false,
            pace: Pace::default(),
            traces: BTreeMap::new(),
            in_sight: false,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            events: broadcast::channel(1024).0,
            feed: Arc::default(),
            life: watch::Sender::new(0),
        }
    }

    /// Containers whose first argument is `word` behave so. Others exit with 0 at once.
    pub fn script(&self, word: &str, behaviour: Behaviour) {
        self.lock().scripts.push((word.to_owned(), behaviour));
    }

    /// The engine holds this image.
    pub fn hold(&self, image: &str) {
        let facts = facts(image);
        self.lock().images.insert(image.to_owned(), facts);
    }

    /// A registry has this image.
    pub fn publish(&self, image: &str) {
        let facts = facts(image);
        self.lock().remote.insert(image.to_owned(), facts);
    }

    /// Somebody gives an image a name of their own.
    pub fn tag(&self, image: &str, tag: &str) {
        self.lock().tags.insert(image.to_owned(), tag.to_owned());
    }

    /// The images that the engine holds.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        self.lock().images.keys().cloned().collect()
    }

    /// From now on the engine answers no ping, or it does again.
    pub fn set_ill(&self, ill: bool) {
        self.lock().ill = ill;
    }

    /// From now on the engine can't signal this container: the request runs into its deadline.
    pub fn get_stuck(&self, name: &str) {
        self.lock().stuck.insert(name.to_owned());
    }

    /// From now on the engine does not show this container to who asks for it by name, or it does again.
    pub fn set_opaque(&self, name: &str, opaque: bool) {
        let mut inner = self.lock();
        if opaque {
            inner.opaque.insert(name.to_owned());
        } else {
            inner.opaque.remove(name);
        }
    }

    pub fn fail_next_start(&self, fault: StartFault) {
        self.lock().start_faults.push_back(fault);
    }

    /// How often each container was started.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<String, u32> {
        self.lock().starts.clone()
    }

    /// Takes out the starts since the last call, so that a long run does not keep them all.
    #[must_use]
    pub fn take_starts(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.lock().starts)
    }

    /// From now on it notes what it is asked to create.
    pub fn note_creations(&self) {
        self.lock().creations.get_or_insert_default();
    }

    /// Takes out what was noted: names of containers, and when it was asked for each.
    #[must_use]
    pub fn take_creations(&self) -> Vec<(String, SystemTime)> {
        let mut inner = self.lock();
        inner
            .creations
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    #[must_use]
    pub fn pulls(&self) -> u32 {
        self.lock().pulls
    }

    /// Names of the containers that are there.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().containers.keys().cloned().collect()
    }

    /// What a container was asked to be.
    #[must_use]
    pub fn asked(&self, name: &str) -> Option<NewContainer> {
        let inner = self.lock();
        Some(inner.containers.get(name)?.new.clone())
    }

    /// Somebody at the host's keyboard has the engine send a signal.
    pub fn kill_from_outside(&self, name: &str, signal: Signal) {
        self.signal(name, signal);
    }

    /// The container's process ends by itself. False if it doesn't run.
    pub fn exit(&self, name: &str, code: i32) -> bool {
        let mut inner = self.lock();
        let Some(container) = inner.containers.get_mut(name) else {
            return false;
        };
        let runs = container.state.seen == Seen::Running && !container.cut_off;
        if runs {
            self.end(name, container, code);
        }
        runs
    }

    /// The container's process prints something. False if it doesn't run.
    pub fn print(&self, name: &str, stream: LogStream, text: &str) -> bool {
        let mut inner = self.lock();
        let Some(container) = inner.containers.get_mut(name) else {
            return false;
        };
        let runs = container.state.seen == Seen::Running;
        if runs {
            container.logs.push(Output {
                stream,
                at_micros: host::now().0 * 1000,
                data: text.to_owned().into(),
            });
            container.turn.send_modify(|turn| *turn += 1);
        }
        runs
    }

    /// Somebody removes the container by force.
    pub fn remove_from_outside(&self, name: &str) {
        let removed = self.lock().containers.remove(name);
        if let Some(container) = removed {
            container.turn.send_modify(|turn| *turn += 1);
        }
    }

    fn signal(&self, name: &str, signal: Signal) -> bool {
        let mut inner = self.lock();
        let Some(container) = inner.containers.get_mut(name) else {
            return false;
        };
        if container.state.seen != Seen::Running || container.cut_off {
            return false;
        }
        self.tell(EngineEvent::Kill {
            container: name.to_owned(),
            signal: signal.number(),
            at: host::now(),
        });
        let code = match (signal, container.behaviour.on_term) {
            (Signal::Kill, _) => Some(137),
            (Signal::Term, OnTerm::Die) => Some(143),
            (Signal::Term, OnTerm::Exit(code)) => Some(code),
            (Signal::Term, OnTerm::Ignore) => None,
        };
        if let Some(code) = code {
            self.end(name, container, code);
        }
        true
    }

    fn end(&self, name: &str, container: &mut FakeContainer, code: i32) {
        container.state.seen = Seen::Exited;
        container.state.exit_code = code;
        container.state.finished = Some(host::now());
        container.turn.send_modify(|turn| *turn += 1);
        self.tell(EngineEvent::Die {
            container: name.to_owned(),
        });
    }

    /// Lets the container run. On an exited one: again.
    fn launch(&self, name: &str, container: &mut FakeContainer) {
        let behaviour = container.behaviour.clone();
        container.state.seen = Seen::Running;
        container.state.started = Some(host::now());
        let at = host::now().0 * 1000;
        for (place, (stream, text)) in (0_u64..).zip(&behaviour.output) {
            container.logs.push(Output {
                stream: *stream,
                at_micros: at + place,
                data: text.clone().into(),
            });
        }
        container.turn.send_modify(|turn| *turn += 1);
        let (engine, name) = (self.clone(), name.to_owned());
        let parked = container
            .new
            .init
            .as_ref()
            .filter(|init| init.run.is_none());
        match parked.map(|init| init.records.clone()) {
            Some(records) => tokio::spawn(engine.wait_for_task(name, records)),
            None => tokio::spawn(engine.run_to_the_end(name, behaviour)),
        };
    }

    async fn run_to_the_end(self, name: String, behaviour: Behaviour) {
        tokio::time::sleep(behaviour.takes).await;
        let mut inner = self.lock();
        if let Some((name, container)) = inner.created_as(&name)
            && container.state.seen == Seen::Running
            && !container.cut_off
        {
            container.state.oom_killed = behaviour.oom;
            self.end(name, container, behaviour.exit_code);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the lock panics")
    }
}

fn facts(image: &str) -> ImageFacts {
    let digest = image.rsplit('@').next().unwrap_or(image);
    ImageFacts {
        id: digest.to_owned(),
        entrypoint: Vec::new(),
        command: Vec::new(),
        user: String::new(),
    }
}

/// The start of a daemon that starts now.
fn start_now() -> DaemonStart {
    DaemonStart {
        at: host::now(),
        // Finer than the ticks of a real one, so that no two are alike.
        ticks: host::boot_clock(),
    }
}
