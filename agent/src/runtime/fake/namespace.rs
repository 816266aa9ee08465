//! Containers that only hold a network namespace, and ones that join it.

use std::io;

use super::{Behaviour, FakeRuntime, Inner, facts};
use crate::plan::Seen;
use crate::runtime::{CreateError, EngineError, NamespaceView, NewContainer, NewParked, Traces};

impl FakeRuntime {
    /// A task leaves this in the network namespace of a parked container.
    pub fn leave_traces(&self, parked: &str, traces: Traces) {
        self.lock().traces.insert(parked.to_owned(), traces);
    }

    /// From now on the agent's host can see into the engine's network namespaces.
    pub fn come_in_sight(&self) {
        self.lock().in_sight = true;
    }

    pub(super) fn create_parked_now(&self, new: &NewParked) -> Result<(), CreateError> {
        let NewParked {
            name,
            image,
            network,
            labels,
        } = new;
        self.script("--park", Behaviour::forever());
        self.create_now(&NewContainer {
            name: name.clone(),
            image: image.clone(),
            entrypoint: None,
            command: vec!["--park".to_owned()],
            env: Vec::new(),
            labels: labels.clone(),
            workdir: None,
            user: String::new(),
            limits: crate::runtime::Limits {
                cpu_millis: 0,
                memory_bytes: 0,
                pids: 0,
            },
            gpus: 0,
            network: Some(network.clone()),
            writable_root: false,
            run_dir: "/".into(),
            cgroup_parent: None,
            init: None,
        })
    }

    pub(super) fn hold_imported(&self, name: &str) -> Result<(), EngineError> {
        self.up()?.images.insert(name.to_owned(), facts(name));
        Ok(())
    }

    /// `None`: it is in no parked namespace that can be seen.
    pub(super) fn view(&self, name: &str) -> Result<Option<FakeView>, EngineError> {
        let view = FakeView {
            engine: self.clone(),
            name: name.to_owned(),
        };
        Ok(self.up()?.in_sight.then_some(view))
    }
}

impl Inner {
    /// What the engine says to a container whose network is another's that doesn't run.
    pub(super) fn cannot_join(&self, new: &NewContainer) -> Option<String> {
        let holder = new.network.as_deref()?.strip_prefix("container:")?;
        let runs = self
            .containers
            .get(holder)
            .is_some_and(|found| found.state.seen == Seen::Running);
        (!runs).then(|| format!("cannot join network of a non running container: {holder}"))
    }
}

#[derive(Debug)]
pub(super) struct FakeView {
    engine: FakeRuntime,
    name: String,
}

impl NamespaceView for FakeView {
    fn look(&self) -> io::Result<Traces> {
        let inner = self.engine.lock();
        let runs = inner
            .containers
            .get(&self.name)
            .is_some_and(|found| found.state.seen == Seen::Running);
        if runs {
            Ok(inner.traces.get(&self.name).cloned().unwrap_or_default())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}
