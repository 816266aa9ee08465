//! How attempts of a new image did, against what attempts of the same job name did before.

use std::collections::{BTreeMap, VecDeque};

use super::policy::Gates;
use crate::ids::JobName;
use crate::outcome::{End, EndReason, Outcome};
use crate::time::Millis;

/// Attempts of one job name that are remembered.
pub const REMEMBERED: usize = 50;
/// Fewer runs than this, on either side, have no percentile.
pub const RUNS_MIN: usize = 5;
/// Names of jobs that one rollout keeps figures of; attempts of others are not judged.
const NAMES_MAX: usize = 1_000;
/// Runs of one name that a rollout keeps, oldest out first.
const RUNS_MAX: usize = 200;
/// Below these differences time and memory are noise, whatever the ratio.
const DURATION_NOISE: Millis = Millis::from_secs(5);
const MEMORY_NOISE: u64 = 16 << 20;

/// What an attempt's end says about its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Good,
    Bad,
    /// It was the host, the registry or a person.
    Nothing,
}

/// What the end says about the image.
#[must_use]
pub const fn judge(end: &End) -> Judgement {
    match end.outcome {
        Outcome::Succeeded => Judgement::Good,
        Outcome::Failed | Outcome::Oom => Judgement::Bad,
        // It never had the image.
        Outcome::Timeout | Outcome::ImageError
            if matches!(end.reason, EndReason::QueueTimeout | EndReason::PullFailed) =>
        {
            Judgement::Nothing
        }
        Outcome::Timeout | Outcome::ImageError => Judgement::Bad,
        Outcome::Canceled | Outcome::Lost | Outcome::Preempted | Outcome::InfraError => {
            Judgement::Nothing
        }
    }
}

/// An attempt that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    pub good: bool,
    /// Of the container; zero if it never ran.
    pub run: Millis,
    pub peak_memory: Option<u64>,
}

/// The last attempts of a job name, whatever released image they ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory(VecDeque<Ran>);

impl Memory {
    pub fn add(&mut self, ran: Ran) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(ran);
    }

    #[must_use]
    pub fn past(&self) -> Past {
        let good = || self.0.iter().filter(|ran| ran.good);
        let attempts = u32::try_from(self.0.len()).expect("at most REMEMBERED");
        let succeeded = u32::try_from(good().count()).expect("at most REMEMBERED");
        Past {
            attempts,
            failed: attempts - succeeded,
            run: percentile_95(good().map(|ran| ran.run.0)).map(Millis),
            peak_memory: percentile_95(good().filter_map(|ran| ran.peak_memory)),
        }
    }
}

/// What is held against a rollout's attempts of one job name; taken once, before the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    pub attempts: u32,
    pub failed: u32,
    /// 95th percentile of those that succeeded; `None`: too few.
    pub run: Option<Millis>,
    pub peak_memory: Option<u64>,
}

/// Attempts of the new image, by job name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Attempts that were made as canaries.
    pub made: u32,
    /// Failures that were run again at nobody's cost.
    pub forgiven: u32,
    pub names: BTreeMap<JobName, NameTally>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTally {
    pub past: Past,
    pub good: u32,
    pub bad: u32,
    /// The newest, at most 200.
    pub runs: VecDeque<Ran>,
}

impl Tally {
    /// Opens the account of a name, with what its attempts did before.
    pub fn expect(&mut self, name: &JobName, past: impl FnOnce() -> Past) {
        if self.names.contains_key(name) || self.names.len() >= NAMES_MAX {
            return;
        }
        let tally = NameTally {
            past: past(),
            good: 0,
            bad: 0,
            runs: VecDeque::new(),
        };
        self.names.insert(name.clone(), tally);
    }

    pub fn add(&mut self, name: &JobName, ran: Ran) {
        let Some(tally) = self.names.get_mut(name) else {
            return;
        };
        *if ran.good {
            &mut tally.good
        } else {
            &mut tally.bad
        } += 1;
        if tally.runs.len() == RUNS_MAX {
            tally.runs.pop_front();
        }
        tally.runs.push_back(ran);
    }

    #[must_use]
    pub fn judged(&self) -> u32 {
        self.names
            .values()
            .map(|tally| tally.good + tally.bad)
            .sum()
    }

    /// How long an attempt of that name may run before it counts as failed; `None`: not known.
    #[must_use]
    pub fn run_limit(&self, name: &JobName, gates: &Gates) -> Option<Millis> {
        let past = self.names.get(name)?.past.run?;
        let percent = u64::from(gates.duration_percent?);
        Some(duration_limit(past, percent))
    }
}

fn duration_limit(past: Millis, percent: u64) -> Millis {
    let ratio = past.0.saturating_mul(percent) / 100;
    Millis(ratio.max(past.0 + DURATION_NOISE.0))
}

fn memory_limit(past: u64, percent: u64) -> u64 {
    let ratio = past.saturating_mul(percent) / 100;
    ratio.max(past + MEMORY_NOISE)
}

/// How one gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub gate: Gate,
    /// `None`: all names together.
    pub name: Option<JobName>,
    pub value: u64,
    pub before: u64,
    pub limit: u64,
    pub broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// In thousandths of the attempts.
    Failures,
    /// 95th percentile of the run time, in milliseconds.
    Duration,
    /// 95th percentile of the peak memory, in bytes.
    Memory,
}

impl Gate {
    pub const ALL: [Self; 3] = [Self::Failures, Self::Duration, Self::Memory];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Duration => "duration",
            Self::Memory => "memory",
        }
    }
}

/// All gates that can be read. `overdue` are attempts that still run and are over the limit of their
/// name: they count as failed.
#[must_use]
pub fn read(tally: &Tally, gates: &Gates, overdue: &BTreeMap<JobName, u32>) -> Vec<Reading> {
    let mut readings = vec![read_failures(tally, gates, overdue)];
    for (name, of_name) in &tally.names {
        readings.extend(read_duration(name, of_name, gates));
        readings.extend(read_memory(name, of_name, gates));
    }
    readings
}

/// The rate over all names, against the rate that they would have together if each failed as often
/// as before.
fn read_failures(tally: &Tally, gates: &Gates, overdue: &BTreeMap<JobName, u32>) -> Reading {
    let (mut bad, mut all, mut expected) = (0, 0, 0);
    for (name, of_name) in &tally.names {
        let late = overdue.get(name).copied().unwrap_or(0);
        let judged = u64::from(of_name.good + of_name.bad + late);
        bad += u64::from(of_name.bad + late);
        all += judged;
        let Past {
            attempts, failed, ..
        } = of_name.past;
        expected += judged * 1000 * u64::from(failed) / u64::from(attempts.max(1));
    }
    let rate = bad * 1000 / all.max(1);
    let before = expected / all.max(1);
    let limit = (before + u64::from(gates.failure_points) * 10).min(1000);
    // Of what always failed nothing can be learned.
    let broken = bad >= u64::from(gates.failures.max(1)) && rate > limit;
    Reading {
        gate: Gate::Failures,
        name: None,
        value: rate,
        before,
        limit,
        broken,
    }
}

fn read_duration(name: &JobName, tally: &NameTally, gates: &Gates) -> Option<Reading> {
    let good = tally.runs.iter().filter(|ran| ran.good);
    let value = percentile_95(good.map(|ran| ran.run.0))?;
    let before = tally.past.run?;
    let limit = duration_limit(before, u64::from(gates.duration_percent?)).0;
    Some(Reading {
        gate: Gate::Duration,
        name: Some(name.clone()),
        value,
        before: before.0,
        limit,
        broken: value > limit,
    })
}

fn read_memory(name: &JobName, tally: &NameTally, gates: &Gates) -> Option<Reading> {
    let good = tally.runs.iter().filter(|ran| ran.good);
    let value = percentile_95(good.filter_map(|ran| ran.peak_memory))?;
    let before = tally.past.peak_memory?;
    let limit = memory_limit(before, u64::from(gates.memory_percent?));
    Some(Reading {
        gate: Gate::Memory,
        name: Some(name.clone()),
        value,
        before,
        limit,
        broken: value > limit,
    })
}

/// By nearest rank; `None` of fewer than `RUNS_MIN`.
fn percentile_95(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    if values.len() < RUNS_MIN {
        return None;
    }
    values.sort_unstable();
    let rank = (values.len() * 95).div_ceil(100);
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests;
