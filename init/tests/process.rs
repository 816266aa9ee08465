//! The program as a plain process: everything but what needs a PID namespace of its own, which the
//! agent's tests have.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const KEY: &str = "0123456789abcdef";

struct Dir(tempdir::Dir);

/// A directory as the agent prepares it.
mod tempdir {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(super) struct Dir(PathBuf);

    static NEXT: AtomicU32 = AtomicU32::new(0);

    impl Dir {
        pub(super) fn new() -> Self {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("muster-init-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

impl Dir {
    fn new() -> Self {
        let dir = tempdir::Dir::new();
        std::fs::write(dir.path().join("armed"), "").unwrap();
        std::fs::write(dir.path().join("record.new"), [b' '; 1024]).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, options: &[&str], task: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster-init"));
        command.env("MUSTER_INIT_KEY", KEY);
        command.arg("--records").arg(self.path());
        command.args(options).arg("--").args(task);
        command
    }

    fn run(&self, script: &str) -> Output {
        let mut command = self.command(&[], &["/bin/sh", "-c", script]);
        command.output().unwrap()
    }

    /// Starts a task that says when it is ready.
    fn start(&self, options: &[&str], script: &str) -> Child {
        let mut command = self.command(options, &["/bin/sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line);
        assert_eq!((out.unwrap(), line.as_str()), (6, "ready\n"));
        child
    }

    /// The lines of the record without those that differ from run to run.
    fn record(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("record")).unwrap();
        let lines = text.lines().map(str::to_owned);
        let differ = ["started ", "ended ", "usage ", "oom_kills "];
        lines
            .filter(|line| !differ.iter().any(|word| line.starts_with(word)))
            .collect()
    }
}

fn whole(end: &str) -> Vec<String> {
    ["muster-init 1", "key 0123456789abcdef", end, "end"]
        .map(str::to_owned)
        .into()
}

#[test]
fn it_exits_as_the_task_and_writes_the_end_down() {
    let cases = [
        ("exit 0", 0, "exited 0"),
        ("exit 7", 7, "exited 7"),
        ("exit 255", 255, "exited 255"),
        ("kill -KILL $$", 137, "signaled 9"),
        ("kill -SEGV $$", 139, "signaled 11"),
    ];
    for (script, code, end) in cases {
        let dir = Dir::new();
        let out = dir.run(script);
        assert_eq!(out.status.code(), Some(code), "{script}: {out:?}");
        assert_eq!(dir.record(), whole(end));
        assert!(!dir.path().join("record.new").exists());
        assert!(!dir.path().join("armed").exists());
    }
}

#[test]
fn a_second_start_runs_nothing() {
    let dir = Dir::new();
    assert_eq!(dir.run("echo ran").stdout, b"ran\n");
    let first = std::fs::read(dir.path().join("record")).unwrap();
    let again = dir.run("echo ran");
    assert_eq!((again.status.code(), again.stdout), (Some(123), vec![]));
    assert_eq!(std::fs::read(dir.path().join("record")).unwrap(), first);
}

#[test]
fn a_program_that_can_not_be_executed_is_told_from_one_that_exits_so() {
    let cases = [
        ("/no/such", 127, "no_program 2"),
        ("/etc", 126, "no_program 13"),
    ];
    for (program, code, end) in cases {
        let dir = Dir::new();
        let out = dir.command(&[], &[program]).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{out:?}");
        let said = String::from_utf8(out.stderr).unwrap();
        let wanted = format!("[FATAL muster-init] exec {program} failed: ");
        assert!(said.starts_with(&wanted), "{said}");
        assert_eq!(dir.record(), whole(end));
    }
    let dir = Dir::new();
    assert_eq!(dir.run("exit 127").status.code(), Some(127));
    assert_eq!(dir.record(), whole("exited 127"));
}

#[test]
fn the_task_does_not_see_the_key_and_has_a_clean_signal_mask() {
    let dir = Dir::new();
    let out = dir.run("env; grep -E 'Sig(Blk|Ign)' /proc/self/status");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(!text.contains(KEY) && text.contains("PATH="), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    let ignored = text.split("SigIgn:\t").nth(1).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    let pipe = 1 << (13 - 1);
    assert_eq!(ignored & pipe, 0, "{text}");
}

#[test]
fn signals_are_handed_on() {
    let dir = Dir::new();
    let script = "trap 'exit 9' USR1; echo ready; while :; do /bin/sleep 0.05; done";
    let mut child = dir.start(&[], script);
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-USR1", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(dir.record(), whole("exited 9"));
}

#[test]
fn a_lease_that_is_not_renewed_ends_the_task() {
    let dir = Dir::new();
    let lease = dir.path().join("lease");
    let renew = || std::fs::write(&lease, twice(boot_clock())).unwrap();
    renew();
    let options = |grace| {
        let lease = lease.to_str().unwrap();
        let terms = ["--lease", lease, "--lease-ms", "1000", "--grace-ms", grace];
        [&terms[..], &ANY_TIME].concat()
    };
    let obedient = "trap 'exit 3' TERM; echo ready; while :; do /bin/sleep 0.05; done";
    let mut child = dir.start(&options("60000"), obedient);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let record = dir.record();
    assert_eq!(record[2], "exited 3");
    assert!(record[3].starts_with("lease_ended "), "{record:?}");

    let stubborn = Dir::new();
    let script = "trap '' TERM; echo ready; while :; do /bin/sleep 0.05; done";
    renew();
    let mut child = stubborn.start(&options("100"), script);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(stubborn.record()[2], "signaled 9");
}

/// The task may start whenever it likes.
const ANY_TIME: [&str; 2] = ["--start-by-ms", "99999999999999"];

/// As the agent writes it.
fn twice(millis: u64) -> String {
    format!("{millis:020} {millis:020}\n")
}

/// Milliseconds since the host's start.
fn boot_clock() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let (seconds, hundredths) = uptime.split(' ').next().unwrap().split_once('.').unwrap();
    let [seconds, hundredths] = [seconds, hundredths].map(|text| text.parse::<u64>().unwrap());
    seconds * 1000 + hundredths * 10
}

#[test]
fn a_lease_that_was_over_before_the_start_starts_nothing() {
    let dir = Dir::new();
    let lease = dir.path().join("lease");
    std::fs::write(&lease, twice(0)).unwrap();
    let lease = lease.to_str().unwrap();
    let terms = ["--lease", lease, "--lease-ms", "1000", "--grace-ms", "0"];
    let options = [&terms[..], &ANY_TIME].concat();
    let out = dir.command(&options, &["/bin/echo", "it ran"]).output();
    let out = out.unwrap();
    assert_eq!(
        (out.status.code(), out.stdout.as_slice()),
        (Some(122), &b""[..])
    );
}

#[test]
fn a_lease_that_was_renewed_after_it_was_over_lets_no_late_start_through() {
    let dir = Dir::new();
    let lease = dir.path().join("lease");
    std::fs::write(&lease, twice(boot_clock())).unwrap();
    let lease = lease.to_str().unwrap();
    let too_late = (boot_clock() - 1).to_string();
    let terms = ["--lease", lease, "--lease-ms", "60000", "--grace-ms", "0"];
    let options = [&terms[..], &["--start-by-ms", &too_late]].concat();
    let out = dir.command(&options, &["/bin/echo", "it ran"]).output();
    let out = out.unwrap();
    assert_eq!(
        (out.status.code(), out.stdout.as_slice()),
        (Some(122), &b""[..])
    );
}

#[test]
fn a_lease_that_is_renewed_does_not() {
    let dir = Dir::new();
    let lease = dir.path().join("lease");
    std::fs::write(&lease, twice(99_999_999_999_999)).unwrap();
    let lease = lease.to_str().unwrap();
    let terms = ["--lease", lease, "--lease-ms", "100", "--grace-ms", "0"];
    let options = [&terms[..], &ANY_TIME].concat();
    let mut child = dir.start(&options, "echo ready; /bin/sleep 0.5");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(dir.record(), whole("exited 0"));
}

#[test]
fn a_task_that_spoils_the_records_loses_nothing_but_them() {
    let dir = Dir::new();
    let path = dir.path().display();
    let out = dir.run(&format!(
        "rm {path}/record.new; mkdir -p {path}/record/x; exit 5"
    ));
    assert_eq!(out.status.code(), Some(5));
    assert!(dir.path().join("record").is_dir());
    // Room that is gone is found anew.
    let dir = Dir::new();
    let path = dir.path().display();
    dir.run(&format!("rm {path}/record.new"));
    assert_eq!(dir.record(), whole("exited 0"));
}

#[test]
fn what_it_can_not_use_it_says_and_runs_nothing() {
    let missing = Path::new("/no/such/directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-init"));
    command.arg("--records").arg(missing);
    let out = command.args(["--what", "x"]).output().unwrap();
    assert_eq!(out.status.code(), Some(122));
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(said, "[FATAL muster-init] --what is no option\n");
}
