//! A host with an agent, on an engine in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent::runtime::fake::FakeRuntime;
use muster_proto::v1 as pb;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Cluster, until};
use crate::sample;

/// A worker host: its engine and its disk outlive the agents on it.
#[derive(Debug)]
pub struct Host {
    pub engine: FakeRuntime,
    /// How long the agent's stream of output stays when nothing is left to send, if not as long as by default.
    pub log_stream_idle: Option<Duration>,
    name: String,
    places: u32,
    dir: TempDir,
    process: Option<(
        CancellationToken,
        JoinHandle<Result<(), muster_agent::RunError>>,
    )>,
}

impl Host {
    /// A host whose engine can pull the digests of the bytes 1 to 9. No agent runs on it yet.
    ///
    /// # Panics
    /// If there is no room for its files.
    #[must_use]
    pub fn new(name: &str, places: u32) -> Self {
        let engine = FakeRuntime::new();
        for byte in 1..10 {
            engine.publish(&sample::image(byte).to_string());
        }
        Self {
            engine,
            log_stream_idle: None,
            name: name.to_owned(),
            places,
            dir: tempfile::tempdir().expect("there is room for temporary files"),
            process: None,
        }
    }

    /// Starts the agent, and returns when the coordinator knows it.
    ///
    /// # Panics
    /// If its settings are bad.
    pub async fn start(&mut self, cluster: &Cluster) {
        self.start_at(cluster, &cluster.address()).await;
    }

    /// The same by another way to the coordinator.
    ///
    /// # Panics
    /// If its settings are bad.
    pub async fn start_at(&mut self, cluster: &Cluster, address: &str) {
        let dir = self.dir.path().display().to_string();
        let vars = [
            ("MUSTER_AGENT_COORDINATOR", address.to_owned()),
            ("MUSTER_AGENT_NAME", self.name.clone()),
            ("MUSTER_AGENT_DATA_DIR", dir),
            ("MUSTER_AGENT_PLACES", self.places.to_string()),
            ("MUSTER_AGENT_CPUS", "8".to_owned()),
            ("MUSTER_AGENT_MEMORY", "8GiB".to_owned()),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value));
        let mut config =
            muster_agent::Config::parse(&BTreeMap::from(vars)).expect("the settings are good");
        if let Some(idle) = self.log_stream_idle {
            config.log_stream_idle = idle;
        }
        let stop = CancellationToken::new();
        let running = muster_agent::run_with(self.engine.clone(), config, stop.clone());
        self.process = Some((stop, tokio::spawn(running)));
        cluster.agent_is(&self.name, pb::AgentState::Online).await;
    }

    /// Ends the agent; containers stay.
    ///
    /// # Panics
    /// If it ends with an error.
    pub async fn stop(&mut self) {
        if let Some((stop, running)) = self.process.take() {
            stop.cancel();
            let ended = running.await.expect("the agent does not panic");
            ended.expect("an agent that is told to stop ends well");
        }
    }

    /// The container of an attempt, once it runs.
    pub async fn container(&self, job: &str, index: u32, attempt: u32) -> String {
        let end = format!("{job}.{index}-{attempt}");
        until("a container", || async {
            let names = self.engine.starts();
            names.into_keys().find(|name| name.ends_with(&end))
        })
        .await
    }

    /// Lets the container's process end by itself, once it runs.
    pub async fn exit(&self, job: &str, index: u32, attempt: u32, code: i32) {
        let name = self.container(job, index, attempt).await;
        until("a running container", || async {
            self.engine.exit(&name, code).then_some(())
        })
        .await;
    }

    /// Waits until nothing of any attempt is left.
    pub async fn is_clean(&self) {
        until("no containers", || async {
            self.engine.names().is_empty().then_some(())
        })
        .await;
    }

    /// Loses what the agent has written about its attempts, as a disk that is replaced does. No agent may run.
    ///
    /// # Panics
    /// If an agent runs, or there is nothing to lose.
    pub fn lose_journals(&self) {
        assert!(self.process.is_none(), "the agent holds its files");
        let attempts = self.dir.path().join("attempts");
        std::fs::remove_dir_all(attempts).expect("the agent made it");
    }
}
