//! The engine's side of the fake: what a request does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use muster_core::time::Timestamp;
use tokio::sync::watch;

use super::{FakeContainer, FakeRuntime, StartFault};
use crate::plan::Seen;
use crate::runtime::{
    Container, CreateError, Credentials, DaemonStart, EngineError, EngineEvent, EngineInfo,
    ImageFacts, ImageRemoval, KillError, Limits, Listed, ListedImage, LogsFrom, NamespaceView,
    NewContainer, NewParked, Output, PullError, PullProgress, Runtime, Signal, Stats,
};

pub(super) fn hung_up() -> EngineError {
    EngineError::Unreachable {
        source: "the connection was closed".into(),
    }
}

fn absent() -> EngineError {
    EngineError::Refused {
        status: 404,
        message: "No such container".to_owned(),
    }
}

impl Runtime for FakeRuntime {
    async fn engine(&self) -> Result<EngineInfo, EngineError> {
        let (live_restore, mounts, in_sight) = {
            let inner = self.up()?;
            (inner.live_restore, inner.mounts, inner.in_sight)
        };
        Ok(EngineInfo {
            version: "fake".to_owned(),
            platform: "linux/amd64".to_owned(),
            live_restore,
            cgroup_parents: false,
            cpus: 2,
            mounts,
            runtimes: vec!["runc".to_owned()],
            in_sight,
            root: None,
        })
    }

    async fn daemon_started(&self) -> Option<DaemonStart> {
        Some(self.up().ok()?.started)
    }

    async fn ping(&self) -> Result<(), EngineError> {
        if self.up()?.ill {
            return Err(hung_up());
        }
        Ok(())
    }

    async fn create(&self, new: &NewContainer) -> Result<(), CreateError> {
        self.create_at_pace(new).await
    }

    async fn create_parked(&self, new: &NewParked) -> Result<(), CreateError> {
        self.create_parked_now(new)
    }

    async fn view_namespace(
        &self,
        name: &str,
    ) -> Result<Option<Arc<dyn NamespaceView>>, EngineError> {
        let view = self.view(name)?;
        Ok(view.map(|view| -> Arc<dyn NamespaceView> { Arc::new(view) }))
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.start_at_pace(name).await
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let inner = self.up()?;
        if inner.opaque.contains(name) {
            return Err(hung_up());
        }
        Ok(inner.containers.get(name).map(|found| found.state.clone()))
    }

    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Listed>, EngineError> {
        let inner = self.up()?;
        let has = |container: &FakeContainer| {
            let own = &container.new.labels;
            labels
                .iter()
                .all(|(name, value)| own.get(name) == Some(value))
        };
        let found = inner.containers.iter().filter(|(_, found)| has(found));
        Ok(found
            .map(|(name, container)| Listed {
                name: name.clone(),
                labels: container.new.labels.clone(),
            })
            .collect())
    }

    async fn kill(&self, name: &str, signal: Signal) -> Result<(), KillError> {
        if self.up()?.stuck.contains(name) {
            let after = std::time::Duration::from_secs(30);
            let request = "kill";
            return Err(EngineError::Deadline { request, after }.into());
        }
        if self.signal(name, signal) {
            Ok(())
        } else {
            Err(KillError::NotRunning)
        }
    }

    async fn update(&self, name: &str, limits: Limits) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        let container = inner.containers.get_mut(name).ok_or_else(absent)?;
        container.new.limits = limits;
        Ok(())
    }

    async fn rename(&self, name: &str, to: &str) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        if !inner.containers.contains_key(name) {
            return Err(absent());
        }
        if inner.containers.contains_key(to) {
            return Err(EngineError::Refused {
                status: 409,
                message: "the name is in use".to_owned(),
            });
        }
        let container = inner.containers.remove(name).ok_or_else(absent)?;
        inner.containers.insert(to.to_owned(), container);
        Ok(())
    }

    async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        let container = inner.containers.get_mut(name).ok_or_else(absent)?;
        container.state.seen = Seen::Running;
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        let seen = inner.containers.get(name).map(|found| found.state.seen);
        if matches!(seen, Some(Seen::Running | Seen::Paused)) {
            return Err(EngineError::Refused {
                status: 409,
                message: "it runs".to_owned(),
            });
        }
        inner.containers.remove(name);
        Ok(())
    }

    async fn wait(&self, name: &str) -> Result<(), EngineError> {
        let life = self.life.subscribe();
        loop {
            let mut turn = {
                let inner = self.up()?;
                if life.has_changed().unwrap_or(true) {
                    return Err(hung_up());
                }
                let container = inner.containers.get(name).ok_or_else(absent)?;
                if !matches!(container.state.seen, Seen::Running | Seen::Paused) {
                    return Ok(());
                }
                container.turn.subscribe()
            };
            if turn.changed().await.is_err() {
                return Err(absent());
            }
        }
    }

    fn logs(
        &self,
        name: &str,
        from: LogsFrom,
    ) -> impl Stream<Item = Result<Output, EngineError>> + Send + Unpin + 'static {
        let (engine, name) = (self.clone(), name.to_owned());
        let life = self.life.subscribe();
        Box::pin(stream::unfold((0_usize, false), move |(place, over)| {
            let (engine, name, life) = (engine.clone(), name.clone(), life.clone());
            async move {
                loop {
                    if over {
                        return None;
                    }
                    let mut turn = {
                        let inner = match engine.up() {
                            Ok(inner) if !life.has_changed().unwrap_or(true) => inner,
                            _ => return Some((Err(hung_up()), (place, true))),
                        };
                        let Some(container) = inner.containers.get(&name) else {
                            return Some((Err(absent()), (place, true)));
                        };
                        if let Some(piece) = container.logs.get(place) {
                            return Some((Ok(piece.clone()), (place + 1, false)));
                        }
                        if !from.follow || container.state.seen != Seen::Running {
                            return None;
                        }
                        container.turn.subscribe()
                    };
                    if turn.changed().await.is_err() {
                        return None;
                    }
                }
            }
        }))
    }

    async fn stats(&self, _name: &str) -> Result<Stats, EngineError> {
        Ok(Stats {
            cpu_micros: 1_000,
            memory_bytes: 1 << 20,
        })
    }

    async fn pull(
        &self,
        image: &str,
        _credentials: Option<Credentials>,
        _progress: &PullProgress,
    ) -> Result<(), PullError> {
        tokio::task::yield_now().await;
        let mut inner = self.up()?;
        inner.pulls += 1;
        let facts = inner.remote.get(image).cloned();
        let facts = facts.ok_or_else(|| PullError::NoSuchImage {
            message: format!("manifest unknown: {image}"),
        })?;
        inner.images.insert(image.to_owned(), facts);
        self.tell(EngineEvent::Images);
        Ok(())
    }

    async fn inspect_image(&self, image: &str) -> Result<Option<ImageFacts>, EngineError> {
        Ok(self.up()?.images.get(image).cloned())
    }

    async fn import_image(
        &self,
        repository: &str,
        tag: &str,
        _layer: Bytes,
    ) -> Result<(), EngineError> {
        self.hold_imported(&format!("{repository}:{tag}"))
    }

    async fn remove_image(&self, image: &str) -> Result<ImageRemoval, EngineError> {
        let mut inner = self.up()?;
        let Some(id) = inner.images.get(image).map(|facts| facts.id.clone()) else {
            return Ok(ImageRemoval::Removed);
        };
        if inner.containers.values().any(|found| found.new.image == id) {
            return Ok(ImageRemoval::InUse);
        }
        inner.images.remove(image);
        self.tell(EngineEvent::Images);
        Ok(ImageRemoval::Removed)
    }

    async fn list_images(&self) -> Result<Vec<ListedImage>, EngineError> {
        let inner = self.up()?;
        let listed = inner.images.iter().filter_map(|(name, facts)| {
            Some(ListedImage {
                id: facts.id.parse().ok()?,
                digests: name
                    .contains('@')
                    .then(|| name.clone())
                    .into_iter()
                    .collect(),
                tags: inner.tags.get(name).cloned().into_iter().collect(),
                created: 0,
            })
        });
        Ok(listed.collect())
    }

    async fn ensure_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let networks = &mut self.up()?.networks;
        networks
            .entry(name.to_owned())
            .or_insert_with(|| labels.clone());
        Ok(())
    }

    async fn list_networks(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Listed>, EngineError> {
        let inner = self.up()?;
        let all = inner.networks.iter().map(|(name, labels)| Listed {
            name: name.clone(),
            labels: labels.clone(),
        });
        let has = |found: &Listed| labels.iter().all(|(k, v)| found.labels.get(k) == Some(v));
        Ok(all.filter(has).collect())
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        let uses = |found: &FakeContainer| {
            found.state.seen == Seen::Running && found.new.network.as_deref() == Some(name)
        };
        if inner.containers.values().any(uses) {
            return Err(EngineError::Refused {
                status: 403,
                message: "it has active endpoints".to_owned(),
            });
        }
        inner.networks.remove(name);
        Ok(())
    }

    fn events(
        &self,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<EngineEvent, EngineError>> + Send + Unpin + 'static {
        // Nothing is told between the two.
        let feed = self.feed();
        let (past, events) = (feed.recall(since), self.events.subscribe());
        let mut life = self.life.subscribe();
        drop(feed);
        let refused = self.up().err().map(Err);
        let down = refused.is_some();
        let told = stream::unfold((past, events), async |(mut past, mut events)| {
            let event = match past.pop_front() {
                Some(event) => event,
                None => events.recv().await.ok()?,
            };
            Some((Ok(event), (past, events)))
        });
        let over = async move {
            if !down {
                let _ = life.changed().await;
            }
        };
        Box::pin(stream::iter(refused).chain(told.take_until(over)))
    }
}

impl FakeRuntime {
    pub(super) fn create_now(&self, new: &NewContainer) -> Result<(), CreateError> {
        let mut inner = self.up()?;
        if let Some(creations) = &mut inner.creations {
            creations.push((new.name.clone(), SystemTime::now()));
        }
        if inner.containers.contains_key(&new.name) {
            return Err(CreateError::NameTaken);
        }
        if !inner.images.values().any(|facts| facts.id == new.image) {
            return Err(CreateError::NoSuchImage);
        }
        if inner.full {
            return Err(CreateError::Engine(EngineError::Refused {
                status: 500,
                message: "no space left on device".to_owned(),
            }));
        }
        let word = new.command.first().map_or("", String::as_str);
        let behaviour = inner.behaviour(word);
        let state = Container {
            seen: Seen::Created,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started: None,
            finished: None,
            labels: new.labels.clone(),
        };
        let container = FakeContainer {
            new: new.clone(),
            state,
            behaviour,
            logs: Vec::new(),
            turn: watch::Sender::new(0),
            cut_off: false,
        };
        inner.containers.insert(new.name.clone(), container);
        Ok(())
    }

    pub(super) fn start_now(&self, name: &str) -> Result<(), EngineError> {
        let mut inner = self.up()?;
        let fault = inner.start_faults.pop_front();
        if fault != Some(StartFault::HangUpBeforeStarting) {
            *inner.starts.entry(name.to_owned()).or_default() += 1;
        }
        let found = inner.containers.get(name);
        let cannot_join = found.and_then(|found| inner.cannot_join(&found.new));
        let Some(container) = inner.containers.get_mut(name) else {
            return Err(absent());
        };
        if container.state.seen == Seen::Running {
            return Ok(()); // as the engine answers
        }
        let refused = container.behaviour.refused;
        let refused = refused.then(|| "unable to find user nosuch".to_owned());
        if let Some(error) = cannot_join.or(refused) {
            container.state.seen = Seen::StartFailed;
            container.state.exit_code = 128;
            container.state.error = error;
            return Err(EngineError::Refused {
                status: 400,
                message: container.state.error.clone(),
            });
        }
        match fault {
            None => {
                self.launch(name, container);
                Ok(())
            }
            Some(StartFault::HangUpAfterStarting) => {
                self.launch(name, container);
                Err(hung_up())
            }
            Some(StartFault::HangUpBeforeStarting) => Err(hung_up()),
        }
    }
}
