//! A container engine that a test may hurt: `scripts/private-engine`, one for each test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fleet::IMAGE;
use crate::ledger::Ledger;
use crate::processes::output_of;

/// Starting one on a slow machine, with containers to take up again.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

const LIVE_RESTORE: &str = "--live-restore";

/// Everything of it is gone when this is dropped.
pub struct PrivateEngine {
    root: TempDir,
    flags: Vec<String>,
    ledger: Ledger,
    dockerd: Option<Child>,
}

impl PrivateEngine {
    /// Starts one that holds the test image. `live_restore`: containers outlive dockerd.
    pub fn start(live_restore: bool) -> Self {
        Self::start_on(live_restore, None)
    }

    /// Starts one whose images and containers have a disk of this size (`64m`) to themselves, in memory.
    pub fn start_on_small_disk(size: &str) -> Self {
        Self::start_on(false, Some(size))
    }

    fn start_on(live_restore: bool, disk: Option<&str>) -> Self {
        let root = tempfile::Builder::new().prefix("mup-").tempdir();
        let root = root.expect("there is room for a temporary directory");
        let ledger = Ledger::create(&root.path().join("ledger"));
        let runtime = ledger.runtime().display().to_string();
        let flags = vec![
            format!("--add-runtime=ledger={runtime}"),
            "--default-runtime=ledger".to_owned(),
        ];
        let mut engine = Self {
            root,
            flags,
            ledger,
            dockerd: None,
        };
        engine.set_live_restore(live_restore);
        if let Some(size) = disk {
            let data = engine.data_root();
            std::fs::create_dir_all(&data).expect("the test's directory can be written");
            let size = format!("size={size}");
            // Whatever is mounted below its directories is unmounted at its end.
            let mut mount = Command::new("mount");
            output_of(mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(data));
        }
        engine.start_again();
        engine.load(IMAGE);
        engine
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.root.path().join("docker.sock")
    }

    /// Whether containers outlive dockerd, from its next start on.
    pub fn set_live_restore(&mut self, live_restore: bool) {
        self.flags.retain(|flag| flag != LIVE_RESTORE);
        if live_restore {
            self.flags.push(LIVE_RESTORE.to_owned());
        }
    }

    /// Of dockerd, which runs.
    pub fn pid(&self) -> u32 {
        self.dockerd.as_ref().expect("dockerd runs").id()
    }

    /// What is mounted below its directories; network namespaces are among it.
    pub fn mounts(&self) -> Vec<String> {
        let root = format!("{}/", self.root.path().display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo");
        let mounts = mounts.expect("the kernel tells its mounts");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let own = points.filter(|point| point.starts_with(&root));
        own.map(str::to_owned).collect()
    }

    /// What its containers wrote down.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where it keeps its images and containers.
    pub fn data_root(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Starts dockerd after one of the faults below and waits until it answers.
    pub fn start_again(&mut self) {
        self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            let child = self.dockerd.as_mut().expect("it was just started");
            let ended = child.try_wait().expect("a child can be asked").is_some();
            assert!(!ended, "dockerd ended:\n{}", self.tail());
            assert!(
                Instant::now() < deadline,
                "dockerd does not answer after {PATIENCE:?}:\n{}",
                self.tail()
            );
            std::thread::park_timeout(LOOK);
        }
    }

    /// Starts dockerd and waits for nothing.
    pub fn launch(&mut self) {
        assert!(self.dockerd.is_none(), "dockerd runs already");
        let mut command = self.script("run");
        command.args(&self.flags);
        let child = command.stdin(Stdio::null()).spawn();
        self.dockerd = Some(child.expect("scripts/private-engine can be run"));
    }

    fn answers(&self) -> bool {
        let mut command = self.docker();
        command.args(["version", "--format", "{{.Server.Version}}"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// `docker` that talks to this engine.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host());
        command
    }

    /// KILL to dockerd alone: containerd and the containers run on.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.reap();
    }

    /// TERM to dockerd, and waits for its end. Without live-restore it stops the containers first.
    pub fn terminate(&mut self) {
        self.signal("-TERM");
        self.reap();
    }

    /// STOP to dockerd: it lives and answers nobody.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// CONT to dockerd.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// KILL to dockerd, containerd, all shims and all tasks at once, as when the host loses power.
    pub fn crash(&mut self) {
        output_of(&mut self.script("crash"));
        self.reap();
    }

    /// From now on every start of a container fails within milliseconds.
    pub fn break_runtime(&self) {
        self.ledger.break_runtime();
    }

    /// Starts work again.
    pub fn mend_runtime(&self) {
        self.ledger.make_runtime();
    }

    /// Copies an image of the host's engine.
    fn load(&self, image: &str) {
        let mut save = Command::new("docker");
        save.args(["save", image]).stdout(Stdio::piped());
        let mut save = save.spawn().expect("docker can be run");
        let pipe = save.stdout.take().expect("it was asked for");
        output_of(self.docker().arg("load").stdin(pipe));
        let status = save.wait().expect("a child can be waited for");
        assert!(
            status.success(),
            "the host's engine does not hold {image}: scripts/setup testbox builds it"
        );
    }

    fn script(&self, verb: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/private-engine");
        let mut command = Command::new(path);
        command.arg(verb).env("ROOT", self.root.path());
        command
    }

    fn signal(&self, signal: &str) {
        let dockerd = self.dockerd.as_ref().expect("dockerd runs");
        output_of(Command::new("kill").args([signal, &dockerd.id().to_string()]));
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.dockerd.take() {
            child.wait().expect("a child can be waited for");
        }
    }

    fn tail(&self) -> String {
        let log = self.root.path().join("dockerd.log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- dockerd\n{}", self.tail());
        }
        // The script ends dockerd; whoever started it has to take notice, or it stays as a zombie.
        let cleaned = self.script("clean").status();
        if !cleaned.is_ok_and(|status| status.success()) {
            eprintln!("not cleaned: {}", self.root.path().display());
        }
        self.reap();
    }
}
