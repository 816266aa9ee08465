//! Who used the processors over a stretch of time, and whose threads waited for one: why a row is no better.

use std::fmt;
use std::time::Duration;

use muster_tests::gauge::Process;

/// What a process has taken so far, or over a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor time.
    pub(crate) busy: Duration,
    /// Of all its threads together, while they could have run.
    pub(crate) waited: Duration,
}

impl Used {
    pub(crate) fn by(process: Process) -> Self {
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
}

impl Sides {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            coordinator: self.coordinator.since(before.coordinator),
            agents: self.agents.since(before.agents),
            load: self.load.since(before.load),
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
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let Sides {
            coordinator,
            agents,
            load,
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
