//! A coordinator and its agents as separate processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::processes::{Daemon, eventually, output_of};

/// The test image; `scripts/setup testbox` builds it.
pub const IMAGE: &str = "muster/testbox:1";

/// Whether the outside parts were promised. Says so if not: a test that did not run has not passed.
pub fn enabled() -> bool {
    let enabled = std::env::var("MUSTER_E2E").is_ok_and(|value| value == "1");
    if !enabled {
        eprintln!("SKIPPED: needs a Docker engine; set MUSTER_E2E=1, as `make e2e` does");
    }
    enabled
}

/// The binary: `MUSTER_BIN`, or what cargo built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MUSTER_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in PROFILE/deps");
    let path = profile.join("muster");
    assert!(
        path.exists(),
        "{} is missing: cargo build --bin muster",
        path.display()
    );
    path
}

pub struct Fleet {
    pub grpc: String,
    pub http: SocketAddr,
    coordinator_flags: Vec<String>,
    coordinator: Option<Daemon>,
    agents: Vec<(String, Daemon)>,
    environment: Vec<(String, String)>,
    binaries: Binaries,
    /// Dropped last: the daemons' logs are in it.
    pub directory: TempDir,
}

/// What the daemons run from their next start on.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub coordinator: PathBuf,
    pub agents: PathBuf,
}

impl Default for Binaries {
    fn default() -> Self {
        Self {
            coordinator: binary(),
            agents: binary(),
        }
    }
}

impl Fleet {
    /// A coordinator and so many agents, named `a1`, `a2`, …, with four places each.
    pub fn start(agents: usize) -> Self {
        Self::start_with(agents, &[])
    }

    pub fn start_with(agents: usize, coordinator_flags: &[&str]) -> Self {
        Self::start_in(agents, coordinator_flags, &[])
    }

    /// The same with variables for the daemons. `DOCKER_HOST` is the engine of this fleet.
    pub fn start_in(
        agents: usize,
        coordinator_flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_of(Binaries::default(), agents, coordinator_flags, environment)
    }

    /// The same with other daemons than those of this version.
    pub fn start_of(
        binaries: Binaries,
        agents: usize,
        coordinator_flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let disk = std::env::temp_dir();
        Self::start_on(&disk, binaries, agents, coordinator_flags, environment)
    }

    /// The same with all data in a new directory on `disk`.
    pub fn start_on(
        disk: &Path,
        binaries: Binaries,
        agents: usize,
        coordinator_flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut fleet = Self {
            directory: tempfile::tempdir_in(disk).expect("there is room for a temporary directory"),
            grpc: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".parse().expect("an address"),
            coordinator_flags: coordinator_flags
                .iter()
                .map(|flag| (*flag).to_owned())
                .collect(),
            coordinator: None,
            agents: Vec::new(),
            environment: environment.iter().map(own).collect(),
            binaries,
        };
        fleet.start_coordinator();
        for number in 1..=agents {
            fleet.start_agent(&format!("a{number}"));
        }
        fleet.wait_for_agents(agents);
        fleet
    }

    /// Starts the coordinator, the second time on the ports of the first.
    pub fn start_coordinator(&mut self) {
        self.launch_coordinator(&[]);
        self.wait_for_coordinator();
    }

    /// The same with variables of its own, and waits for nothing.
    pub fn launch_coordinator(&mut self, environment: &[(&str, &str)]) {
        let directory = self.directory.path().join("coordinator");
        // What an earlier one wrote says nothing about this one.
        let _ = std::fs::remove_file(directory.join("addresses.json"));
        let mut command = self.daemon(&self.binaries.coordinator, "coordinator");
        command.envs(environment.iter().copied());
        command.arg("--data-dir").arg(&directory);
        command.args([
            "--listen",
            &self.grpc,
            "--http-listen",
            &self.http.to_string(),
        ]);
        command.args(&self.coordinator_flags);
        let daemon = Daemon::start("coordinator", self.directory.path(), &mut command);
        self.coordinator = Some(daemon);
    }

    /// Waits until the coordinator serves.
    pub fn wait_for_coordinator(&mut self) {
        let addresses = self.directory.path().join("coordinator/addresses.json");
        let daemon = self.coordinator();
        let text = eventually("the coordinator writing its addresses", || {
            assert!(
                daemon.is_running(),
                "the coordinator ended:\n{}",
                daemon.tail()
            );
            std::fs::read_to_string(&addresses).ok()
        });
        let written: Value = serde_json::from_str(&text).expect("addresses.json is JSON");
        self.grpc = written["grpc"]
            .as_str()
            .expect("the gRPC address")
            .to_owned();
        self.http = written["http"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an address");
    }

    pub fn start_agent(&mut self, name: &str) {
        self.start_agent_in(name, &[]);
    }

    /// The same with variables of its own.
    pub fn start_agent_in(&mut self, name: &str, environment: &[(&str, &str)]) {
        self.agents.retain(|(known, _)| known != name);
        let mut command = self.daemon(&self.binaries.agents, "agent");
        // What the tests are about is not how full the disk of this machine is.
        command.env("MUSTER_AGENT_DISK_FREE", "64MiB");
        command.env("MUSTER_AGENT_DISK_FREE_PERCENT", "0");
        command.envs(environment.iter().copied());
        command
            .arg("--data-dir")
            .arg(self.directory.path().join(name));
        command.args([
            "--coordinator",
            &format!("http://{}", self.grpc),
            "--name",
            name,
        ]);
        command.args(["--places", "4", "--cpus", "8", "--memory", "8g"]);
        let daemon = Daemon::start(name, self.directory.path(), &mut command);
        // One of that name has ended.
        self.agents.retain(|(known, _)| known != name);
        self.agents.push((name.to_owned(), daemon));
    }

    /// From the next start of each on.
    pub fn upgrade_to(&mut self, binaries: Binaries) {
        self.binaries = binaries;
    }

    fn daemon(&self, binary: &Path, verb: &str) -> Command {
        let mut command = clean_command(binary);
        command.arg(verb);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    pub fn wait_for_agents(&self, count: usize) {
        eventually("all agents being online", || {
            let agents = self.json(&["agent", "list"]);
            let all = agents["agents"].as_array()?;
            let online = all
                .iter()
                .filter(|agent| agent["state"] == "online")
                .count();
            (online == count).then_some(())
        });
    }

    pub fn coordinator(&mut self) -> &mut Daemon {
        self.coordinator
            .as_mut()
            .expect("the coordinator was started")
    }

    pub fn agent(&mut self, name: &str) -> &mut Daemon {
        let found = self.agents.iter_mut().find(|(known, _)| known == name);
        &mut found.expect("the agent was started").1
    }

    /// Runs a client command.
    pub fn muster(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("muster can be run")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = clean_command(&binary());
        command
            .env("MUSTER_ADDR", format!("http://{}", self.grpc))
            .args(arguments);
        command
    }

    /// Runs a client command that must succeed, and gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.muster(arguments);
        let (text, errors) = (stdout(&output), stderr(&output));
        assert!(
            output.status.success(),
            "muster {arguments:?}: {text}{errors}"
        );
        text.trim().to_owned()
    }

    /// Runs a client command with `-o json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Submits a job on the test image and gives its id.
    pub fn submit(&self, flags: &[&str], command: &[&str]) -> String {
        let image = ["run", "-d", "--pull", "never", "--network", "none"];
        self.ok(&[&image, flags, &[IMAGE], command].concat())
    }

    /// Waits until a task of the job runs.
    pub fn wait_for_running(&self, job: &str, count: u64) {
        eventually("the tasks running", || {
            (self.json(&["job", "get", job])["counts"]["running"] == count).then_some(())
        });
    }

    /// Ids of the containers that hold this fleet's tasks. Those that hold a network namespace for the next task
    /// stay, as networks do.
    pub fn containers(&self) -> Vec<String> {
        let label = format!("label=muster.cluster={}", self.cluster());
        let format = "{{.ID}} {{.Label \"muster.parked\"}}";
        let list = ["ps", "--all", "--no-trunc", "--filter", &label];
        let listed = self.docker(&[&list[..], &["--format", format]].concat());
        let ids = listed.lines().map(str::trim);
        ids.filter(|line| !line.contains(' '))
            .map(str::to_owned)
            .collect()
    }

    /// Networks that its agents made for teams; they stay, because making one takes long.
    fn networks(&self) -> Vec<String> {
        let label = format!("label=muster.cluster={}", self.cluster());
        let ids = self.docker(&["network", "ls", "--quiet", "--filter", &label]);
        ids.lines().map(str::to_owned).collect()
    }

    /// Waits until no container of this fleet is left.
    pub fn wait_for_no_containers(&self) {
        eventually("all containers being removed", || {
            self.containers().is_empty().then_some(())
        });
    }

    /// Waits until nothing of any attempt is in the agent's data directory: it forgets them when their output has
    /// arrived.
    pub fn wait_for_no_attempts(&self, agent: &str) {
        let attempts = self.directory.path().join(agent).join("attempts");
        eventually("the agent forgetting all attempts", || {
            let mut left = std::fs::read_dir(&attempts).ok()?;
            left.next().is_none().then_some(())
        });
    }

    /// Runs docker on the fleet's engine and gives what it printed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        output_of(command.args(arguments))
    }

    fn remove(&self, command: &[&str], what: &[String]) {
        if !what.is_empty() {
            let what: Vec<&str> = what.iter().map(String::as_str).collect();
            self.docker(&[command, &what].concat());
        }
    }

    pub fn cluster(&self) -> String {
        let version = self.json(&["version"]);
        version["server"]["cluster"]
            .as_str()
            .expect("the cluster's id")
            .to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let reachable = self.coordinator.as_mut().is_some_and(Daemon::is_running);
        if !reachable {
            return;
        }
        let containers = if std::thread::panicking() {
            Vec::new()
        } else {
            self.containers()
        };
        let networks = (!std::thread::panicking()).then(|| self.networks());
        self.agents.clear();
        self.remove(&["rm", "--force", "--volumes"], &containers);
        if let Some(networks) = networks {
            self.remove(&["network", "rm"], &networks);
        }
    }
}

/// The binary without the settings of whoever runs the tests.
fn clean_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars() {
        if name.starts_with("MUSTER_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
