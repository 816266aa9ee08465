//! The coordinator's own figures: every metric name, and the handle that the rest counts with.
//!
//! Counting never fails, never waits for anything but a short lock, and decides nothing.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::ids::AgentId;
use muster_core::outcome::End;
use muster_core::rollout::Conclusion;
use muster_core::time::Millis;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub mod pushgateway;
mod samples;

use samples::AgentSamples;
pub use samples::Sample;

pub const JOBS_SUBMITTED: &str = "muster_jobs_submitted_total";
pub const TASKS_SUBMITTED: &str = "muster_tasks_submitted_total";
pub const TASK_WAIT: &str = "muster_task_wait_seconds";
pub const TASKS_LIVE: &str = "muster_tasks_live";
pub const RETRIES_PACED: &str = "muster_retries_paced";
pub const ATTEMPTS_ENDED: &str = "muster_attempts_ended_total";
pub const ATTEMPT_DURATION: &str = "muster_attempt_duration_seconds";
pub const AGENTS: &str = "muster_agents";
pub const AGENTS_CORDONED: &str = "muster_agents_cordoned_total";
pub const SAFE_MODE: &str = "muster_safe_mode";
pub const SUSPECTS_ITSELF: &str = "muster_suspects_itself";
pub const SESSIONS: &str = "muster_agent_sessions";
pub const COMMIT_DURATION: &str = "muster_commit_duration_seconds";
pub const COMMIT_RECORDS: &str = "muster_commit_records";
pub const WEBHOOKS: &str = "muster_webhooks_total";
pub const REGISTRY_RESOLVES: &str = "muster_registry_resolves_total";
pub const RELEASES: &str = "muster_releases_total";
pub const ROLLOUTS: &str = "muster_rollouts_total";
pub const ROLLOUT_DURATION: &str = "muster_rollout_duration_seconds";
pub const ROLLOUT_ACTIVE: &str = "muster_rollout_active_seconds";
pub const PUSHES: &str = "muster_pushes_total";
pub const PUSH_GROUPS: &str = "muster_push_groups";
pub const TASK_SERIES_DROPPED: &str = "muster_task_series_dropped_total";
pub const AGENT_SAMPLES_DROPPED: &str = "muster_agent_samples_dropped_total";
pub const INVARIANT_VIOLATIONS: &str = "muster_invariant_violations";
pub const BUILD_INFO: &str = "muster_build_info";

// Of agents, by which they are judged.
pub(crate) const AGENT_WEDGED: &str = "muster_agent_attempts_wedged";
pub(crate) const AGENT_ORPHANS: &str = "muster_agent_orphans_running";

// What is pushed to the gateway, in one group for each team and job name.
pub const TASK_ATTEMPTS: &str = "muster_task_attempts_total";
pub const TASK_DURATION: &str = "muster_task_duration_seconds";
pub const TASK_PEAK_MEMORY: &str = "muster_task_peak_memory_bytes";
pub const TASK_PEAK_MEMORY_MAX: &str = "muster_task_peak_memory_max_bytes";
pub const TASK_CPU: &str = "muster_task_cpu_seconds_total";
pub const TASK_LAST_SUCCESS: &str = "muster_task_last_success_timestamp_seconds";
pub const TASK_LAST_END: &str = "muster_task_last_end_timestamp_seconds";

/// What `/metrics` answers with.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a tenth of a second to a day: tasks of both kinds are usual.
const DURATION_BUCKETS: [f64; 16] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
    10_800.0, 86_400.0,
];

/// From a second to a week: a bake may take days.
const ROLLOUT_BUCKETS: [f64; 14] = [
    1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0,
    259_200.0, 604_800.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    team: String,
    pool: String,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    team: String,
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TeamLabel {
    team: String,
}

/// Of a rollout that is under way; there is one for each channel at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RolloutLabels {
    pub(crate) team: String,
    pub(crate) channel: String,
    pub(crate) phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    link: &'static str,
    schedulable: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    adapter: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HowLabel {
    how: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

type Histograms<S> = Family<S, Histogram, fn() -> Histogram>;

/// How a push to the gateway went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushResult {
    Ok,
    Failed,
    /// The queue or the table of groups was full.
    Dropped,
}

/// A handle on the figures; copies are cheap and count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    agent_samples: Arc<AgentSamples>,
    jobs_submitted: Family<TeamLabel, Counter>,
    tasks_submitted: Family<TeamLabel, Counter>,
    task_wait: Histogram,
    tasks_live: Family<StateLabel, Gauge>,
    retries_paced: Family<TeamLabel, Gauge>,
    attempts_ended: Family<EndLabels, Counter>,
    attempt_duration: Histograms<PlaceLabels>,
    agents: Family<AgentLabels, Gauge>,
    agents_cordoned: Counter,
    safe_mode: Gauge,
    suspects_itself: Gauge,
    sessions: Gauge,
    commit_duration: Histogram,
    commit_records: Histogram,
    webhooks: Family<WebhookLabels, Counter>,
    resolves: Family<ResultLabel, Counter>,
    releases: Family<CauseLabel, Counter>,
    rollouts: Family<HowLabel, Counter>,
    rollout_duration: Histograms<HowLabel>,
    rollouts_active: Family<RolloutLabels, Gauge>,
    pushes: Family<ResultLabel, Counter>,
    push_groups: Gauge,
    task_series_dropped: Counter<u64, AtomicU64>,
    invariant_violations: Gauge,
    last_push: Arc<Mutex<Option<PushResult>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS);
        let mut metrics = Self {
            registry: Arc::default(),
            agent_samples: Arc::default(),
            jobs_submitted: Family::default(),
            tasks_submitted: Family::default(),
            task_wait: durations(),
            tasks_live: Family::default(),
            retries_paced: Family::default(),
            attempts_ended: Family::default(),
            attempt_duration: Family::new_with_constructor(durations),
            agents: Family::default(),
            agents_cordoned: Counter::default(),
            safe_mode: Gauge::default(),
            suspects_itself: Gauge::default(),
            sessions: Gauge::default(),
            commit_duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            commit_records: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            webhooks: Family::default(),
            resolves: Family::default(),
            releases: Family::default(),
            rollouts: Family::default(),
            rollout_duration: Family::new_with_constructor(|| Histogram::new(ROLLOUT_BUCKETS)),
            rollouts_active: Family::default(),
            pushes: Family::default(),
            push_groups: Gauge::default(),
            task_series_dropped: Counter::default(),
            invariant_violations: Gauge::default(),
            last_push: Arc::default(),
        };
        metrics.registry = Arc::new(metrics.registry_of_all());
        metrics
    }

    fn registry_of_all(&self) -> Registry {
        let mut registry = Registry::default();
        let build: Family<VersionLabel, Gauge> = Family::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create_owned(&VersionLabel { version }).set(1);
        let help = "1, with the version that runs";
        add(&mut registry, BUILD_INFO, help, &build);
        self.add_work(&mut registry);
        self.add_fleet(&mut registry);
        self.add_sides(&mut registry);
        registry.register_collector(Box::new(Arc::clone(&self.agent_samples)));
        registry
    }

    fn add_work(&self, to: &mut Registry) {
        add(to, JOBS_SUBMITTED, "Jobs taken", &self.jobs_submitted);
        let help = "Tasks of the jobs taken";
        add(to, TASKS_SUBMITTED, help, &self.tasks_submitted);
        add(to, TASK_WAIT, "From ready to assigned", &self.task_wait);
        let help = "Tasks that have not ended, by state";
        add(to, TASKS_LIVE, help, &self.tasks_live);
        let help = "Retries whose delay is over and that wait for their turn among the team's";
        add(to, RETRIES_PACED, help, &self.retries_paced);
        let help = "Attempts that ended, by how";
        add(to, ATTEMPTS_ENDED, help, &self.attempts_ended);
        let help = "How long attempts ran";
        add(to, ATTEMPT_DURATION, help, &self.attempt_duration);
    }

    fn add_fleet(&self, to: &mut Registry) {
        let help = "Agents, by link and schedulability";
        add(to, AGENTS, help, &self.agents);
        let help = "Agents that were taken out of service because nothing started there";
        add(to, AGENTS_CORDONED, help, &self.agents_cordoned);
        let help = "1 while a restored store waits to be adopted";
        add(to, SAFE_MODE, help, &self.safe_mode);
        let help = "1 while most agents are out of sight at once, and nothing is given up";
        add(to, SUSPECTS_ITSELF, help, &self.suspects_itself);
        add(
            to,
            SESSIONS,
            "Streams that agents hold open",
            &self.sessions,
        );
        let help = "Rules about jobs and places that do not hold; anything but 0 is a bug";
        add(to, INVARIANT_VIOLATIONS, help, &self.invariant_violations);
        let help = "How long commits to the store took";
        add(to, COMMIT_DURATION, help, &self.commit_duration);
        let help = "Records in one commit";
        add(to, COMMIT_RECORDS, help, &self.commit_records);
        let help = "Figures of agents that were over a limit";
        add(to, AGENT_SAMPLES_DROPPED, help, &self.agent_samples.dropped);
    }

    fn add_sides(&self, to: &mut Registry) {
        let help = "Deliveries of registries, by what became of them";
        add(to, WEBHOOKS, help, &self.webhooks);
        let help = "Tags resolved at registries";
        add(to, REGISTRY_RESOLVES, help, &self.resolves);
        let help = "Moves of channels to a digest, by cause";
        add(to, RELEASES, help, &self.releases);
        add(to, ROLLOUTS, "Rollouts that ended.", &self.rollouts);
        let help = "How long rollouts that ended took, pauses included";
        add(to, ROLLOUT_DURATION, help, &self.rollout_duration);
        let help = "How long each rollout that is under way has been so";
        add(to, ROLLOUT_ACTIVE, help, &self.rollouts_active);
        add(to, PUSHES, "Pushes to the push gateway", &self.pushes);
        let help = "Groups that the push gateway holds for us";
        add(to, PUSH_GROUPS, help, &self.push_groups);
        let help = "Series of tasks that were over a limit or contradicted others";
        add(to, TASK_SERIES_DROPPED, help, &self.task_series_dropped);
    }

    /// One submission was stored.
    pub fn submitted(&self, team: &str, jobs: u64, tasks: u64) {
        let label = TeamLabel {
            team: team.to_owned(),
        };
        self.jobs_submitted.get_or_create_owned(&label).inc_by(jobs);
        self.tasks_submitted
            .get_or_create_owned(&label)
            .inc_by(tasks);
    }

    /// A task was assigned after `waited`.
    pub fn assigned(&self, waited: Millis) {
        self.task_wait.observe(Duration::from(waited).as_secs_f64());
    }

    /// An attempt ended. `ran` is absent if it never ran or nobody knows.
    pub fn attempt_ended(&self, team: &str, pool: &str, end: &End, ran: Option<Millis>) {
        let (team, pool) = (team.to_owned(), pool.to_owned());
        let labels = EndLabels {
            team: team.clone(),
            pool: pool.clone(),
            outcome: end.outcome.as_str(),
            reason: end.reason.as_str(),
        };
        self.attempts_ended.get_or_create_owned(&labels).inc();
        if let Some(ran) = ran {
            self.attempt_duration
                .get_or_create_owned(&PlaceLabels { team, pool })
                .observe(Duration::from(ran).as_secs_f64());
        }
    }

    /// How many tasks are in `state` now.
    pub fn set_tasks(&self, state: &'static str, count: u64) {
        let gauge = self.tasks_live.get_or_create_owned(&StateLabel { state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many retries of the team wait for their turn.
    pub fn set_retries_paced(&self, team: String, count: usize) {
        let gauge = self.retries_paced.get_or_create_owned(&TeamLabel { team });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An agent where nothing started was taken out of service.
    pub fn agent_cordoned(&self) {
        self.agents_cordoned.inc();
    }

    /// How many agents there are of each (link, schedulability), all at once.
    pub fn set_agents(&self, counts: &[(&'static str, &'static str, u64)]) {
        self.agents.clear();
        for (link, schedulable, count) in counts {
            let gauge = self
                .agents
                .get_or_create_owned(&AgentLabels { link, schedulable });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// The rollouts that are under way, all at once, each with its seconds so far.
    pub(crate) fn set_rollouts(&self, active: Vec<(RolloutLabels, u64)>) {
        self.rollouts_active.clear();
        for (labels, seconds) in active {
            let gauge = self.rollouts_active.get_or_create_owned(&labels);
            gauge.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }

    /// Whether the store waits to be taken over.
    pub fn set_safe_mode(&self, on: bool) {
        self.safe_mode.set(i64::from(on));
    }

    /// Whether the coordinator suspects that it is cut off.
    pub fn set_suspects_itself(&self, suspects: bool) {
        self.suspects_itself.set(suspects.into());
    }

    pub fn session_opened(&self) {
        self.sessions.inc();
    }

    pub fn session_closed(&self) {
        self.sessions.dec();
    }

    /// A batch was committed.
    pub fn committed(&self, took: Duration, records: usize) {
        self.commit_duration.observe(took.as_secs_f64());
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        self.commit_records.observe(f64::from(records));
    }

    /// A channel moved.
    pub fn released(&self, cause: muster_core::channel::Cause) {
        let cause = cause.as_str();
        let counter = self.releases.get_or_create_owned(&CauseLabel { cause });
        counter.inc();
    }

    pub(crate) fn rollout_ended(&self, how: Conclusion, took: Millis) {
        let label = HowLabel { how: how.as_str() };
        self.rollouts.get_or_create_owned(&label).inc();
        let durations = self.rollout_duration.get_or_create_owned(&label);
        durations.observe(Duration::from(took).as_secs_f64());
    }

    pub(crate) fn webhook(&self, adapter: &'static str, result: &'static str) {
        let labels = WebhookLabels { adapter, result };
        self.webhooks.get_or_create_owned(&labels).inc();
    }

    pub(crate) fn resolved(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.resolves.get_or_create_owned(&label).inc();
    }

    /// How many invariants do not hold now.
    pub(crate) fn set_invariant_violations(&self, count: usize) {
        self.invariant_violations
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How the newest push to the gateway went; `None`: there was none.
    pub(crate) fn last_push(&self) -> Option<PushResult> {
        *self
            .last_push
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the agent's last heartbeat carried.
    pub(crate) fn samples_of(&self, agent: &AgentId) -> Vec<Sample> {
        self.agent_samples.of(agent)
    }

    pub(crate) fn pushed(&self, result: PushResult) {
        *self
            .last_push
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(result);
        let result = match result {
            PushResult::Ok => "ok",
            PushResult::Failed => "failed",
            PushResult::Dropped => "dropped",
        };
        let label = ResultLabel { result };
        self.pushes.get_or_create_owned(&label).inc();
    }

    pub(crate) fn set_push_groups(&self, count: usize) {
        self.push_groups
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn task_series_dropped(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.task_series_dropped.inc_by(count);
    }

    /// Replaces what is shown of an agent with what its last heartbeat carried.
    pub fn agent_samples(&self, agent: &AgentId, samples: Vec<Sample>) {
        self.agent_samples.replace(agent, samples);
    }

    /// Shows nothing more of an agent.
    pub fn agent_gone(&self, agent: &AgentId) {
        self.agent_samples.remove(agent);
    }

    /// All figures in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            // Writing to a string cannot fail; an encoder that refuses a value can.
            out.clear();
            let _ = writeln!(out, "# EOF");
        }
        out
    }
}

/// Registers under the full name, which the encoder ends with `_total` by itself for counters.
fn add<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: &M) {
    let name = name.strip_suffix("_total").unwrap_or(name);
    to.register(name, help, metric.clone());
}

#[cfg(test)]
mod tests;
