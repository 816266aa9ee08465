//! Starting a task in a parked container, and what the engine's word about that container means for the task.
//!
//! The intent names the container before its init process is told. Until the intent is on disk nothing was
//! told, so an attempt that is taken up without one has no parked container, and what had been set aside
//! for it is destroyed as a leftover. After it, the one start in the directory of records says whether the task
//! runs: the init process and `init::withdraw` both rename it, and only one of them can.

use std::fs;
use std::path::Path;

use muster_failpoint::{self as failpoint, Point};

use super::prepare::Next;
use super::{Ending, Life, RETRY, RETRY_MAX, RUN};
use crate::files;
use crate::host;
use crate::images::Ready;
use crate::init;
use crate::plan::parked;
use crate::runtime::{Container, EngineError, KillError, Runtime, Signal};
use crate::usage::AttemptGroup;
use crate::warm::Parked;

impl<R: Runtime> Life<R> {
    /// Starts the task in a parked container. `None`: there is none, and nothing was done.
    pub(super) async fn prepare_warm(
        &mut self,
        image: &Ready,
        network: Option<&String>,
    ) -> Result<Option<Next>, Ending> {
        // There may be a container of it already, which only its name would tell.
        if !self.fresh || self.shared.orphans.may_have(self.task.id) {
            return Ok(None);
        }
        let begin = std::time::Instant::now();
        let new = self.describe(image, network.cloned());
        let Some(run) = new.init.and_then(|init| init.run) else {
            return Ok(None);
        };
        let Some(parked) = self.shared.warm.take(&self.task) else {
            return Ok(None);
        };
        if !self.make_ready(&parked).await {
            self.shared.warm.discard(parked);
            return Ok(None);
        }
        let name = parked.name.clone();
        let asking = self.control.starting.begin().await;
        if let Err(ending) = self.intend(Some(name.clone())).await {
            self.shared.warm.discard(parked);
            return Err(ending);
        }
        self.group = self.group.take().map(|_| AttemptGroup::new(&name));
        let told = parked.tell(&run, &new.env).await;
        drop(asking);
        failpoint::hit(Point::AgentAfterStartCall);
        self.note_start(begin.elapsed());
        if told.is_ok() {
            // What follows is not on the task's way any more.
            self.started = Some(host::now());
        }
        self.take_name(name).await;
        match told {
            Ok(()) => Ok(Some(Next::Start)),
            Err(error) => {
                tracing::warn!(%error, "warm container did not answer, looking what came of it");
                Ok(Some(self.what_came_of_it().await))
            }
        }
    }

    /// Gives the container this task's limits and its directories to this attempt. False: it can't be had, and
    /// nothing was run in it.
    async fn make_ready(&self, parked: &Parked) -> bool {
        let limits = self.task.limits();
        if parked.limits != limits
            && let Err(error) = self.shared.runtime.update(&parked.name, limits).await
        {
            tracing::warn!(%error, "warm container takes no other limits");
            return false;
        }
        let (home, dir) = (self.shared.warm.dir(&parked.name), self.dir.clone());
        let moved = files::spawn(move || move_dirs(&home, &dir));
        moved.await.unwrap_or(false)
    }

    /// Of an attempt of an earlier life that may have asked for its start in this container.
    pub(super) async fn move_into(&mut self, parked: String) {
        self.group = self.group.take().map(|_| AttemptGroup::new(&parked));
        self.take_name(parked).await;
    }

    /// Gives the container the name of the attempt, by which it is found when this host's disk is lost. One
    /// that can't have it keeps its own. Outlasts an engine that is away.
    async fn take_name(&mut self, parked: String) {
        let mut pause = RETRY;
        loop {
            match self.shared.runtime.rename(&parked, &self.name).await {
                // 404: it has been renamed, or is gone.
                Ok(()) | Err(EngineError::Refused { status: 404, .. }) => return,
                Err(error @ EngineError::Refused { .. }) => {
                    tracing::warn!(%error, container = parked, "warm container keeps its name");
                    self.shared.watch.forget(&self.name);
                    self.shared.watch.remember(&parked);
                    self.name = parked;
                    return;
                }
                Err(error) => tracing::warn!(%error, "warm container can't be renamed"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// The name of the parked container that the task was or may be started in, as it was when it was parked.
    pub(super) fn parked(&self) -> Option<&String> {
        self.intent.as_ref()?.warm.as_ref()
    }

    /// Whether its container was parked before it.
    pub(super) fn is_warm(&self) -> bool {
        self.parked().is_some()
    }

    /// What a container is for the task in it: one whose task was never started is only created, however
    /// long it has been waiting.
    pub(super) fn as_of_task(&self, mut found: Container) -> Container {
        let Some(intent) = self.intent.as_ref().filter(|_| self.is_warm()) else {
            return found;
        };
        // Once that is known, nothing that the task does with the directory counts.
        let ran = self.started.is_some() || init::has_started(&self.dir);
        let begun = self
            .started
            .unwrap_or(muster_core::time::Timestamp(intent.at));
        found.started = ran.then_some(begun);
        found.seen = parked::of_task(found.seen, ran);
        found
    }

    /// Takes the one start back, and ends the container. False: the start has been used.
    pub(super) async fn withdraw_warm(&self) -> bool {
        let withdrawn = init::withdraw(&self.dir);
        if withdrawn {
            self.end_unused().await;
        }
        withdrawn
    }

    /// A parked container whose task was never started may be waiting still.
    pub(super) async fn end_unused(&self) {
        if !self.is_warm() || init::has_started(&self.dir) {
            return;
        }
        match self.shared.runtime.kill(&self.name, Signal::Kill).await {
            Ok(()) => {
                if let Err(error) = self.shared.runtime.wait(&self.name).await {
                    tracing::debug!(%error, "waiting for a container was interrupted");
                }
            }
            Err(KillError::NotRunning) => {}
            Err(KillError::Engine(error)) => {
                tracing::warn!(%error, "container can't be ended");
            }
        }
    }
}

/// Moves the directories of a parked container to an attempt: the container goes on having them. False: they
/// are not the attempt's.
fn move_dirs(home: &Path, attempt: &Path) -> bool {
    let dirs = [RUN, init::RECORDS];
    let mut moves = dirs.iter();
    match moves.try_for_each(|dir| fs::rename(home.join(dir), attempt.join(dir))) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "warm container's directory can't be moved");
            for dir in dirs {
                // One that is not there is as it should be.
                let _ = fs::remove_dir_all(attempt.join(dir));
            }
            false
        }
    }
}
