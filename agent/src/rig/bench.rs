//! An agent on the fake engine, and the coordinator that it dials.

use std::path::PathBuf;
use std::time::Duration;

use muster_core::ids::AttemptId;

use super::{Agent, Coordinator, DEADLINE};
use crate::config::Config;
use crate::runtime::fake::FakeRuntime;

/// The engine holds it.
pub(crate) const IMAGE: &str =
    "r.example/x@sha256:1111111111111111111111111111111111111111111111111111111111111111";

pub(crate) struct Bench {
    pub engine: FakeRuntime,
    pub coordinator: Coordinator,
    pub config: Config,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let coordinator = Coordinator::start(1).await;
        let dir = tempfile::tempdir().unwrap();
        let engine = FakeRuntime::new();
        engine.hold(IMAGE);
        Self {
            engine,
            config: coordinator.config(dir.path()),
            coordinator,
            _dir: dir,
        }
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::start(self.engine.clone(), self.config.clone())
    }

    pub(crate) async fn until(&self, what: &str, is: impl Fn() -> bool) {
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while !is() {
                tick.tick().await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        let names = self.engine.names();
        assert!(waited.is_ok(), "still waiting for {what}: {names:?}");
    }

    pub(crate) fn attempt_dir(&self, id: AttemptId) -> PathBuf {
        self.attempts().join(id.to_string())
    }

    /// No attempt has a directory.
    pub(crate) fn is_forgotten(&self) -> bool {
        let mut left = std::fs::read_dir(self.attempts()).unwrap();
        left.next().is_none()
    }

    /// Where attempts have their directories.
    pub(crate) fn attempts(&self) -> PathBuf {
        self.config.data_dir.join(crate::attempt::ATTEMPTS)
    }

    /// Nothing is left of any attempt: no container, no directory.
    pub(crate) async fn until_clean(&self) {
        let is_clean = || self.engine.names().is_empty() && self.is_forgotten();
        self.until("nothing to be left", is_clean).await;
    }
}

/// What the container of an attempt is called.
pub(crate) fn container(id: AttemptId) -> String {
    format!("mu-01234567-{id}")
}
