//! Child processes that end with their test, and waits with a deadline.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a slow machine; a wait that takes so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a log that are shown when something failed: few, so that what failed is still in sight above them.
const TAIL: usize = 8;
/// Between two looks at a predicate.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until there is something, and fails with `what` after a minute.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within {PATIENCE:?}"
        );
        std::thread::park_timeout(LOOK);
    }
}

/// A port that was free a moment ago, for programs that can't choose one themselves.
pub fn free_address() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    probe.local_addr().expect("a bound socket has an address")
}

/// A process that is asked to end, and then made to, when this is dropped.
pub struct Daemon {
    name: String,
    child: Child,
    pub log: PathBuf,
}

impl Daemon {
    pub fn start(name: &str, directory: &Path, command: &mut Command) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log);
        let file = file.expect("the test's directory can be written");
        let errors = file.try_clone().expect("a file can be shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} could not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .is_none()
    }

    /// Waits until it ends, and gives the signal that ended it.
    pub fn wait_for_signal(&mut self) -> Option<i32> {
        let what = format!("{} ending", self.name);
        let status = eventually(&what, || {
            self.child.try_wait().expect("a child can be asked")
        });
        status.signal()
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // The name before the state may hold anything, also brackets.
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    }

    /// Waits until somebody listens there.
    pub fn wait_for_port(&mut self, address: SocketAddr) {
        eventually(&format!("{} listening on {address}", self.name), || {
            assert!(self.is_running(), "{} ended:\n{}", self.name, self.tail());
            TcpStream::connect(address).ok()
        });
    }

    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(TAIL).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status.code();
            }
            std::thread::park_timeout(LOOK);
        }
        self.kill();
        None
    }

    /// SIGSTOP: it lives on and does nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            self.thaw();
            self.terminate();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.tail());
        }
    }
}

/// Runs docker and gives what it printed.
pub fn docker(arguments: &[&str]) -> String {
    output_of(Command::new("docker").args(arguments))
}

/// Runs a command that must succeed, and gives what it printed.
pub fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
