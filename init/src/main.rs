//! Process 1 of a task's container: runs the task once, as a child, and writes down how it ended.
//!
//! It hands signals on, takes in orphans that die, and exits as the task does. What it adds to the
//! init process that an engine brings: a second start does not run the task again, the end is on disk
//! before the engine hears of it, signals from outside are told from those of the task itself, and a
//! task whose lease is not renewed is stopped though nobody is there to do it.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

mod output;
mod record;
mod settings;
mod sys;

use output::Writer;
use record::{End, Moment, NotTaken, Record, Records};
use settings::{Lease, Settings};
use sys::{Arrived, Ended, How, Signals};

/// In the environment of process 1 only.
const KEY: &str = "MUSTER_INIT_KEY";
/// The task was started before.
const SECOND_START: u8 = 123;
/// It can't do its work, and the task was not started.
const UNUSABLE: u8 = 122;
/// SIGHUP, SIGINT, SIGQUIT, SIGTERM: what ends a process that does not expect it. KILL is never heard.
const DEADLY: [i32; 4] = [1, 2, 3, 15];
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// How many looks at the lease go into its limit, so that it is overdrawn by a tenth at most.
const LOOKS: u32 = 10;
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--version") {
        println!("muster-init {}", version());
        return ExitCode::SUCCESS;
    }
    match run(words) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("[FATAL muster-init] {problem}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Empty where rustc was called without cargo and without a version.
fn version() -> &'static str {
    option_env!("CARGO_PKG_VERSION").unwrap_or("")
}

fn run(words: impl Iterator<Item = OsString>) -> Result<u8, String> {
    let settings = Settings::read(words)?;
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    // Before there is anybody who could look.
    sys::close_up().map_err(told("can't close itself up"))?;
    let signals = Signals::block().map_err(told("can't block signals"))?;
    let key = std::env::var(KEY).unwrap_or_default();
    let records = match Records::take(&settings.records) {
        Ok(records) => records,
        Err(NotTaken::Again) => {
            eprintln!("[FATAL muster-init] this task was started before and is not started again");
            return Ok(SECOND_START);
        }
        Err(NotTaken::Unusable(error)) => return Err(told("can't take the start")(error)),
    };
    let started = now();
    let mut task = Command::new(&settings.program);
    task.args(&settings.arguments).env_remove(KEY);
    let writer = settings.output.as_deref().and_then(Writer::start);
    if writer.is_some() {
        task.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let spawned = sys::unblock_in(&mut task).spawn();
    let (end, seen) = match spawned {
        Ok(mut child) => {
            if let Some(writer) = &writer {
                writer.write_from(child.stdout.take(), child.stderr.take());
            }
            follow(&child, &signals, settings.lease.as_ref())
        }
        Err(error) => (no_program(&settings, &error), Seen::default()),
    };
    // They would die with process 1 anyway. From here on nobody can read the key in the record, and nobody
    // can print any more.
    sys::kill_the_rest();
    if let Some(writer) = writer {
        writer.finish();
    }
    let kept = records.keep(&Record {
        key: &key,
        started,
        ended: now(),
        end: end.0,
        signal: seen.signal,
        lease_ended: seen.lease_ended,
        oom_kills: oom_kills(),
    });
    if let Err(error) = kept {
        // The engine's word will have to do.
        eprintln!("[WARN muster-init] the end can't be written down: {error}");
    }
    Ok(end.1)
}

fn now() -> Moment {
    Moment {
        boot: sys::boot_clock(),
        wall: sys::wall_clock(),
    }
}

/// What happened beside the task.
#[derive(Debug, Default)]
struct Seen {
    signal: Option<(i32, Moment)>,
    lease_ended: Option<Moment>,
    /// When a task that was told to end is killed.
    kill_at: Option<i64>,
}

/// Waits for the task's end. Returns it with this process's own exit code.
fn follow(child: &Child, signals: &Signals, lease: Option<&Lease>) -> ((End, u8), Seen) {
    let pid = i32::try_from(child.id()).expect("Linux keeps process ids below 2^22");
    let mut seen = Seen::default();
    let mut renewed = sys::boot_clock();
    loop {
        let pause = lease.map(|lease| (lease.limit / LOOKS).clamp(LOOK_MIN, LOOK_MAX));
        match signals.next(pause) {
            Ok(Some(Arrived { number, .. })) if number == sys::SIGCHLD => {
                if let Some(ended) = reap_all(pid) {
                    return (by(ended), seen);
                }
            }
            Ok(Some(Arrived {
                number,
                from_outside,
            })) => {
                if from_outside && seen.signal.is_none() && DEADLY.contains(&number) {
                    seen.signal = Some((number, now()));
                }
                sys::signal(pid, number);
            }
            Ok(None) => {}
            // Nothing but its arguments could make waiting fail.
            Err(error) => eprintln!("[WARN muster-init] can't wait for signals: {error}"),
        }
        if let Some(lease) = lease {
            mind_lease(lease, &mut renewed, pid, &mut seen);
        }
    }
}

/// Takes in whoever died; returns the task if it is among them.
fn reap_all(task: i32) -> Option<Ended> {
    let mut found = None;
    while let Some(ended) = sys::reap() {
        if ended.pid == task {
            found = Some(ended);
        }
    }
    found
}

fn by(ended: Ended) -> (End, u8) {
    let code = match ended.how {
        How::Exited(code) => code,
        How::Signaled(signal) => 128 + signal,
    };
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    (End::Ran(ended.how, ended.usage), code)
}

fn no_program(settings: &Settings, error: &io::Error) -> (End, u8) {
    let program = settings.program.display();
    let words = format!("[FATAL muster-init] exec {program} failed: {error}\n");
    eprint!("{words}");
    if let Some(output) = &settings.output {
        output::say(output, &words);
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let errno = error.raw_os_error().unwrap_or(0);
    (End::NoProgram { errno }, code)
}

/// Ends the task when its lease is over: TERM, and KILL when its grace is over too.
fn mind_lease(lease: &Lease, renewed: &mut i64, pid: i32, seen: &mut Seen) {
    // A file that can't be read is one that is not renewed.
    let read = std::fs::read_to_string(&lease.file).ok();
    if let Some(at) = read.and_then(|text| text.trim().parse().ok()) {
        *renewed = at;
    }
    let now_boot = sys::boot_clock();
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match seen.kill_at {
        None if now_boot.saturating_sub(*renewed) > millis(lease.limit) => {
            seen.lease_ended = Some(now());
            seen.kill_at = Some(now_boot.saturating_add(millis(lease.grace)));
            sys::signal(pid, sys::SIGTERM);
        }
        Some(at) if now_boot >= at => sys::signal(pid, sys::SIGKILL),
        None | Some(_) => {}
    }
}

/// Of the whole container. `None` if the kernel does not say.
fn oom_kills() -> Option<u64> {
    // Control groups version 2, then 1.
    let files = [
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ];
    let text = files
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count?.trim().parse().ok()
}
