//! Engines that stop, die and crash under tasks: each end is what the evidence allows, never a success that
//! was none, and never at the task's expense. With muster's init process in the containers, which knows how
//! they ended, and with the engine's.

use std::path::PathBuf;

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::processes::eventually;

use crate::crash_points::long;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// TERM to dockerd, as a service manager does.
    Terminate,
    /// KILL to dockerd.
    Kill,
    /// KILL to everything of the engine, tasks too.
    Crash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Sleeper,
    /// Makes a success of TERM.
    Trapper,
    /// Makes a failure of TERM.
    Objector,
    /// Ends with this code while the engine is away.
    Ends(i32),
    /// Takes too much memory while the engine is away.
    Oom,
}

const TASKS: [Task; 7] = [
    Task::Sleeper,
    Task::Trapper,
    Task::Objector,
    Task::Ends(0),
    Task::Ends(7),
    Task::Ends(255),
    Task::Oom,
];

impl Task {
    fn script(self) -> String {
        let ready = "touch /run/muster/ready";
        let wait = "while [ ! -e /run/muster/go ]; do sleep 0.05; done";
        match self {
            Self::Sleeper => format!("{ready}; while :; do sleep 0.05; done"),
            Self::Trapper => {
                format!("trap 'exit 0' TERM; {ready}; while :; do sleep 0.05; done")
            }
            Self::Objector => {
                format!("trap 'exit 7' TERM; {ready}; while :; do sleep 0.05; done")
            }
            Self::Ends(code) => format!("{ready}; {wait}; exit {code}"),
            Self::Oom => format!("{ready}; {wait}; tail /dev/zero; exit $?"),
        }
    }

    /// Whether it ends by itself when it is told to go.
    fn goes(self) -> bool {
        matches!(self, Self::Ends(_) | Self::Oom)
    }

    /// A failure of its own would be tried again at once where that is wrong.
    fn retries(self) -> &'static str {
        match self {
            Self::Sleeper | Self::Trapper | Self::Ends(0) => "user=3,infra=0",
            // The engine's init process leaves it open whose failure the objector's end is.
            Self::Objector | Self::Ends(_) | Self::Oom => "user=0,infra=0",
        }
    }

    fn truth(self) -> End {
        match self {
            Self::Ends(0) => ("succeeded", "exited"),
            Self::Oom => ("oom", "memory_limit"),
            Self::Sleeper | Self::Trapper | Self::Objector | Self::Ends(_) => ("failed", "exited"),
        }
    }
}

/// Outcome and reason.
type End = (&'static str, &'static str);
const INTERRUPTED: End = ("infra_error", "interrupted");
const LOST: End = ("lost", "engine_lost");
const CANCELED: End = ("canceled", "canceled_by_user");

/// What may come of it. More than one where the engine's memory is a matter of luck.
fn allowed(own_init: bool, live_restore: bool, fault: Fault, task: Task) -> Vec<End> {
    let killed = ("infra_error", "killed_externally");
    match (task, fault) {
        (Task::Sleeper | Task::Trapper | Task::Objector, Fault::Crash) => vec![LOST],
        // The test ends those that go on.
        (Task::Sleeper | Task::Trapper | Task::Objector, _) if live_restore => vec![CANCELED],
        // Whoever exits with a failure is believed if nobody heard the old engine stop it.
        (Task::Objector, Fault::Terminate) if !own_init => {
            vec![INTERRUPTED, ("failed", "exited")]
        }
        (Task::Sleeper | Task::Trapper | Task::Objector, _) => vec![INTERRUPTED],
        // The engine stopped them before it went.
        (_, Fault::Terminate) if !live_restore => vec![INTERRUPTED],
        (_, _) if own_init => vec![task.truth()],
        // From here on without a record.
        (_, Fault::Crash) => vec![LOST],
        (Task::Ends(0), _) if !live_restore => vec![INTERRUPTED],
        (Task::Ends(255), _) => vec![task.truth(), LOST],
        (Task::Oom, _) if live_restore => vec![task.truth(), killed],
        (Task::Oom, _) => vec![task.truth(), INTERRUPTED],
        (Task::Ends(_), _) => vec![task.truth()],
    }
}

/// A task under way.
struct Running {
    task: Task,
    job: String,
    /// Names its processes.
    token: String,
    run_dir: PathBuf,
}

impl Running {
    fn submit(fleet: &Fleet, task: Task) -> Self {
        let token = format!("muster-fault-{}", fleet.directory.path().display());
        let token = format!("{token}-{task:?}");
        let flags = ["--retries", task.retries(), "-m", "16m", "--cpus", "0.1"];
        let script = task.script();
        let job = fleet.submit(&flags, &["sh", "-c", &script, &token]);
        let run_dir = eventually("the task's directory", || {
            let agents = ["a1", "a2"].map(|name| fleet.directory.path().join(name));
            let places = agents.map(|agent| agent.join(format!("attempts/{job}.0-1/run")));
            places.into_iter().find(|place| place.exists())
        });
        Self {
            task,
            job,
            token,
            run_dir,
        }
    }

    fn wait_until_ready(&self) {
        eventually("the task being ready", || {
            self.run_dir.join("ready").exists().then_some(())
        });
    }

    fn tell_to_go(&self) {
        std::fs::write(self.run_dir.join("go"), "").expect("the task's directory is there");
    }

    fn wait_until_gone(&self) {
        eventually("the processes' end", || {
            let all = std::fs::read_dir("/proc").expect("this is Linux");
            let has_token = |entry: std::io::Result<std::fs::DirEntry>| {
                let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
                let text = String::from_utf8_lossy(&line).into_owned();
                // A dead process has an empty line.
                text.contains(&self.token).then_some(())
            };
            all.into_iter().find_map(has_token).is_none().then_some(())
        });
    }

    /// Its end, and that there was one attempt.
    fn check(&self, fleet: &Fleet, allowed: &[End], said: &str) {
        let name = format!("{}.0", self.job);
        let task = eventually(&format!("{said}: an end"), || {
            let task = fleet.json(&["task", "get", &name]);
            task["end"].is_object().then_some(task)
        });
        let attempts = task["attempts"].as_array().expect("a list of attempts");
        let end = &attempts[0]["end"];
        let end = (end["outcome"].as_str(), end["reason"].as_str());
        let is_allowed = allowed.iter().any(|(outcome, reason)| {
            let wanted = (Some(*outcome), Some(*reason));
            end == wanted
        });
        assert!(is_allowed, "{said}: {end:?} and not of {allowed:?}\n{task}");
        assert_eq!(attempts.len(), 1, "{said}: {task}");
    }
}

fn hurt(engine: &mut PrivateEngine, fault: Fault, going: &[&Running]) {
    match fault {
        Fault::Terminate => engine.terminate(),
        Fault::Kill => engine.kill(),
        // It must not see the ends that come now.
        Fault::Crash => engine.freeze(),
    }
    for running in going {
        // Where dockerd stopped the tasks, it comes too late.
        running.tell_to_go();
    }
    for running in going {
        running.wait_until_gone();
    }
    if fault == Fault::Crash {
        engine.crash();
    }
    engine.start_again();
}

fn every_end(live_restore: bool, faults: &[Fault]) {
    if !enabled() {
        return;
    }
    let mut engine = PrivateEngine::start(live_restore);
    let host = engine.host();
    let fleet = |whose| {
        let variables = [("DOCKER_HOST", host.as_str()), ("MUSTER_AGENT_INIT", whose)];
        Fleet::start_in(2, &[], &variables)
    };
    let fleets = [(true, fleet("muster")), (false, fleet("engine"))];
    for fault in faults {
        let submit = |fleet| TASKS.map(|task| Running::submit(fleet, task));
        let all: Vec<_> = fleets.iter().map(|(_, fleet)| submit(fleet)).collect();
        all.iter().flatten().for_each(Running::wait_until_ready);
        for ((_, fleet), running) in fleets.iter().zip(&all) {
            for running in running {
                fleet.wait_for_running(&running.job, 1);
            }
        }
        let going = all.iter().flatten().filter(|running| running.task.goes());
        hurt(&mut engine, *fault, &going.collect::<Vec<_>>());
        for ((own_init, fleet), running) in fleets.iter().zip(&all) {
            for running in running {
                let task = running.task;
                let allowed = allowed(*own_init, live_restore, *fault, task);
                let said = format!(
                    "{task:?}, {fault:?}, live-restore {live_restore}, own init {own_init}"
                );
                if allowed == [CANCELED] {
                    fleet.wait_for_running(&running.job, 1);
                    fleet.ok(&["cancel", &running.job, "-y"]);
                }
                running.check(fleet, &allowed, &said);
            }
        }
        for (_, fleet) in &fleets {
            fleet.wait_for_no_containers();
        }
    }
}

#[test]
fn ends_under_an_engine_that_takes_its_containers_along() {
    every_end(false, &[Fault::Kill, Fault::Terminate, Fault::Crash]);
}

#[test]
fn ends_under_an_engine_that_its_containers_outlive() {
    let all = [Fault::Kill, Fault::Terminate, Fault::Crash];
    // All rows take minutes; `make test` takes those in which the most can go wrong.
    every_end(true, if long() { &all } else { &all[..1] });
}
