//! A coordinator and one agent as separate processes, for as long as the benchmark runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use muster_tests::gauge::Process;
use serde_json::Value;
use tempfile::TempDir;

use crate::docker::{COMMAND, IMAGE};

/// For the daemons to be ready.
const READY: Duration = Duration::from_secs(30);

pub(crate) struct Fleet {
    binary: PathBuf,
    address: String,
    daemons: Vec<Child>,
    _directory: TempDir,
}

impl Fleet {
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("coordinator");
        let mut coordinator = daemon(binary, "coordinator", directory.path())?;
        coordinator.arg("--data-dir").arg(&data);
        coordinator.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        let mut fleet = Self {
            binary: binary.to_owned(),
            address: String::new(),
            daemons: vec![
                coordinator
                    .spawn()
                    .context("the coordinator can't be started")?,
            ],
            _directory: directory,
        };
        let addresses = data.join("addresses.json");
        let text = until("the coordinator serving", || {
            std::fs::read_to_string(&addresses).ok()
        })?;
        let written: Value = serde_json::from_str(&text)?;
        let grpc = written["grpc"]
            .as_str()
            .context("addresses.json has no gRPC address")?;
        fleet.address = format!("http://{grpc}");
        let mut agent = daemon(binary, "agent", fleet._directory.path())?;
        agent
            .arg("--data-dir")
            .arg(fleet._directory.path().join("agent"));
        agent.args(["--coordinator", &fleet.address, "--name", "bench"]);
        let policy = fleet._directory.path().join("policy.yaml");
        std::fs::write(&policy, "pooled_networks: true\n")?;
        agent.arg("--policy").arg(policy);
        // Room for everything: the agent's own limit of starts is what is measured.
        agent.args(["--places", "32", "--cpus", "64", "--memory", "64g"]);
        fleet
            .daemons
            .push(agent.spawn().context("the agent can't be started")?);
        until("the agent being online", || {
            let output = fleet
                .muster(&["agent", "list", "-o", "json"])
                .output()
                .ok()?;
            let agents: Value = serde_json::from_slice(&output.stdout).ok()?;
            (agents["agents"][0]["state"] == "online").then_some(())
        })?;
        Ok(fleet)
    }

    fn muster(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("MUSTER_ADDR", &self.address).args(arguments);
        command
    }

    /// One `muster run --wait`, from the command's start to its end.
    pub(crate) fn time_run(&self, network: &str) -> anyhow::Result<Duration> {
        let arguments = [
            "run",
            "--wait",
            "--pull",
            "never",
            "--network",
            network,
            IMAGE,
            COMMAND,
        ];
        self.time(&arguments)
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self._directory.path().join("agent")
    }

    /// The channel follows what was pushed there, and so many containers wait for its tasks.
    pub(crate) fn set_warm(
        &self,
        channel: &str,
        repository: &str,
        count: u32,
    ) -> anyhow::Result<()> {
        let count = count.to_string();
        let set = ["channel", "set", channel, repository];
        self.time(&[&set[..], &["--warm-min", &count, "--warm-max", &count]].concat())?;
        Ok(())
    }

    /// Submits a task of the channel and gives its job.
    pub(crate) fn run_in_channel(&self, channel: &str) -> anyhow::Result<String> {
        let submit = ["run", "-d", channel, COMMAND];
        let output = self.muster(&submit).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "muster {submit:?} failed");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// When the job's only task began, since the Unix epoch, once it has succeeded.
    pub(crate) fn started(&self, job: &str) -> anyhow::Result<Duration> {
        self.time(&["wait", job])?;
        let task = format!("{job}.0");
        let output = self
            .muster(&["task", "get", &task, "-o", "json"])
            .output()?;
        let task: Value = serde_json::from_slice(&output.stdout)?;
        let attempts = task["attempts"].as_array().context("it has attempts")?;
        ensure!(attempts.len() == 1, "it ran more than once: {task}");
        let started = attempts[0]["started"].as_str().context("it started")?;
        let started: jiff::Timestamp = started.parse()?;
        Ok(started
            .duration_since(jiff::Timestamp::UNIX_EPOCH)
            .try_into()?)
    }

    /// An array, from the submission to its end; all of it must have succeeded, once.
    pub(crate) fn time_burst(&self, network: &str, count: usize) -> anyhow::Result<Duration> {
        let array = count.to_string();
        let name = format!("burst-{network}");
        let elapsed = self.time(&[
            "run",
            "--wait",
            "--pull",
            "never",
            "--network",
            network,
            "--array",
            &array,
            "--name",
            &name,
            IMAGE,
            COMMAND,
        ])?;
        let output = self.muster(&["ps", "-a", "-o", "json"]).output()?;
        let jobs: Value = serde_json::from_slice(&output.stdout)?;
        let counts = &jobs["jobs"][0]["counts"];
        let done = counts["succeeded"].as_u64() == u64::try_from(count).ok();
        ensure!(
            done && counts["retries"] == 0,
            "the burst ended as {counts}"
        );
        Ok(elapsed)
    }

    fn time(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let output = self.muster(arguments).stdin(Stdio::null()).output()?;
        let elapsed = began.elapsed();
        if !output.status.success() {
            bail!(
                "muster {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(elapsed)
    }

    /// The coordinator and the agent.
    pub(crate) fn daemons(&self) -> [Process; 2] {
        [0, 1].map(|index| Process(self.daemons[index].id()))
    }

    /// Processor time of both so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.daemons().map(Process::cpu).iter().sum()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let pid = daemon.id().to_string();
            // It may have ended by itself.
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = daemon.wait();
        }
    }
}

fn daemon(binary: &Path, verb: &str, directory: &Path) -> anyhow::Result<Command> {
    let log = std::fs::File::create(directory.join(format!("{verb}.log")))?;
    let mut command = Command::new(binary);
    command
        .arg(verb)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + READY;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return Ok(found);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    bail!("{what} took longer than {READY:?}")
}
