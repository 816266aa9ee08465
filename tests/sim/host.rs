//! A worker host: its power, its network, its engine, its disk, and the agent's process on it.

use std::collections::{BTreeMap, BTreeSet};

use muster_agent::lease::Contacts;
use muster_agent::outcome::{Kill, KillReason, Run};
use muster_agent::plan::parked::of_task;
use muster_agent::plan::{Journaled, Seen};
use muster_core::agent::HeldImage;
use muster_core::effect::Offer;
use muster_core::event::{AttemptEnd, News};
use muster_core::ids::{AgentId, AttemptId, SessionNo};
use muster_core::image::{Digest, Image};
use muster_core::time::{Millis, Timestamp};
use muster_tests::random::Rng;
use muster_tests::sample;

use crate::bug::Bug;
use crate::lease::Lease;
use crate::parked::{Parked, Pool};
use crate::release::{Flaw, flaw};
use crate::trace::BEGIN;
use crate::warm::Warm;

pub(crate) struct Host {
    pub(crate) id: AgentId,
    pub(crate) places: u32,
    pub(crate) powered: bool,
    pub(crate) destroyed: bool,
    /// The coordinator can be reached.
    pub(crate) reachable: bool,
    /// Orders on the open stream vanish; or reports do.
    pub(crate) deaf: bool,
    pub(crate) mute: bool,
    /// The agent's process stands still.
    pub(crate) asleep_until: Option<Timestamp>,
    /// It stands still for so long after its next heartbeat, whose answer finds it asleep.
    pub(crate) pause_next: Option<Millis>,
    /// When it last fell asleep, by its own clock.
    pub(crate) asleep_since: Timestamp,
    /// What its clocks count while a second passes, in milliseconds.
    pub(crate) rate: u64,
    /// How far its clock of the day was set forward, in milliseconds.
    pub(crate) set_forward: i64,
    /// Its disk takes no new attempts.
    pub(crate) full_until: Timestamp,
    /// Its engine's runtime starts nothing.
    pub(crate) broken_until: Timestamp,
    /// The largest term that the agent has seen.
    pub(crate) term: u64,
    pub(crate) boot: u64,
    /// What the clock that nobody sets showed when it started.
    booted: u64,
    /// The last contact, as the file says that init processes see; it begins anew with the host.
    pub(crate) lease: u64,
    /// The last contact in truth.
    pub(crate) answered: u64,
    pub(crate) engine: Engine,
    /// What the agent has on its disk.
    pub(crate) disk: BTreeMap<AttemptId, Journal>,
    /// The directories of parked containers, and whether what was in them was given to an attempt.
    pub(crate) homes: BTreeMap<u64, bool>,
    /// How many were ever parked: the name of the newest.
    pub(crate) named: u64,
    pub(crate) agent: Option<Agent>,
    /// Counts the agent's processes.
    pub(crate) life: u64,
    pub(crate) session: Option<SessionNo>,
    pub(crate) session_since: Timestamp,
    /// When the last message on its way in each direction arrives: streams keep their order.
    pub(crate) up_at: Timestamp,
    pub(crate) down_at: Timestamp,
}

pub(crate) struct Engine {
    pub(crate) up: bool,
    pub(crate) live_restore: bool,
    pub(crate) started: Timestamp,
    pub(crate) containers: BTreeMap<AttemptId, Container>,
    /// By the names that they were parked with.
    pub(crate) parked: BTreeMap<u64, Parked>,
    pub(crate) images: BTreeSet<Digest>,
    /// Counts processes.
    pub(crate) runs: u64,
}

pub(crate) struct Container {
    pub(crate) state: State,
    /// Why the engine could not start it; empty otherwise.
    pub(crate) error: String,
    pub(crate) digest: Digest,
    pub(crate) program: Program,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) code: i32,
    pub(crate) oom: bool,
    /// A signal of the agent was sent.
    pub(crate) signalled: bool,
    /// A stranger's signal that the agent heard of.
    pub(crate) foreign_kill: Option<Timestamp>,
    pub(crate) lease: Option<Lease>,
    /// What the init process wrote down.
    pub(crate) record: Option<Run>,
    /// It was parked before.
    pub(crate) warm: Option<Warm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running { run: u64 },
    Exited,
}

/// What a container does when it is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) runs_for: u64,
    pub(crate) code: i32,
    pub(crate) oom: bool,
    /// A child was killed for its memory; the task itself may end as it likes.
    pub(crate) child_oom: bool,
    pub(crate) no_entrypoint: bool,
    /// After TERM: how long it takes, and with which code it ends; `None`: it ignores it.
    pub(crate) on_term: Option<(u64, i32)>,
}

impl Program {
    pub(crate) fn of(seed: u64, attempt: AttemptId, digest: Digest) -> Self {
        let mut rng = Rng::new(seed, &format!("program of {attempt}"));
        let runs_for = if rng.chance(90) {
            rng.between(50, 120_000)
        } else {
            rng.between(120_000, 2_000_000)
        };
        let flaw = flaw(digest).filter(|_| rng.chance(80));
        let runs_for = if flaw == Some(Flaw::Hangs) {
            2_000_000
        } else {
            runs_for
        };
        let code = rng.weighted(&[(75, 0), (13, 1), (4, 3), (3, 255), (2, 137), (3, 139)]);
        let code = if flaw == Some(Flaw::Fails) { 1 } else { code };
        Self {
            runs_for,
            code,
            oom: code == 137,
            child_oom: code == 0 && rng.chance(4),
            no_entrypoint: rng.chance(2),
            on_term: rng
                .chance(70)
                .then(|| (rng.between(1, 15_000), rng.weighted(&[(1, 0), (1, 143)]))),
        }
    }
}

/// What survives the agent's process.
pub(crate) struct Journal {
    pub(crate) offer: Offer,
    /// The last contact with the coordinator before, and the start of the host that it was in.
    pub(crate) heard: (u64, u64),
    pub(crate) intent: Option<Intent>,
    pub(crate) started: bool,
    pub(crate) kills: Vec<Kill>,
    pub(crate) ended: Option<AttemptEnd>,
    /// It was written anew, without what only the first one knew.
    pub(crate) adopted: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Intent {
    pub(crate) at: Timestamp,
    pub(crate) boot_clock: u64,
    pub(crate) boot: u64,
    pub(crate) engine_started: Timestamp,
    /// The parked container that is told.
    pub(crate) warm: Option<u64>,
}

impl Journal {
    pub(crate) const fn reached(&self) -> Journaled {
        if self.ended.is_some() {
            Journaled::Ended
        } else if self.started {
            Journaled::Started
        } else if self.intent.is_some() {
            Journaled::StartIntent
        } else {
            Journaled::Accepted
        }
    }
}

/// The agent's process: everything in here is gone when it ends.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) lives: BTreeMap<AttemptId, Life>,
    pub(crate) contacts: Contacts,
    outbox: BTreeMap<u64, (AttemptId, u64, News)>,
    last: u64,
    /// Since when it sees containers without a journal, and which of them the coordinator does not want.
    pub(crate) orphans: BTreeMap<AttemptId, Timestamp>,
    pub(crate) discarded: BTreeSet<AttemptId>,
    /// Named in the newest Hello, and nothing was heard of them yet.
    pub(crate) undecided: BTreeSet<AttemptId>,
    pub(crate) pool: Pool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Life {
    pub(crate) following: bool,
    pub(crate) stop: Option<(KillReason, bool)>,
    /// The last contact with the engine that ran it, if that is gone.
    pub(crate) contact: Option<Timestamp>,
    /// From which contact with the coordinator on it counts silences.
    pub(crate) since: Option<u64>,
    /// Nothing of it was there before this process.
    pub(crate) fresh: bool,
    /// The parked container that was taken for it.
    pub(crate) given: Option<u64>,
    /// Its init process said that it runs the task.
    pub(crate) told: bool,
}

/// What an attempt's life does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Prepared,
    Start,
    CallStart,
    /// A container that was parked gets its attempt's name.
    Rename,
    Started,
    Look,
    AwaitOver,
    Stop,
    Grace,
    Timeout,
    /// Is it still in contact?
    Contact,
    Harvest,
    Remove,
}

impl Agent {
    /// One that knows no more than when it was last heard.
    pub(crate) fn begin(contact: u64) -> Self {
        Self {
            contacts: Contacts::resume(contact),
            ..Self::default()
        }
    }

    /// Keeps a report until it is acknowledged.
    pub(crate) fn put(&mut self, attempt: AttemptId, seq: u64, news: News) {
        self.last += 1;
        self.outbox.insert(self.last, (attempt, seq, news));
    }

    /// Of an attempt that comes to this process.
    pub(crate) fn new_life(&self) -> Life {
        Life {
            since: Some(self.contacts.last()),
            ..Life::default()
        }
    }

    pub(crate) fn acknowledge(&mut self, attempt: AttemptId, seq: u64) {
        self.outbox
            .retain(|_, (of, sent, _)| *of != attempt || *sent > seq);
    }

    pub(crate) fn forget_reports(&mut self) {
        self.outbox.clear();
    }

    pub(crate) fn unsent(&self, of: Option<AttemptId>) -> Vec<(AttemptId, u64, News)> {
        let wanted = self.outbox.values();
        wanted
            .filter(|(attempt, _, _)| of.is_none_or(|of| of == *attempt))
            .cloned()
            .collect()
    }
}

impl Host {
    pub(crate) fn new(number: usize, leases: bool, rng: &mut Rng) -> Self {
        // What a lease allows two clocks to be apart is less than a tenth.
        let spread = if leases { 40 } else { 100 };
        let id = AgentId::parse(&format!("host-{number}")).expect("it is a name");
        Self {
            id,
            places: u32::try_from(rng.between(1, 6)).expect("a handful"),
            powered: true,
            destroyed: false,
            reachable: true,
            deaf: false,
            mute: false,
            asleep_until: None,
            pause_next: None,
            asleep_since: Timestamp(0),
            rate: rng.between(1_000 - spread, 1_000 + spread),
            set_forward: 0,
            full_until: Timestamp(0),
            broken_until: Timestamp(0),
            term: 0,
            boot: 1,
            booted: 0,
            lease: 0,
            answered: 0,
            engine: Engine {
                up: true,
                live_restore: rng.chance(50),
                started: Timestamp(1_000),
                containers: BTreeMap::new(),
                parked: BTreeMap::new(),
                images: BTreeSet::new(),
                runs: 0,
            },
            disk: BTreeMap::new(),
            homes: BTreeMap::new(),
            named: 0,
            agent: None,
            life: 0,
            session: None,
            session_since: BEGIN,
            up_at: Timestamp(0),
            down_at: Timestamp(0),
        }
    }

    pub(crate) fn seen(&self, attempt: AttemptId) -> Seen {
        let Some(container) = self.engine.containers.get(&attempt) else {
            return Seen::Nothing;
        };
        let seen = match container.state {
            State::Created if !container.error.is_empty() => Seen::StartFailed,
            State::Created => Seen::Created,
            State::Running { .. } => Seen::Running,
            State::Exited => Seen::Exited,
        };
        let warm = container.warm;
        warm.map_or(seen, |warm| of_task(seen, warm.has_started()))
    }

    /// The clock that nobody sets, in milliseconds.
    pub(crate) const fn boot_clock(&self, now: Timestamp) -> u64 {
        now.since(BEGIN).0 * self.rate / 1_000
    }

    /// Since it started.
    pub(crate) const fn uptime(&self, now: Timestamp) -> u64 {
        self.boot_clock(now) - self.booted
    }

    /// That clock begins anew, and so does the file of the last contact.
    pub(crate) const fn begin_boot(&mut self, now: Timestamp) {
        self.boot += 1;
        self.booted = self.boot_clock(now);
        self.lease = 0;
        self.answered = 0;
    }

    /// The clock of the day, which dates everything on this host.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        let at = (BEGIN.0 + self.boot_clock(now)).checked_add_signed(self.set_forward);
        Timestamp(at.expect("it is set by hours at most"))
    }

    /// How long it takes until its clocks have counted so much.
    pub(crate) const fn takes(&self, span: Millis) -> Millis {
        Millis(span.0 * 1_000 / self.rate)
    }

    /// The engine's stream breaks, which the agent notices when it is awake.
    pub(crate) fn lose_engine(&mut self, now: Timestamp, bug: Option<Bug>) {
        let asleep = self.asleep_until.filter(|until| *until > now);
        let looked = asleep.map_or_else(|| self.clock(now), |_| self.asleep_since);
        let noticed = self.clock(asleep.unwrap_or(now));
        let Some(agent) = &mut self.agent else { return };
        for life in agent.lives.values_mut() {
            if bug == Some(Bug::TrustNewestBreak) {
                life.contact = Some(noticed);
            } else {
                life.contact.get_or_insert(looked);
            }
        }
    }

    pub(crate) fn held(&self) -> Vec<HeldImage> {
        let images = self.engine.images.iter();
        images
            .map(|digest| HeldImage {
                id: *digest,
                images: vec![Image::Remote {
                    repository: sample::repository(),
                    digest: *digest,
                }],
                tags: vec![],
            })
            .collect()
    }

    /// Something that should be gone when all jobs have ended.
    pub(crate) fn leftover(&self) -> Option<String> {
        if self.destroyed {
            return None;
        }
        let container = self.engine.containers.keys().next();
        let parked = self.stray();
        let journal = self.disk.keys().next();
        let outbox = self
            .agent
            .as_ref()
            .and_then(|agent| agent.outbox.values().next());
        let nothing = container.is_none() && parked.is_none();
        if nothing && journal.is_none() && outbox.is_none() {
            return None;
        }
        Some(format!(
            "{}: container {container:?}, parked {parked:?}, journal {journal:?}, report {outbox:?}",
            self.id
        ))
    }
}
