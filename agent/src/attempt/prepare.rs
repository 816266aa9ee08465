//! From the accepted offer to a running container: the image, the network, the container, the one start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Millis;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;

use super::container::{Surroundings, network_name, new_container};
use super::{Ending, Life, RUN, infra, stopped_early};
use crate::host;
use crate::images::{ImageFailure, Ready};
use crate::init;
use crate::journal::{Entry, Intent};
use crate::output::spool::{LogFile, Spool};
use crate::plan::{self, Action, Journaled, Seen};
use crate::runtime::{Container, CreateError, NewContainer, Runtime};
use crate::wire::{self, seq};

/// How long a create or start whose result isn't known may still land.
const START_LANDS: Duration = Duration::from_secs(10);
const START_LOOK: Duration = Duration::from_millis(250);

/// What is to be done with the container after it was created.
enum Next {
    Start,
    /// It was there already, from an earlier life.
    Act(Action, Option<Container>),
}

type Log = Arc<LogFile>;

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
        self.make_run_dir().await?;
        let shared = Arc::clone(&self.shared);
        let mut stop = self.control.stop.clone();
        let permit = tokio::select! {
            order = Self::stopped(&mut stop) => return Err(stopped_early(order)),
            permit = shared.starts.acquire() => permit.expect("the semaphore is never closed"),
        };
        let begin = Instant::now();
        let mut new = self.describe(&image, network);
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
        drop(permit);
        let took = begin.elapsed();
        self.start = u64::try_from(took.as_millis()).ok().map(Millis);
        shared.metrics.start_seconds.observe(took.as_secs_f64());
        result
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
        let name = network_name(&self.cluster, &self.shared.config.name, &self.task.team);
        if self.shared.networks.read().await.contains(&name) {
            return Ok(Some(name));
        }
        let mut known = self.shared.networks.write().await;
        if !known.contains(&name) {
            let team = self.task.team.to_string();
            let labels = [
                ("muster.cluster", self.cluster.clone()),
                ("muster.team", team),
            ];
            let labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
            let made = self.shared.runtime.ensure_network(&name, &labels).await;
            made.map_err(|error| {
                Ending::never_ran(infra(&format!("the network can't be made: {error}")))
            })?;
            known.insert(name.clone());
        }
        Ok(Some(name))
    }

    /// Writable for whatever user the task has; nobody else on the host can get at it, because the
    /// data directory above is closed.
    async fn make_run_dir(&self) -> Result<(), Ending> {
        let (dir, run) = (self.dir.clone(), self.dir.join(RUN));
        let own_init = self.init().is_some();
        let made = tokio::task::spawn_blocking(move || {
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

    fn describe(&self, image: &Ready, network: Option<String>) -> NewContainer {
        let around = Surroundings {
            name: &self.name,
            cluster: &self.cluster,
            term: self.term,
            config: &self.shared.config,
            image: &image.facts,
            network,
            traceparent: &self.traceparent,
            run_dir: self.dir.join(RUN),
            cgroup_parent: self.group.as_ref().map(|group| group.name().to_owned()),
            init: self.init(),
        };
        new_container(&self.task, around)
    }

    /// The program, the directory of records and the key, if the container has muster's init process.
    fn init(&self) -> Option<(PathBuf, PathBuf, String)> {
        let program = self.shared.init.clone()?;
        let key = self.init_key.clone()?;
        Some((program, self.dir.join(init::RECORDS), key))
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
                            Action::Start => Ok(Next::Start),
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
        is("muster.agent", self.shared.config.name.as_str())
            && is("muster.task", &self.task.id.task.to_string())
            && is("muster.attempt", &self.task.id.number.to_string())
    }

    /// Writes the intent down and asks for the one start. On success it runs or has run.
    async fn start_once(&mut self) -> Result<Next, Ending> {
        if let Some(order) = self.stop_ordered() {
            return Err(stopped_early(order));
        }
        let engine_started = self.shared.runtime.daemon_started().await;
        let intent = Intent {
            at: host::now().0,
            boot_clock: host::boot_clock(),
            boot_id: self.shared.boot_id.clone(),
            engine_started: engine_started.map(|started| started.0),
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
        let started = self.shared.runtime.start(&self.name).await;
        failpoint::hit(Point::AgentAfterStartCall);
        match started {
            Ok(()) => Ok(Next::Start),
            Err(error) => {
                tracing::debug!(%error, "start failed, looking what came of it");
                let container = self.look().await;
                let seen = container.as_ref().map_or(Seen::Nothing, |found| found.seen);
                let action = plan::decide(Journaled::StartIntent, seen);
                Ok(Next::Act(action, container))
            }
        }
    }

    /// Carries out what the table says.
    pub(super) async fn act(
        &mut self,
        action: Action,
        container: Option<Container>,
        spool: Spool,
    ) -> (Ending, Log) {
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
        let permit = shared.starts.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        self.start_once().await
    }

    /// Looks for a while whether a start in flight lands; never starts. `None`: it never started, and
    /// was removed without force, so that it can't any more.
    async fn await_start(&self) -> Option<Container> {
        let until = Instant::now() + START_LANDS;
        loop {
            match self.look().await {
                None => return None,
                Some(container) if container.seen != Seen::Created => return Some(container),
                Some(_) => {}
            }
            if Instant::now() >= until {
                match self.shared.runtime.remove(&self.name).await {
                    Ok(()) => return None,
                    // It runs after all.
                    Err(error) => tracing::warn!(%error, "unstarted container not removed"),
                }
            }
            tokio::time::sleep(START_LOOK).await;
        }
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
