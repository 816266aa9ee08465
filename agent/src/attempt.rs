//! The life of one attempt on this host, from the accepted offer until nothing of it is left.
//!
//! Any of it may be cut off at any await by the end of the process. The next life reads the journal,
//! looks at the engine and goes on by the table in `plan`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::{Millis, Timestamp};
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::config::Config;
use crate::contact::Contact;
use crate::disk::Disks;
use crate::engine_watch::EngineWatch;
use crate::images::Images;
use crate::init;
use crate::journal::{self, History, Intent, Journal};
use crate::leftovers::Orphans;
use crate::metrics::AgentMetrics;
use crate::namespaces::{Lease, Namespaces};
use crate::offer::{DISK_FULL, DOCKER_DEGRADED, Task};
use crate::outbox::Outbox;
use crate::outcome::{Kill, KillReason, Run};
use crate::output::Logs;
use crate::output::spool::{Bounds, Spool};
use crate::plan::{self, Journaled, Seen};
use crate::probe::Probe;
use crate::runtime::{Container, EngineInfo, Runtime};
use crate::starts::Starts;
use crate::usage::{AttemptGroup, Measured};
use crate::warm::Warm;
use crate::wire::{self, seq};

mod adopt;
mod container;
mod finish;
mod home;
mod lodging;
mod prepare;
mod starting;
mod supervise;
mod trace;
mod warm;
mod wedge;

use adopt::adopt;
pub(crate) use container::{
    Surroundings, WARM_LABEL, agent_labels, attempt_of_name, container_name, network_name,
    own_labels, parked_container, parked_name, short,
};
use home::Home;
pub(crate) use starting::Starting;
use wedge::Wedge;

/// What all attempts of an agent share.
pub(crate) struct Shared<R> {
    pub runtime: R,
    pub config: Config,
    pub engine: EngineInfo,
    pub boot_id: String,
    pub contact: Contact,
    /// The program that containers get as their init process. `None`: the engine's own.
    pub init: Option<PathBuf>,
    /// Known from the first welcome of a coordinator on.
    pub cluster: std::sync::OnceLock<String>,
    pub images: Images<R>,
    pub namespaces: Namespaces<R>,
    pub disks: Disks,
    pub probe: Probe,
    /// Creating and starting.
    pub starts: Starts,
    pub outbox: Outbox,
    pub logs: Arc<Logs>,
    pub log_bounds: Bounds,
    pub watch: EngineWatch,
    pub metrics: Arc<AgentMetrics>,
    pub orphans: Orphans,
    pub networks: tokio::sync::RwLock<std::collections::BTreeSet<String>>,
    pub warm: Warm,
}

impl<R> Shared<R> {
    /// Everything of one attempt on this host's disk.
    pub(crate) fn attempt_dir(&self, id: AttemptId) -> PathBuf {
        self.config.data_dir.join(ATTEMPTS).join(id.to_string())
    }

    /// Whether this host's disk knows the attempt.
    pub(crate) fn has_journal(&self, id: AttemptId) -> bool {
        journal::exists(&self.attempt_dir(id))
    }
}

impl<R: Runtime> Shared<R> {
    /// Why this host takes no new tasks now, in the words of a refusal.
    pub(crate) fn refusing(&self) -> Vec<&'static str> {
        let disk = self.disks.check().is_err().then_some(DISK_FULL);
        let engine = self.probe.degraded().then_some(DOCKER_DEGRADED);
        disk.into_iter().chain(engine).collect()
    }
}

/// In the data directory.
pub(crate) const ATTEMPTS: &str = "attempts";
const LOG: &str = "log";
/// The directory that the task finds as `/run/muster`.
pub(crate) const RUN: &str = "run";
/// After an error of the engine that may pass.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The coordinator wants it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    pub reason: KillReason,
    /// Without TERM and grace.
    pub now: bool,
}

/// What the supervisor tells a running attempt.
pub(crate) struct Control {
    /// Set once the container has started.
    pub started: Arc<std::sync::OnceLock<Timestamp>>,
    pub stop: watch::Receiver<Option<StopOrder>>,
    /// The largest acknowledged report.
    pub acknowledged: watch::Receiver<u64>,
    /// As [`Contacts::since`](crate::lease::Contacts::since).
    pub contact: Option<u64>,
    pub starting: Starting,
}

/// How an attempt comes to this process.
pub(crate) enum Origin {
    Offered {
        offer: Box<pb::Offer>,
        cluster: String,
        term: u64,
    },
    Found(Box<History>),
    /// Its container is there, and no journal.
    Adopted {
        offer: Box<pb::Offer>,
        cluster: String,
        term: u64,
    },
}

/// An attempt that ended, or could not go on.
struct Ending {
    end: End,
    container: Option<Container>,
    /// What the init process wrote down, of a container that the engine does not have or can't tell of.
    run: Option<Run>,
}

impl Ending {
    /// Without a process having run.
    fn never_ran(end: End) -> Self {
        Self::of(end, None)
    }

    /// As the engine shows it.
    fn of(end: End, container: Option<Container>) -> Self {
        Self {
            end,
            container,
            run: None,
        }
    }
}

/// A life in progress.
struct Life<R> {
    shared: Arc<Shared<R>>,
    task: Task,
    name: String,
    cluster: String,
    term: u64,
    /// `None`: the container has the engine's init process.
    init_key: Option<String>,
    /// Its first journal was lost, and the output with it.
    adopted: bool,
    dir: PathBuf,
    journal: Journal,
    control: Control,
    wedge: Arc<Wedge>,
    group: Option<AttemptGroup>,
    /// Nothing of it was there before this process.
    fresh: bool,
    measured: Measured,
    /// The namespace that the container joined.
    lease: Option<Lease>,
    intent: Option<Intent>,
    /// The engine was restarted while no agent listened to it.
    restart_missed: bool,
    started: Option<Timestamp>,
    kills: Vec<Kill>,
    pull: Option<Millis>,
    start: Option<Millis>,
    traceparent: String,
    /// Fires when the container is known not to run.
    exited: CancellationToken,
    /// Ends what works for this life when it is over: the next one opens the same files.
    over: CancellationToken,
}

impl<R> Drop for Life<R> {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Runs the attempt to its very end, or until `shutdown`, which leaves everything as it is but for a start that
/// is being asked for.
pub(crate) async fn run<R: Runtime>(
    shared: Arc<Shared<R>>,
    task: Task,
    origin: Origin,
    control: Control,
    shutdown: CancellationToken,
) {
    let span = tracing::info_span!(
        "agent.attempt",
        job.id = %task.id.task.job,
        task.index = task.id.task.index,
        attempt.number = task.id.number.0,
        team = %task.team,
    );
    trace::set_parent(&span, &task.traceparent);
    trace::describe(&span, &task);
    let traceparent = trace::of(&span.context(), &task.traceparent);
    let id = task.id;
    let orderly_end = control.starting.clone().orderly_end(shutdown);
    let life = async {
        match origin {
            Origin::Offered {
                offer,
                cluster,
                term,
            } => {
                let home = Home {
                    name: container_name(&cluster, id),
                    cluster,
                    term,
                    init_key: shared.init.as_ref().map(|_| init::new_key()),
                    adopted: false,
                    heard: Some(shared.contact.heard(&shared.boot_id)),
                };
                failpoint::hit(Point::AgentOffered);
                match Journal::create(shared.attempt_dir(id), home.accepted(&offer)).await {
                    Ok(journal) => {
                        let life = Life::new(shared, task, home, journal, control, traceparent);
                        life.fresh().await;
                    }
                    Err(error) => refuse_unwritable(&shared, id, &error, control).await,
                }
            }
            Origin::Found(history) => match Journal::reopen(&shared.attempt_dir(id)) {
                Ok(journal) => {
                    let home = Home::found(&history);
                    let life = Life::new(shared, task, home, journal, control, traceparent);
                    life.again(*history).await;
                }
                Err(error) => {
                    tracing::error!(%error, "journal can't be opened");
                    shared.logs.remove(id);
                }
            },
            Origin::Adopted {
                offer,
                cluster,
                term,
            } => {
                let home = Home {
                    name: container_name(&cluster, id),
                    cluster,
                    term,
                    // Only the journal had it.
                    init_key: None,
                    adopted: true,
                    heard: None,
                };
                adopt(shared, task, home, &offer, control, traceparent).await;
            }
        }
    };
    tokio::select! {
        () = orderly_end => {}
        () = life.instrument(span) => {}
    }
}

/// The disk took no journal: as far as anybody can ever tell, it was not accepted.
async fn refuse_unwritable<R: Runtime>(
    shared: &Shared<R>,
    id: AttemptId,
    error: &std::io::Error,
    mut control: Control,
) {
    tracing::error!(%error, "offer can't be journaled");
    let refused = pb::Refused {
        reason: DISK_FULL.to_owned(),
        message: format!("the host's disk does not take the journal: {error}"),
    };
    let news = pb::report::News::Refused(refused);
    shared.outbox.put(id, wire::report(id, seq::ANSWER, news));
    let answered = control.acknowledged.wait_for(|acked| *acked >= seq::ANSWER);
    let _ = answered.await; // an error means that the agent is stopping
}

impl<R: Runtime> Life<R> {
    fn new(
        shared: Arc<Shared<R>>,
        task: Task,
        home: Home,
        journal: Journal,
        control: Control,
        traceparent: String,
    ) -> Self {
        let Home {
            name,
            cluster,
            term,
            init_key,
            adopted,
            heard: _,
        } = home;
        let dir = shared.attempt_dir(task.id);
        let group = shared
            .engine
            .cgroup_parents
            .then(|| AttemptGroup::new(&task.id.to_string()));
        shared.watch.remember(&name);
        let wedge = Arc::new(Wedge::new(Arc::clone(&shared.metrics)));
        Self {
            shared,
            wedge,
            task,
            name,
            cluster,
            term,
            init_key,
            adopted,
            dir,
            journal,
            control,
            group,
            fresh: false,
            measured: Measured::default(),
            lease: None,
            intent: None,
            restart_missed: false,
            started: None,
            kills: Vec::new(),
            pull: None,
            start: None,
            traceparent,
            exited: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    /// A new attempt: accepted just now.
    async fn fresh(mut self) {
        self.fresh = true;
        failpoint::hit(Point::AgentAccepted);
        self.put(seq::ANSWER, pb::report::News::Accepted(pb::Accepted {}));
        let Some(spool) = self.open_spool().await else {
            let end = infra("the host's disk does not take the output");
            return self.finish(Ending::never_ran(end), None).await;
        };
        let (ending, log) = self.prepare_and_run(spool).await;
        self.finish(ending, Some(log)).await;
    }

    /// An attempt of an earlier life of the agent.
    async fn again(mut self, history: History) {
        self.intent.clone_from(&history.intent);
        self.started = history.started.map(Timestamp);
        self.kills.clone_from(&history.kills);
        if let Some(name) = self.intent.as_ref().and_then(|intent| intent.warm.clone()) {
            self.move_into(name).await;
        }
        let reached = history.reached();
        if reached == Journaled::Accepted {
            self.put(seq::ANSWER, pb::report::News::Accepted(pb::Accepted {}));
        }
        let container = self.look().await;
        self.note_missed_restart().await;
        let seen = container.as_ref().map_or(Seen::Nothing, |found| found.seen);
        let action = plan::decide(reached, seen);
        tracing::info!(?reached, ?seen, ?action, "attempt taken up again");
        let Some(spool) = self.open_spool().await else {
            let end = infra("the host's disk does not give the output back");
            return self.finish(Ending::of(end, container), None).await;
        };
        if let Some(report) = history.ended {
            let log = self.close_log(spool, container.is_some());
            self.shared.outbox.put(self.task.id, report);
            return self.await_permission(Some(log)).await;
        }
        let (ending, log) = self.act(action, container, spool).await;
        self.finish(ending, Some(log)).await;
    }

    async fn open_spool(&self) -> Option<Spool> {
        let shared = &self.shared;
        let path = self.dir.join(LOG);
        // The coordinator has the beginning, which is lost here: so there is nothing to go on from.
        let logs = if self.adopted {
            Arc::default()
        } else {
            Arc::clone(&shared.logs)
        };
        let metrics = Arc::clone(&shared.metrics);
        let spool = Spool::open(self.task.id, &path, logs, metrics, shared.log_bounds).await;
        spool
            .map_err(|error| tracing::error!(%error, "output can't be spooled"))
            .ok()
    }

    fn put(&self, seq: u64, news: pb::report::News) {
        let id = self.task.id;
        self.shared.outbox.put(id, wire::report(id, seq, news));
    }

    /// Asks the engine about the container until it answers.
    async fn look(&self) -> Option<Container> {
        let mut pause = RETRY;
        loop {
            match self.shared.runtime.inspect(&self.name).await {
                Ok(found) => return found.map(|found| self.as_of_task(found)),
                Err(error) => tracing::warn!(%error, "container can't be inspected"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn stop_ordered(&self) -> Option<StopOrder> {
        *self.control.stop.borrow()
    }

    /// Returns when the coordinator wants the attempt to end.
    async fn stopped(stop: &mut watch::Receiver<Option<StopOrder>>) -> StopOrder {
        let order = stop.wait_for(Option::is_some).await.map(|order| *order);
        match order {
            Ok(Some(order)) => order,
            // The supervisor is gone: the process is ending.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// The attempt never ran because of this host.
fn infra(message: &str) -> End {
    End {
        message: crate::outcome::cut(message),
        ..End::of(Outcome::InfraError, EndReason::NeverStarted)
    }
}

/// It was stopped before it started.
fn stopped_early(order: StopOrder) -> Ending {
    let end = match order.reason {
        KillReason::Canceled => End::of(Outcome::Canceled, EndReason::CanceledByUser),
        KillReason::Preempted => End::of(Outcome::Preempted, EndReason::Drained),
        KillReason::Superseded => End::of(Outcome::Canceled, EndReason::Superseded),
        KillReason::RunTimeout => End::of(Outcome::Timeout, EndReason::RunTimeout),
        KillReason::Disconnected => End::of(Outcome::InfraError, EndReason::NeverStarted),
    };
    Ending::never_ran(End {
        message: "it was stopped before it started".to_owned(),
        ..end
    })
}
