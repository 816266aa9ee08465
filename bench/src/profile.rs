//! Who used the processors over a stretch of time, and whose threads waited for one: why a row is no better.

use std::fmt;
use std::time::Duration;

use muster_tests::gauge::{Process, host_cpu};

use crate::stand::Lap;

/// Threads of the coordinator that have a name of their own. Those of the driver and of what is served have not.
const STORE: &str = "store";
const LOGS: &str = "logs";

/// What a process has taken so far, or over a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor time.
    pub(crate) busy: Duration,
    /// Of all its threads together, while they could have run.
    pub(crate) waited: Duration,
}

impl Used {
    fn by(process: Process) -> Self {
        Self {
            busy: process.cpu(),
            waited: process.waited(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(before.busy),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// The three sides of a row with load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sides {
    pub(crate) coordinator: Used,
    pub(crate) agents: Used,
    pub(crate) load: Used,
    /// Processor time of the coordinator's store and of its log store.
    store: Duration,
    logs: Duration,
    /// Of the whole host.
    host: Duration,
}

impl Sides {
    /// So far. `None`: there are no agents.
    pub(crate) fn by(coordinator: Process, agents: Option<Process>) -> Self {
        Self {
            coordinator: Used::by(coordinator),
            agents: agents.map(Used::by).unwrap_or_default(),
            load: Used::by(Process::own()),
            store: coordinator.thread_cpu(STORE),
            logs: coordinator.thread_cpu(LOGS),
            host: host_cpu(),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            coordinator: self.coordinator.since(before.coordinator),
            agents: self.agents.since(before.agents),
            load: self.load.since(before.load),
            store: self.store.saturating_sub(before.store),
            logs: self.logs.saturating_sub(before.logs),
            host: self.host.saturating_sub(before.host),
        }
    }

    pub(crate) fn over(self, span: Duration) -> Profile {
        Profile { sides: self, span }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    sides: Sides,
    span: Duration,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: Duration| part.as_secs_f64() / self.span.as_secs_f64();
        let processors = processors();
        let Sides {
            coordinator,
            agents,
            load,
            ..
        } = self.sides;
        write!(f, "of {processors} processors")?;
        let sides = [
            ("the coordinator", coordinator),
            ("the agents", agents),
            ("the load", load),
        ];
        for (name, Used { busy, waited }) in sides {
            let (busy, waited) = (share(busy), share(waited));
            write!(f, ", {name} used {busy:.2} and waited for {waited:.2}")?;
        }
        Ok(())
    }
}

/// What a task took of the processors in `these` laps and in `those`, each with a name: where one kind is slower.
pub(crate) fn each_task(these: (&str, &[Lap]), those: (&str, &[Lap])) -> String {
    let [these, those] = [these, those].map(|(name, laps)| (name, Mean::of(laps)));
    let (name, mean) = those;
    format!("a task took {} {}; {name} {mean}", these.1, these.0)
}

/// Microseconds of processor time for each task, and how busy the host was.
struct Mean {
    store: f64,
    logs: f64,
    rest: f64,
    agents: f64,
    others: f64,
    busy: f64,
}

impl Mean {
    fn of(laps: &[Lap]) -> Self {
        let tasks: f64 = laps.iter().map(|lap| f64::from(lap.tasks)).sum();
        let sum = |part: fn(Sides) -> Duration| -> f64 {
            laps.iter().map(|lap| part(lap.used).as_secs_f64()).sum()
        };
        let each = |part| sum(part) * 1e6 / tasks;
        let [coordinator, store, logs, agents, host] = [
            each(|sides| sides.coordinator.busy),
            each(|sides| sides.store),
            each(|sides| sides.logs),
            each(|sides| sides.agents.busy),
            each(|sides| sides.host),
        ];
        let span: f64 = laps.iter().map(|lap| lap.took.as_secs_f64()).sum();
        Self {
            store,
            logs,
            rest: coordinator - store - logs,
            agents,
            others: host - coordinator - agents,
            busy: sum(|sides| sides.host) / span,
        }
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            store,
            logs,
            rest,
            agents,
            others,
            busy,
        } = self;
        let coordinator = store + logs + rest;
        write!(
            f,
            "{coordinator:.0} us of the coordinator (store {store:.0}, logs {logs:.0}, the rest {rest:.0}), \
             {agents:.0} of the agents and {others:.0} of others, with {busy:.2} of {} processors busy",
            processors()
        )
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
