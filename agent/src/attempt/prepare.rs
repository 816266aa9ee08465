//! From the accepted offer to a running container: the image, the network, the container, the one start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::ids::TeamName;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Millis;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;

use super::container::{OfAttempt, Surroundings, network_name, new_container};
use super::{Ending, Life, RUN, Shared, StopOrder, WARM_LABEL, infra, stopped_early};
use crate::files;
use crate::host;
use crate::images::{ImageFailure, Ready};
use crate::init;
use crate::journal::{Entry, Intent};
use crate::outcome::KillReason;
use crate::output::spool::{LogFile, Spool};
use crate::plan::{self, Action, Journaled, Seen};
use crate::runtime::{Container, CreateError, EngineError, NewContainer, Runtime};
use crate::wire::{self, seq};

/// How long a create or start whose result isn't known may still land.
const START_LANDS: Duration = Duration::from_secs(10);
const START_LOOK: Duration = Duration::from_millis(250);

/// What is to be done with the container after it was created.
pub(super) enum Next {
    Start,
    /// It was there already, from an earlier life.
    Act(Action, Option<Container>),
}

type Log = Arc<LogFile>;

impl<R: Runtime> Shared<R> {
    /// The team's bridge, made when it is first needed.
    pub(crate) async fn team_network(
        &self,
        cluster: &str,
        team: &TeamName,
    ) -> Result<String, EngineError> {
        let name = network_name(cluster, &self.config.name, team);
        if self.networks.read().await.contains(&name) {
            return Ok(name);
        }
        let mut known = self.networks.write().await;
        if !known.contains(&name) {
            let labels = [
                ("muster.cluster", cluster.to_owned()),
                ("muster.team", team.to_string()),
            ];
            let labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
            self.runtime.ensure_network(&name, &labels).await?;
            known.insert(name.clone());
        }
        Ok(name)
    }
}

impl<R: Runtime> Life<R> {
    pub(super) async fn prepare_and_run(&mut self, spool: Spool) -> (Ending, Log) {
        let shared = Arc::clone(&self.shared);
        shared.metrics.preparing.inc();
        let prepared = self.prepare().await;
        shared.metrics.preparing.dec();
        match prepared {
            Ok(Next::Start) => self.follow_through(None, spool, true).await,
            Ok(Next::Act(action, container)) => Box::pin(self.act(action, container, spool)).await,
            Err(ending) => {
                let log = spool.log();
                spool.finish().await;
                (ending, log)
            }
        }
    }

    /// Gets the image, creates the container and starts it. On success it was started.
    async fn prepare(&mut self) -> Result<Next, Ending> {
        let mut image = self.image().await?;
        let network = self.network().await?;
        if let Some(next) = self.prepare_warm(&image, network.as_ref()).await? {
            return Ok(next);
        }
        self.make_run_dir().await?;
        let shared = Arc::clone(&self.shared);
        let mut stop = self.control.stop.clone();
        let permit = tokio::select! {
            order = Self::stopped(&mut stop) => return Err(stopped_early(order)),
            permit = shared.starts.acquire() => permit,
        };
        let begin = Instant::now();
        let mut new = self.describe(&image, network);
        self.lodge(&mut new).await;
        failpoint::hit(Point::AgentBeforeCreate);
        let mut created = shared.runtime.create(&new).await;
        if matches!(created, Err(CreateError::NoSuchImage)) {
            // It was removed since it was last seen.
            shared.images.forget(&self.task.image);
            image = self.image().await?;
            new.image.clone_from(&image.facts.id);
            created = shared.runtime.create(&new).await;
        }
        failpoint::hit(Point::AgentAfterCreate);
        match self.after_create(created).await? {
            Next::Start => {}
            other => return Ok(other),
        }
        let result = self.start_once().await;
        let took = begin.elapsed();
        if matches!(result, Ok(Next::Start)) {
            permit.started(self.kind_of_start(), took);
            shared
                .metrics
                .starts_limit
                .set(i64::from(shared.starts.limit()));
        }
        self.note_start(took);
        result
    }

    pub(super) fn note_start(&mut self, took: Duration) {
        self.start = u64::try_from(took.as_millis()).ok().map(Millis);
        let seconds = took.as_secs_f64();
        self.shared.metrics.start_seconds.observe(seconds);
    }

    async fn image(&mut self) -> Result<Ready, Ending> {
        let shared = Arc::clone(&self.shared);
        let mut stop = self.control.stop.clone();
        let ensured = tokio::select! {
            order = Self::stopped(&mut stop) => return Err(stopped_early(order)),
            ensured = shared.images.ensure(&self.task.image, self.task.may_pull) => ensured,
        };
        let failed = |outcome, reason, message: String| {
            Ending::never_ran(End {
                message: crate::outcome::cut(&message),
                ..End::of(outcome, reason)
            })
        };
        match ensured {
            Ok(ready) => {
                self.pull = ready.pull;
                Ok(ready)
            }
            Err(ImageFailure::NoSuchImage { message }) => {
                Err(failed(Outcome::ImageError, EndReason::NoSuchImage, message))
            }
            Err(ImageFailure::PullFailed { message }) => {
                Err(failed(Outcome::ImageError, EndReason::PullFailed, message))
            }
            Err(ImageFailure::Engine { message }) => Err(failed(
                Outcome::InfraError,
                EndReason::NeverStarted,
                message,
            )),
        }
    }

    /// The team's bridge, made when it is first needed.
    async fn network(&self) -> Result<Option<String>, Ending> {
        if !self.task.bridge {
            return Ok(None);
        }
        let made = self.shared.team_network(&self.cluster, &self.task.team);
        made.await.map(Some).map_err(|error| {
            Ending::never_ran(infra(&format!("the network can't be made: {error}")))
        })
    }

    /// Writable for whatever user the task has; nobody else on the host can get at it, because the
    /// data directory above is closed.
    async fn make_run_dir(&self) -> Result<(), Ending> {
        let (dir, run) = (self.dir.clone(), self.dir.join(RUN));
        let own_init = self.init().is_some();
        let made = files::spawn(move || {
            std::fs::create_dir_all(&run)?;
            std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777))?;
            if own_init {
                init::prepare(&dir)
            } else {
                Ok(())
            }
        });
        match made.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ending::never_ran(infra(&format!(
                "the host's disk takes no directory for the task: {error}"
            )))),
            Err(_) => Err(Ending::never_ran(infra("the agent is stopping"))),
        }
    }

    pub(super) fn describe(&self, image: &Ready, network: Option<String>) -> NewContainer {
        let own = OfAttempt {
            term: self.term,
            traceparent: &self.traceparent,
            init_key: self.init_key.as_deref(),
        };
        let around = Surroundings {
            name: &self.name,
            cluster: &self.cluster,
            config: &self.shared.config,
            image: &image.facts,
            network,
            run_dir: self.dir.join(RUN),
            cgroup_parent: self.group.as_ref().map(|group| group.name().to_owned()),
            init: self.init(),
            lease_dir: self.shared.contact.dir(),
            last_contact: self.shared.contact.last(),
        };
        new_container(&self.task, &own, around)
    }

    /// The program and the directory of records, if the container has muster's init process.
    fn init(&self) -> Option<(PathBuf, PathBuf)> {
        let program = self.shared.init.clone()?;
        self.init_key.as_ref()?;
        Some((program, self.dir.join(init::RECORDS)))
    }

    async fn after_create(&self, created: Result<(), CreateError>) -> Result<Next, Ending> {
        let rejected = |message: &str| {
            Ending::never_ran(End {
                message: crate::outcome::cut(message),
                ..End::of(Outcome::ImageError, EndReason::Rejected)
            })
        };
        match created {
            Ok(()) => Ok(Next::Start),
            Err(CreateError::NoSuchImage) => Err(Ending::never_ran(infra(
                "the engine does not keep the image",
            ))),
            Err(CreateError::Rejected { message }) => Err(rejected(&message)),
            // It may have been created all the same.
            Err(CreateError::NameTaken | CreateError::Engine(_)) => {
                let found = match created {
                    Err(CreateError::NameTaken) => self.await_create().await,
                    _ => self.look().await,
                };
                if found
                    .as_ref()
                    .is_some_and(|container| !self.is_ours(container))
                {
                    return Err(Ending::never_ran(infra(
                        "the container's name is in use by something else",
                    )));
                }
                match (found, created) {
                    (Some(container), _) => {
                        let action = plan::decide(Journaled::Accepted, container.seen);
                        match action {
                            Action::Start if !self.is_homeless(&container) => Ok(Next::Start),
                            other => Ok(Next::Act(other, Some(container))),
                        }
                    }
                    (None, Err(error)) => Err(Ending::never_ran(infra(&format!(
                        "the container can't be created: {error}"
                    )))),
                    (None, Ok(())) => Ok(Next::Start),
                }
            }
        }
    }

    /// What has the container's name. The engine gives a name away before it shows the container, and
    /// an earlier life of the agent may have died while it asked for this one.
    async fn await_create(&self) -> Option<Container> {
        let until = Instant::now() + START_LANDS;
        loop {
            let found = self.look().await;
            if found.is_some() || Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(START_LOOK).await;
        }
    }

    fn is_ours(&self, container: &Container) -> bool {
        let is = |name: &str, value: &str| {
            container
                .labels
                .get(name)
                .is_some_and(|found| found == value)
        };
        // Of one that was parked, its name tells.
        let warm = container.labels.contains_key(WARM_LABEL);
        let of_attempt = || {
            is("muster.task", &self.task.id.task.to_string())
                && is("muster.attempt", &self.task.id.number.to_string())
        };
        is("muster.agent", self.shared.config.name.as_str()) && (warm || of_attempt())
    }

    /// Writes the intent down and asks for the one start. On success it runs or has run.
    async fn start_once(&mut self) -> Result<Next, Ending> {
        let _asking = self.control.starting.begin().await;
        self.intend(None).await?;
        let started = self.shared.runtime.start(&self.name).await;
        failpoint::hit(Point::AgentAfterStartCall);
        match started {
            Ok(()) => Ok(Next::Start),
            Err(error) => {
                tracing::debug!(%error, "start failed, looking what came of it");
                Ok(self.what_came_of_it().await)
            }
        }
    }

    /// After a start whose result isn't known.
    pub(super) async fn what_came_of_it(&self) -> Next {
        let container = self.look().await;
        let seen = container.as_ref().map_or(Seen::Nothing, |found| found.seen);
        Next::Act(plan::decide(Journaled::StartIntent, seen), container)
    }

    /// Writes down that the one start is asked for next, of a parked container if there is one.
    pub(super) async fn intend(&mut self, warm: Option<String>) -> Result<(), Ending> {
        if let Some(order) = self.stop_ordered() {
            return Err(stopped_early(order));
        }
        // The coordinator may have given it to somebody else meanwhile.
        if self.is_cut_off() {
            return Err(stopped_early(StopOrder {
                reason: KillReason::Disconnected,
                now: false,
            }));
        }
        let engine = self.shared.runtime.daemon_started().await;
        let intent = Intent {
            at: host::now().0,
            boot_clock: host::boot_clock(),
            boot_id: self.shared.boot_id.clone(),
            engine_ticks: engine.map(|engine| engine.ticks),
            warm,
        };
        let written = self
            .journal
            .append_durably(Entry::StartIntent(intent.clone()))
            .await;
        if let Err(error) = written {
            return Err(Ending::never_ran(infra(&format!(
                "the host's disk does not take the journal: {error}"
            ))));
        }
        failpoint::hit(Point::AgentAfterIntent);
        self.intent = Some(intent);
        self.shared.metrics.starts.inc();
        Ok(())
    }

    /// Carries out what the table says.
    pub(super) async fn act(
        &mut self,
        action: Action,
        container: Option<Container>,
        spool: Spool,
    ) -> (Ending, Log) {
        if let Some(found) = &container
            && self.needs_rehousing(action, found).await
        {
            return self.rehouse(spool).await;
        }
        match action {
            Action::Prepare => self.prepare_and_run(spool).await,
            Action::Start => match self.start_with_permit().await {
                Ok(Next::Start) => self.follow_through(None, spool, true).await,
                Ok(Next::Act(action, container)) => {
                    Box::pin(self.act(action, container, spool)).await
                }
                Err(ending) => {
                    let log = spool.log();
                    spool.finish().await;
                    (ending, log)
                }
            },
            Action::AwaitStart => {
                let landed = self.await_start().await;
                match landed {
                    Some(container) => self.follow_through(Some(container), spool, false).await,
                    None => {
                        let log = spool.log();
                        spool.finish().await;
                        (self.did_not_start().await, log)
                    }
                }
            }
            Action::Unpause => {
                if let Err(error) = self.shared.runtime.unpause(&self.name).await {
                    tracing::warn!(%error, "paused container can't go on");
                }
                self.follow_through(container, spool, false).await
            }
            Action::Attach | Action::Harvest => self.follow_through(container, spool, false).await,
            Action::ReportGone | Action::Deliver | Action::Leave | Action::Forget => {
                let log = self.close_log(spool, false);
                (self.gone(container).await, log)
            }
        }
    }

    async fn start_with_permit(&mut self) -> Result<Next, Ending> {
        let shared = Arc::clone(&self.shared);
        let _permit = shared.starts.acquire().await;
        self.start_once().await
    }

    /// Looks for a while whether a start in flight lands; never starts. `None`: it never started, and
    /// was removed without force, so that it can't any more.
    async fn await_start(&self) -> Option<Container> {
        let until = Instant::now()
            + self.intent.as_ref().map_or(START_LANDS, |intent| {
                left_to_land(intent, &self.shared.boot_id, host::boot_clock())
            });
        loop {
            match self.look().await {
                None => return None,
                Some(container) if container.seen != Seen::Created => return Some(container),
                Some(_) => {}
            }
            if Instant::now() >= until && self.withdraw_start().await {
                return None;
            }
            tokio::time::sleep(START_LOOK).await;
        }
    }

    /// False: it runs after all, or that can't be told yet.
    async fn withdraw_start(&self) -> bool {
        if self.is_warm() {
            return self.withdraw_warm().await;
        }
        let removed = self.shared.runtime.remove(&self.name).await;
        removed
            .inspect_err(|error| tracing::warn!(%error, "unstarted container not removed"))
            .is_ok()
    }

    /// Tells that it runs.
    pub(super) fn report_started(&mut self) {
        let at = *self.started.get_or_insert_with(host::now);
        let _ = self.control.started.set(at); // again after a restart of the agent
        if let Err(error) = self.journal.note_started(at) {
            tracing::warn!(%error, "start not journaled");
        }
        failpoint::hit(Point::AgentAfterStarted);
        let at = Some(wire::timestamp(at));
        self.put(seq::STARTED, pb::report::News::Started(pb::Started { at }));
    }
}

/// How long a start whose result isn't known may still land. It counts from the intent, so that an agent that
/// dies again and again doesn't wait for ever.
fn left_to_land(intent: &Intent, boot_id: &str, boot_clock: u64) -> Duration {
    if intent.boot_id != boot_id {
        return Duration::ZERO;
    }
    let passed = Duration::from_millis(boot_clock.saturating_sub(intent.boot_clock));
    START_LANDS.saturating_sub(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_may_land_for_ten_seconds_and_never_after_a_reboot() {
        let intent = Intent {
            at: 0,
            boot_id: "this".to_owned(),
            engine_ticks: None,
            boot_clock: 1_000,
            warm: None,
        };
        let left = |boot, clock| left_to_land(&intent, boot, clock).as_millis();
        assert_eq!(left("this", 1_000), 10_000);
        assert_eq!(left("this", 9_000), 2_000);
        assert_eq!(left("this", 60_000), 0);
        assert_eq!(left("next", 1_000), 0);
    }
}
