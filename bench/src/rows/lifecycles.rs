//! Rows 1 and 2: lifecycles of tasks that do nothing, a second, beside Celery with Redis.
//!
//! Closed loops: a burst of a known size is drained, so the rate is that of the whole system.

use std::time::Instant;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{Aim, Goal, Plot, Row, Series};
use crate::comparators::{Celery, Setting};
use crate::samples::Samples;
use crate::stand::{Lap, Size, Stand, spec, submit};

pub(crate) const ARRAY: Aim = Aim {
    row: "1",
    what: "no-op tasks a second end to end, one array job, over Celery with Redis",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 30.0,
    reach: None,
};
pub(crate) const SINGLE: Aim = Aim {
    row: "2",
    what: "the same as jobs of one task from 64 clients",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 15.0,
    reach: Some(30.0),
};
pub(crate) const TAX: Aim = Aim {
    row: "3",
    what: "rate of row 1 with fsync over that without, on a disk in memory",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 0.8,
    reach: Some(0.95),
};

/// Tasks of muster's laps: seconds of work. Celery is slower, and its rate does not depend on the number.
pub(super) const TASKS: u32 = 20_000;
const SINGLE_TASKS: u32 = 10_000;
const CELERY_TASKS: u32 = 3_000;
const CLIENTS: u32 = 64;

/// Laps of both sides in turns.
struct Turns {
    laps: Vec<Lap>,
    default: Vec<f64>,
    tuned: Vec<f64>,
}

pub(crate) async fn array(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::USUAL, None).await?;
    stand.array(TASKS / 10).await?;
    let mut rivals = Rivals::start()?;
    let mut turns = Turns::new();
    for _ in 0..rounds {
        turns.laps.push(stand.array(TASKS).await?);
        rivals.lap(&mut turns)?;
    }
    stand.stop();
    Ok(turns.row(ARRAY, String::new()))
}

pub(crate) async fn single(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::USUAL, None).await?;
    let mut rivals = Rivals::start()?;
    let mut turns = Turns::new();
    let mut latency = Histogram::<u64>::new_with_max(60_000_000, 3)?;
    let mut jobs = 0;
    for _ in 0..rounds {
        turns.laps.push(single_lap(&mut stand, &mut latency).await?);
        jobs += SINGLE_TASKS;
        rivals.lap(&mut turns)?;
    }
    stand.check_jobs(jobs).await?;
    stand.stop();
    let ms = |quantile: f64| {
        let micros = u32::try_from(latency.value_at_quantile(quantile)).unwrap_or(u32::MAX);
        f64::from(micros) / 1e3
    };
    let note = format!(
        "; a submission took {:.1} ms at p50, {:.1} at p99, {:.1} at p99.9",
        ms(0.5),
        ms(0.99),
        ms(0.999)
    );
    Ok(turns.row(SINGLE, note))
}

pub(super) async fn single_lap(
    stand: &mut Stand,
    latency: &mut Histogram<u64>,
) -> anyhow::Result<Lap> {
    let mut clients = JoinSet::new();
    let (before, began) = (stand.used(), Instant::now());
    for number in 0..CLIENTS {
        let mut client = stand.another_client()?;
        let share = SINGLE_TASKS / CLIENTS + u32::from(number < SINGLE_TASKS % CLIENTS);
        clients.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..share {
                let sent = Instant::now();
                submit(&mut client, spec("none"), 0).await?;
                took.push(sent.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    while let Some(client) = clients.join_next().await {
        for took in client?? {
            latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
    stand.all_ended().await?;
    let took = began.elapsed();
    let lap = stand.lap(SINGLE_TASKS, took, before);
    stand.check_starts(SINGLE_TASKS)?;
    Ok(lap)
}

/// What the commit to a disk costs: the same coordinator on a file system in memory, where fsync does nothing.
pub(crate) async fn tax(rounds: usize) -> anyhow::Result<Row> {
    let memory = std::path::Path::new("/dev/shm");
    if !memory.is_dir() {
        return Ok(Row::missing(TAX, "SKIPPED: there is no /dev/shm".into()));
    }
    let mut durable = Stand::start(Size::USUAL, None).await?;
    let mut volatile = Stand::start(Size::USUAL, Some(memory)).await?;
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for stand in [&mut durable, &mut volatile] {
        stand.array(TASKS / 10).await?;
    }
    for _ in 0..rounds {
        with.push(durable.array(TASKS).await?.rate());
        without.push(volatile.array(TASKS).await?.rate());
    }
    durable.stop();
    volatile.stop();
    for (with, without) in with.iter().zip(&without) {
        ratios.push(with / without);
    }
    let plot = Plot {
        title: "lifecycles with and without fsync".into(),
        unit: "tasks/s",
        series: vec![
            Series::new("disk", &with),
            Series::new("in memory", &without),
        ],
    };
    let (with, without) = (Samples::new(with), Samples::new(without));
    let detail = format!(
        "{rounds} rounds: {:.0} tasks/s with fsync, {:.0} without",
        with.median(),
        without.median()
    );
    Ok(Row::measured(
        TAX,
        &Samples::new(ratios),
        detail,
        vec![plot],
    ))
}

/// Celery as it comes and at its best.
struct Rivals {
    default: Celery,
    tuned: Celery,
}

impl Rivals {
    fn start() -> anyhow::Result<Self> {
        tokio::task::block_in_place(|| {
            Ok(Self {
                default: Celery::start(Setting::Default).context("Celery, default")?,
                tuned: Celery::start(Setting::Tuned).context("Celery, tuned")?,
            })
        })
    }

    fn lap(&mut self, turns: &mut Turns) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| {
            let tasks = f64::from(CELERY_TASKS);
            turns
                .default
                .push(tasks / self.default.lap(CELERY_TASKS)?.seconds);
            turns
                .tuned
                .push(tasks / self.tuned.lap(CELERY_TASKS)?.seconds);
            Ok(())
        })
    }
}

/// Our rates over those of the faster of two ways to set a comparator up, round by round.
pub(super) fn over_the_faster(ours: &[f64], default: &[f64], tuned: &[f64]) -> Samples {
    let best = default.iter().zip(tuned);
    let best = best.map(|(default, tuned)| default.max(*tuned));
    let ratios = ours.iter().zip(best).map(|(ours, theirs)| ours / theirs);
    Samples::new(ratios.collect())
}

impl Turns {
    const fn new() -> Self {
        Self {
            laps: Vec::new(),
            default: Vec::new(),
            tuned: Vec::new(),
        }
    }

    /// Against the faster of the two ways to set Celery up, round by round.
    fn row(self, aim: Aim, note: String) -> Row {
        let rates: Vec<f64> = self.laps.iter().map(Lap::rate).collect();
        let ratios = over_the_faster(&rates, &self.default, &self.tuned);
        let plot = Plot {
            title: format!("row {}: lifecycles", aim.row),
            unit: "tasks/s",
            series: vec![
                Series::new("muster", &rates),
                Series::new("Celery, tuned", &self.tuned),
                Series::new("Celery, default", &self.default),
            ],
        };
        let (coordinator, agents): (Vec<f64>, Vec<f64>) = self.laps.iter().map(Lap::cpu).unzip();
        let (rounds, coordinator) = (rates.len(), Samples::new(coordinator));
        let profile = self.laps.last().map(Lap::profile);
        let detail = format!(
            "{rounds} rounds: muster {:.0} tasks/s, Celery {:.0} tuned and {:.0} by default (both D1); \
             CPU for each lifecycle: coordinator {:.0} us, simulated agent {:.0} us{note}",
            Samples::new(rates).median(),
            Samples::new(self.tuned).median(),
            Samples::new(self.default).median(),
            coordinator.median(),
            Samples::new(agents).median(),
        );
        let why = profile.map_or_else(String::new, |profile| {
            format!(
                "{profile}; the coordinator alone allows for {:.0} tasks/s on one",
                1e6 / coordinator.median()
            )
        });
        Row::measured(aim, &ratios, detail, vec![plot]).because(why)
    }
}
