//! Process 1 of a task's container: runs the task once, as a child, and writes down how it ended.
//!
//! It hands signals on, takes in orphans that die, and exits as the task does. What it adds to the
//! init process that an engine brings: a second start does not run the task again, the end is on disk
//! before the engine hears of it, signals from outside are told from those of the task itself, and a
//! task whose lease is not renewed is stopped though nobody is there to do it.
//!
//! With `--park` it runs nothing and waits to be told to end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

mod output;
mod parked;
mod record;
mod settings;
mod sys;

use output::Writer;
use parked::Teller;
use record::{End, Moment, NotTaken, Record, Records};
use settings::{Given, Lease, Settings, Task};
use sys::{Arrived, Ended, How, Signals};

/// In the environment of process 1 only.
const KEY: &str = "MUSTER_INIT_KEY";
/// The task was started before.
const SECOND_START: u8 = 123;
/// It can't do its work, or nobody said which, and no task was started.
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
    let parked = words.peek().is_some_and(|word| word == "--park");
    let ran = if parked { park() } else { run(words) };
    match ran {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("[FATAL muster-init] {problem}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Does nothing until it is told to end: what a container needs that only holds a network namespace.
fn park() -> Result<u8, String> {
    let told = |error: io::Error| format!("can't wait for signals: {error}");
    let signals = Signals::block().map_err(told)?;
    loop {
        if let Some(Arrived { number, .. }) = signals.next(None).map_err(told)?
            && DEADLY.contains(&number)
        {
            return Ok(0);
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
    let Settings {
        records,
        output,
        given,
    } = settings;
    let (task, teller) = match given {
        Given::Now(task) => {
            let key = std::env::var(KEY).unwrap_or_default();
            (Task { key, ..task }, None)
        }
        // Somebody started a container again whose task is over.
        Given::Later { .. } if record::is_used(&records) => return Ok(say_again()),
        Given::Later { socket, lease } => match parked::wait(&socket, lease, &signals)? {
            Some((task, teller)) => (task, Some(teller)),
            None => return Ok(UNUSABLE),
        },
    };
    let records = match Records::take(&records) {
        Ok(records) => records,
        Err(NotTaken::Again) => return Ok(say_again()),
        Err(NotTaken::Unusable(error)) => return Err(told("can't take the start")(error)),
    };
    // The start may have been asked for long ago, and the task run elsewhere meanwhile.
    if task.lease.as_ref().is_some_and(is_over) {
        return Err("the lease was over before the start".to_owned());
    }
    Ok(run_once(
        &task,
        &records,
        output.as_deref(),
        &signals,
        teller,
    ))
}

/// Returns the exit code.
fn say_again() -> u8 {
    eprintln!("[FATAL muster-init] this task was started before and is not started again");
    SECOND_START
}

/// Runs the task, whose one start is taken, and returns this process's exit code.
fn run_once(
    task: &Task,
    records: &Records,
    output: Option<&Path>,
    signals: &Signals,
    teller: Option<Teller>,
) -> u8 {
    let started = now();
    let mut command = Command::new(&task.program);
    command.args(&task.arguments).env_remove(KEY);
    let pairs = task.environment.iter();
    command.envs(pairs.map(|(name, value)| (name, value)));
    let writer = output.and_then(Writer::start);
    if writer.is_some() {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let spawned = sys::unblock_in(&mut command).spawn();
    if let Some(teller) = teller {
        teller.say_started();
    }
    let (end, seen) = match spawned {
        Ok(mut child) => {
            if let Some(writer) = &writer {
                writer.write_from(child.stdout.take(), child.stderr.take());
            }
            follow(&child, signals, task.lease.as_ref())
        }
        Err(error) => (no_program(task, output, &error), Seen::default()),
    };
    // They would die with process 1 anyway. From here on nobody can read the key in the record, and nobody
    // can print any more.
    sys::kill_the_rest();
    if let Some(writer) = writer {
        writer.finish();
    }
    let kept = records.keep(&Record {
        key: &task.key,
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
    end.1
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
        let pause = lease.map(|lease| until_look(lease, seen.kill_at));
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

/// Until the next look at the lease, which is no later than the task's KILL: the coordinator counts on it.
fn until_look(lease: &Lease, kill_at: Option<i64>) -> Duration {
    let pause = (lease.limit / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
    let left = kill_at.map(|at| at.saturating_sub(sys::boot_clock()));
    let left = left.and_then(|left| u64::try_from(left).ok());
    left.map_or(pause, |left| {
        Duration::from_millis(left).clamp(LOOK_MIN, pause)
    })
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

fn no_program(task: &Task, output: Option<&Path>, error: &io::Error) -> (End, u8) {
    let program = task.program.display();
    let words = format!("[FATAL muster-init] exec {program} failed: {error}\n");
    eprint!("{words}");
    if let Some(output) = output {
        output::say(output, &words);
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let errno = error.raw_os_error().unwrap_or(0);
    (End::NoProgram { errno }, code)
}

/// When the lease was renewed. `None`: the file can't be read, or is just being written.
fn renewed(lease: &Lease) -> Option<i64> {
    let text = std::fs::read_to_string(&lease.file).ok()?;
    let (first, second) = text.trim().split_once(' ')?;
    (first == second).then(|| first.parse().ok())?
}

/// Whether it is too late to start, or can be told that the lease is over.
fn is_over(lease: &Lease) -> bool {
    let now = sys::boot_clock();
    let passed = renewed(lease).map(|at| now.saturating_sub(at));
    now > millis(lease.start_by) || passed.is_some_and(|passed| passed > millis(lease.limit))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Ends the task when its lease is over: TERM, and KILL when its grace is over too.
fn mind_lease(lease: &Lease, last: &mut i64, pid: i32, seen: &mut Seen) {
    // A file that can't be read is one that is not renewed.
    *last = renewed(lease).unwrap_or(*last);
    let now_boot = sys::boot_clock();
    match seen.kill_at {
        None if now_boot.saturating_sub(*last) > millis(lease.limit) => {
            seen.lease_ended = Some(now());
            seen.kill_at = Some(now_boot.saturating_add(millis(lease.grace)));
            // An agent that is only cut off has sent one just before.
            if seen.signal.is_none_or(|(number, _)| number != sys::SIGTERM) {
                sys::signal(pid, sys::SIGTERM);
            }
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
