//! Simulated worker hosts: real agents in this process, each with an engine in memory and a disk of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_agent::runtime::fake::FakeRuntime;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A host whose engine and disk outlive its agents.
pub struct SimulatedHost {
    pub engine: FakeRuntime,
    vars: BTreeMap<String, String>,
    data: PathBuf,
    process: Option<(
        CancellationToken,
        JoinHandle<Result<(), muster_agent::RunError>>,
    )>,
}

impl SimulatedHost {
    /// A host with room for `places` tasks, whose agent dials `coordinator` (`HOST:PORT`) and keeps its data in
    /// `directory`. No agent runs on it yet.
    pub fn new(
        number: usize,
        places: u32,
        coordinator: &str,
        directory: &Path,
        engine: FakeRuntime,
    ) -> Self {
        let name = format!("host-{number:04}");
        let data = directory.join(&name);
        let vars = [
            ("COORDINATOR", format!("http://{coordinator}")),
            ("NAME", name),
            ("DATA_DIR", data.display().to_string()),
            ("PLACES", places.to_string()),
            ("CPUS", "64".to_owned()),
            ("MEMORY", "64GiB".to_owned()),
            // All hosts share one disk here, and it is not what is tested.
            ("DISK_FREE", "1MiB".to_owned()),
            ("DISK_FREE_PERCENT", "0".to_owned()),
        ];
        let vars = vars.map(|(name, value)| (format!("MUSTER_AGENT_{name}"), value));
        Self {
            engine,
            vars: vars.into(),
            data,
            process: None,
        }
    }

    /// Starts the agent; it is online some time later.
    ///
    /// # Panics
    /// If its settings are bad.
    pub fn start(&mut self) {
        let config = muster_agent::Config::parse(&self.vars).expect("the settings are good");
        let stop = CancellationToken::new();
        let running = muster_agent::run_with(self.engine.clone(), config, stop.clone());
        self.process = Some((stop, tokio::spawn(running)));
    }

    /// Asks the agent to end, and waits for nothing.
    pub fn begin_to_stop(&self) {
        if let Some((stop, _)) = &self.process {
            stop.cancel();
        }
    }

    /// Ends the agent. Containers run on.
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

    /// Attempts of which something is left: a container or a directory.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = self.engine.names();
        let entries = std::fs::read_dir(self.data.join("attempts"));
        let entries = entries.into_iter().flatten().flatten();
        left.extend(entries.map(|entry| entry.path().display().to_string()));
        left
    }
}

/// A directory for the hosts' disks; in memory where that is possible: each real host has a disk of its own, and
/// one disk is not a model of a thousand.
///
/// # Panics
/// If there is no room for it.
#[must_use]
pub fn disks() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("there is room for temporary files")
}
