//! Rows about long queues and long histories: what they cost in memory, processor time and time to recover.

use std::time::Instant;

use anyhow::Context as _;

use super::{Aim, Goal, Plot, Row, Series, mebibytes};
use crate::agents::Agents;
use crate::history;
use crate::profile::each_task;
use crate::samples::Samples;
use crate::stand::{Lap, Size, Stand, spec, submit, until};

pub(crate) const ARRAY_MEMORY: Aim = Aim {
    row: "9-array",
    what: "resident memory of the coordinator for an array of 1,000,000 queued tasks, over that for one task",
    unit: "MiB more",
    goal: Goal::AtMost,
    bar: 1.0,
    reach: Some(0.0625),
};
pub(crate) const JOB_MEMORY: Aim = Aim {
    row: "9-jobs",
    what: "resident memory of the coordinator for each queued job of one task",
    unit: "B",
    goal: Goal::AtMost,
    bar: 400.0,
    reach: Some(96.0),
};
pub(crate) const BACKLOG: Aim = Aim {
    row: "10",
    what: "the coordinator's processor time for each dispatched task, with a long queue of jobs over 1,000",
    unit: "x",
    goal: Goal::AtMost,
    bar: 1.25,
    reach: Some(1.1),
};
pub(crate) const RECOVERY: Aim = Aim {
    row: "12",
    what: "kill -9 of the coordinator with 100,000 jobs queued, until the next task starts",
    unit: "s",
    goal: Goal::AtMost,
    bar: 3.0,
    reach: Some(1.0),
};
pub(crate) const HISTORY_RATE: Aim = Aim {
    row: "14-rate",
    what: "rate of row 1 beside a history of finished jobs, over that without one",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 0.95,
    reach: Some(1.0),
};
pub(crate) const HISTORY_PAGE: Aim = Aim {
    row: "14-page",
    what: "p99 of the first page of the list of all jobs, beside that history",
    unit: "ms",
    goal: Goal::AtMost,
    bar: 50.0,
    reach: None,
};

const MILLION: u32 = 1_000_000;
/// Tasks of a lap.
const TASKS: u32 = 10_000;
const QUEUED_AT_THE_KILL: u32 = 100_000;
/// Jobs in one request: of the bounds that muster has, that of a message is the nearest.
const REQUEST: u32 = 2_000;
/// Looks at the first page.
const LOOKS: usize = 200;

/// Rows 9-array and 9-jobs.
pub(crate) async fn memory(jobs: u32) -> anyhow::Result<Vec<Row>> {
    let mut stand = Stand::start(Size::NONE, None).await?;
    submit(&mut stand.jobs(), spec("none"), 1).await?;
    let one = stand.coordinator().resident();
    submit(&mut stand.jobs(), spec("none"), MILLION).await?;
    let array = stand.coordinator().resident();
    let began = Instant::now();
    // A first part fills what is allocated once.
    stand.submit_jobs(jobs / 10, REQUEST).await?;
    let before = stand.coordinator().resident();
    stand.submit_jobs(jobs, REQUEST).await?;
    let after = stand.coordinator().resident();
    let rate = f64::from(jobs + jobs / 10) / began.elapsed().as_secs_f64();
    stand.stop();
    let more = mebibytes(array) - mebibytes(one);
    let each = (mebibytes(after) - mebibytes(before)) * f64::from(1 << 20) / f64::from(jobs);
    let resident = format!("resident with one task: {:.1} MiB", mebibytes(one));
    let queue = format!(
        "{jobs} jobs of one task: {:.1} MiB, submitted at {rate:.0} a second",
        mebibytes(after) - mebibytes(before)
    );
    Ok(vec![
        Row::measured(
            ARRAY_MEMORY,
            &Samples::new(vec![more]),
            resident,
            Vec::new(),
        ),
        Row::measured(JOB_MEMORY, &Samples::new(vec![each]), queue, Vec::new()),
    ])
}

/// An array that goes before everything else, while a queue of jobs of the same class waits behind it.
pub(crate) async fn backlog(rounds: usize, jobs: u32) -> anyhow::Result<Row> {
    let mut plain = Stand::start(Size::USUAL, None).await?;
    let mut full = Stand::start(Size::USUAL, None).await?;
    for stand in [&mut plain, &mut full] {
        stand.array(TASKS / 10).await?;
    }
    full.cordon().await?;
    full.submit_jobs(jobs, REQUEST).await?;
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.submit_jobs(1_000, 1_000).await?;
        short.push(urgent(&mut plain).await?);
        plain.all_ended().await?;
        // Nothing of the queue starts while the other side has its turn.
        full.uncordon().await?;
        long.push(urgent(&mut full).await?);
        full.cordon().await?;
    }
    let ours = TASKS / 10 + TASKS * u32::try_from(rounds)?;
    let gone = u32::try_from(full.starts()?.total)?.saturating_sub(ours);
    plain.stop();
    full.stop();
    let why = each_task(
        ("with the long queue", &long),
        ("with the short one", &short),
    );
    let cpu = |laps: &[Lap]| -> Vec<f64> { laps.iter().map(|lap| lap.cpu().0).collect() };
    let (short, long) = (cpu(&short), cpu(&long));
    let plot = Plot {
        title: "row 10: the coordinator's processor time for each task".into(),
        unit: "us",
        series: vec![
            Series::new("1,000 queued", &short),
            Series::new("a long queue", &long),
        ],
    };
    let base = Samples::new(short).median();
    let ratios = Samples::new(long.iter().map(|long| long / base).collect());
    let detail = format!(
        "{rounds} arrays of {TASKS}: {base:.0} us with 1,000 jobs queued behind, {:.0} us with {}",
        Samples::new(long).median(),
        jobs.saturating_sub(gone)
    );
    Ok(Row::measured(BACKLOG, &ratios, detail, vec![plot]).because(why))
}

/// An array before all others, until its last task has ended.
async fn urgent(stand: &mut Stand) -> anyhow::Result<Lap> {
    let first = muster_proto::v1::JobSpec {
        priority: 10,
        name: "urgent".into(),
        ..spec("none")
    };
    stand.array_of(first, TASKS).await
}

/// From the kill to a start that only the next coordinator can have ordered.
pub(crate) async fn recovery(rounds: usize) -> anyhow::Result<Row> {
    // Few places: what was offered before the kill starts whatever becomes of the coordinator.
    let size = Size {
        agents: 4,
        places: 4,
    };
    let mut stand = Stand::start(Size::NONE, None).await?;
    stand.submit_jobs(QUEUED_AT_THE_KILL, REQUEST).await?;
    stand.add_agents(size).await?;
    let (mut next, mut serving) = (Vec::new(), Vec::new());
    let offered = usize::try_from(size.places)? * size.agents;
    for _ in 0..rounds {
        let short = QUEUED_AT_THE_KILL.saturating_sub(stand.left()?);
        stand.submit_jobs(short, REQUEST).await?;
        stand.fleet.coordinator().kill();
        let began = Instant::now();
        let before = stand.starts()?.total;
        stand.fleet.launch_coordinator(&[]);
        let answered = tokio::task::block_in_place(|| {
            stand.fleet.wait_for_coordinator();
            began.elapsed()
        });
        let (mut agents, enough) = (stand.agents.take(), before + offered);
        until("another start", || {
            let starts = agents
                .as_mut()
                .map_or_else(|| anyhow::bail!("no agents"), Agents::starts);
            std::future::ready(starts.map(|starts| (starts.total > enough).then_some(())))
        })
        .await?;
        stand.agents = agents;
        next.push(began.elapsed().as_secs_f64());
        serving.push(answered.as_secs_f64());
        stand.reconnect()?;
    }
    let twice = stand.starts()?.twice;
    anyhow::ensure!(twice == 0, "{twice} containers were started twice");
    stand.stop();
    let plot = Plot {
        title: "row 12: after kill -9".into(),
        unit: "s",
        series: vec![
            Series::new("serving", &serving),
            Series::new("next task", &next),
        ],
    };
    let detail = format!(
        "{rounds} kills: the next coordinator served after {:.2} s (median)",
        Samples::new(serving).median()
    );
    Ok(Row::measured(
        RECOVERY,
        &Samples::new(next),
        detail,
        vec![plot],
    ))
}

/// Rows 14-rate and 14-page.
pub(crate) async fn history(rounds: usize, jobs: u32) -> anyhow::Result<Vec<Row>> {
    let mut plain = Stand::start(Size::USUAL, None).await?;
    let mut old = Stand::start(Size::NONE, None).await?;
    old.fleet.coordinator().terminate();
    let data = old.fleet.directory.path().join("coordinator");
    history::write(&data, jobs).await.context("the history")?;
    tokio::task::block_in_place(|| old.fleet.start_coordinator());
    old.reconnect()?;
    old.add_agents(Size::USUAL).await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for stand in [&mut plain, &mut old] {
        stand.array(TASKS / 10).await?;
    }
    for round in 0..rounds {
        if round.is_multiple_of(2) {
            without.push(plain.array(TASKS).await?);
            with.push(old.array(TASKS).await?);
        } else {
            with.push(old.array(TASKS).await?);
            without.push(plain.array(TASKS).await?);
        }
    }
    let why = each_task(("beside the history", &with), ("without it", &without));
    let [with, without] =
        [with, without].map(|laps| laps.iter().map(Lap::rate).collect::<Vec<_>>());
    let mut pages = Vec::new();
    for _ in 0..LOOKS {
        let began = Instant::now();
        let seen = old.first_page().await?;
        pages.push(began.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(seen > 0, "the first page is empty");
    }
    plain.stop();
    old.stop();
    let ratios = with
        .iter()
        .zip(&without)
        .map(|(with, without)| with / without);
    let ratios = Samples::new(ratios.collect());
    let plot = Plot {
        title: "row 14: lifecycles with and without a history".into(),
        unit: "tasks/s",
        series: vec![Series::new("with", &with), Series::new("without", &without)],
    };
    let pages = Samples::new(pages);
    let rate = format!(
        "{rounds} rounds beside {jobs} finished jobs: {:.0} tasks/s with, {:.0} without",
        Samples::new(with).median(),
        Samples::new(without).median()
    );
    let page = format!("{LOOKS} looks: {:.2} ms at p50", pages.median());
    let p99 = Samples::new(vec![pages.all()[pages.all().len() * 99 / 100]]);
    Ok(vec![
        Row::measured(HISTORY_RATE, &ratios, rate, vec![plot]).because(why),
        Row::measured(HISTORY_PAGE, &p99, page, Vec::new()),
    ])
}
