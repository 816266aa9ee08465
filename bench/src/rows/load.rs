//! Open loops: jobs come when they come, whether or not the ones before are done, and what counts is the time since
//! each was meant to come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::random::Rng;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use super::lifecycles::single_lap;
use super::{Aim, Goal, Plot, Row, Series};
use crate::agents::{Agents, Creation};
use crate::probes;
use crate::samples::Samples;
use crate::stand::{Size, Stand, spec, submit};

pub(crate) const LATENCY: Aim = Aim {
    row: "4",
    what: "submit until the agent asks for the container, p99 at half of the maximum rate, over fsync p99 + 2 gRPC \
           calls p99",
    unit: "x",
    goal: Goal::AtMost,
    bar: 4.0,
    reach: Some(2.0),
};
pub(crate) const OVERLOAD: Aim = Aim {
    row: "8",
    what: "tasks a second while four times as many are submitted as can be done, over the most",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 0.95,
    reach: Some(0.98),
};

const CLIENTS: usize = 64;
/// Of a window at half of the maximum.
const WINDOW: Duration = Duration::from_secs(8);
/// Of an overload. What it leaves behind takes three times as long.
const OVERLOADED: Duration = Duration::from_secs(6);
/// Before the rate counts.
const RAMP: Duration = Duration::from_secs(1);
/// More rounds than this would take too long.
const ROUNDS: usize = 3;
/// Jobs that are due and not sent; if more are, the generator is late.
const DUE: usize = 4_096;
/// Microseconds: a minute.
const LONGEST: u64 = 60_000_000;

/// What one window brought.
struct Window {
    /// When each job was meant to come, in microseconds since the Unix epoch.
    meant: BTreeMap<String, u64>,
    /// Jobs that the coordinator turned away because too many waited.
    refused: u32,
    /// How late the generator was, in microseconds.
    late: Histogram<u64>,
}

pub(crate) async fn latency(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::USUAL, None).await?;
    let mut ignored = histogram()?;
    single_lap(&mut stand, &mut ignored).await?;
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all, mut late) = (histogram()?, histogram()?);
    let (mut rate, mut profile) = (0.0, None);
    for round in 0..rounds.min(ROUNDS) {
        rate = single_lap(&mut stand, &mut ignored).await?.rate() / 2.0;
        let before = probes::measure(false).await?;
        stand.creations()?;
        let used = stand.used();
        let window = run(&stand, rate, WINDOW, u64::try_from(round)?).await?;
        profile = Some(stand.used().since(used).over(WINDOW));
        stand.all_ended().await?;
        stand.check_starts(u32::try_from(window.meant.len())?)?;
        anyhow::ensure!(window.refused == 0, "{} jobs refused", window.refused);
        let seen = waits(&mut stand, &window.meant)?;
        let after = probes::measure(false).await?;
        let least = f64::midpoint(floor(&before), floor(&after));
        let p99 = millis(seen.value_at_quantile(0.99));
        ratios.push(p99 / least);
        ours.push(p99);
        theirs.push(least);
        all.add(seen)?;
        late.add(window.late)?;
    }
    stand.stop();
    let plot = Plot {
        title: "row 4: from submit to the engine, p99".into(),
        unit: "ms",
        series: vec![
            Series::new("muster", &ours),
            Series::new("fsync + 2 calls", &theirs),
        ],
    };
    let at = |quantile| millis(all.value_at_quantile(quantile));
    let detail = format!(
        "{} tasks, {rate:.0} a second: {:.2} ms at p50, {:.2} at p90, {:.2} at p99, {:.2} at p99.9, {:.0} at most; \
         fsync p99 + 2 gRPC calls p99: {:.2} ms; the generator was late by {:.2} ms at p99",
        all.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        Samples::new(theirs).median(),
        millis(late.value_at_quantile(0.99)),
    );
    let why = profile.map_or_else(String::new, |profile| {
        format!("{profile}; each of an attempt's steps on the way is another thread's turn")
    });
    let row = Row::measured(LATENCY, &Samples::new(ratios), detail, vec![plot]);
    Ok(row.because(why))
}

pub(crate) async fn overload(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::USUAL, None).await?;
    let mut ignored = histogram()?;
    single_lap(&mut stand, &mut ignored).await?;
    let (mut ratios, mut most, mut goodput) = (Vec::new(), Vec::new(), Vec::new());
    let mut late = histogram()?;
    let (mut taken, mut refused, mut profile) = (0, 0, None);
    for round in 0..rounds.min(ROUNDS) {
        let peak = single_lap(&mut stand, &mut ignored).await?.rate();
        let used = stand.used();
        let agents = stand.agents.take().context("the stand has agents")?;
        let watching = tokio::task::spawn_blocking(move || started_meanwhile(agents));
        let window = run(&stand, peak * 4.0, OVERLOADED, u64::try_from(round)?).await?;
        let (agents, done) = watching.await??;
        stand.agents = Some(agents);
        profile = Some(stand.used().since(used).over(OVERLOADED));
        stand.all_ended().await?;
        stand.check_starts(u32::try_from(window.meant.len())?)?;
        taken += window.meant.len();
        refused += window.refused;
        ratios.push(done / peak);
        most.push(peak);
        goodput.push(done);
        late.add(window.late)?;
    }
    stand.stop();
    let plot = Plot {
        title: "row 8: tasks a second".into(),
        unit: "tasks/s",
        series: vec![
            Series::new("at most", &most),
            Series::new("at 4 x overload", &goodput),
        ],
    };
    let rounds = most.len();
    let detail = format!(
        "{rounds} rounds of {} s: {:.0} tasks/s at most, {:.0} under overload, load and agents on the same \
         machine; {taken} jobs taken, {refused} turned away; the generator was late by {:.1} ms at p99",
        OVERLOADED.as_secs(),
        Samples::new(most).median(),
        Samples::new(goodput).median(),
        millis(late.value_at_quantile(0.99)),
    );
    let why = profile.map_or_else(String::new, |profile| {
        format!("{profile}: what the load and turning it away take is missing to the tasks")
    });
    let row = Row::measured(OVERLOAD, &Samples::new(ratios), detail, vec![plot]);
    Ok(row.because(why))
}

/// Tasks a second that the engines start from the end of the ramp to the end of the window.
fn started_meanwhile(mut agents: Agents) -> anyhow::Result<(Agents, f64)> {
    std::thread::sleep(RAMP);
    let (before, began) = (agents.starts()?.total, Instant::now());
    std::thread::sleep(OVERLOADED - RAMP);
    let started = u32::try_from(agents.starts()?.total - before)?;
    Ok((agents, f64::from(started) / began.elapsed().as_secs_f64()))
}

/// Submits jobs of one task at random moments, `rate` a second, and returns when each is answered.
async fn run(stand: &Stand, rate: f64, lasts: Duration, seed: u64) -> anyhow::Result<Window> {
    let clients: Result<Vec<_>, _> = (0..CLIENTS).map(|_| stand.another_client()).collect();
    let (clients, plan) = (clients?, plan(rate, lasts, seed));
    let began = (Instant::now(), SystemTime::now());
    let (sender, mut due) = tokio::sync::mpsc::channel(DUE);
    // A thread of its own: the runtime's timers are no finer than a millisecond.
    let pacing = std::thread::spawn(move || {
        for meant in plan {
            std::thread::sleep(meant.saturating_sub(began.0.elapsed()));
            if sender.blocking_send(meant).is_err() {
                return;
            }
        }
    });
    let (mut calls, mut late) = (JoinSet::new(), histogram()?);
    let (mut meant_at, mut refused) = (BTreeMap::new(), 0);
    let mut next = clients.iter().cycle();
    while let Some(meant) = due.recv().await {
        let client: JobServiceClient<Channel> = next.next().context("there are clients")?.clone();
        late.saturating_record(micros(began.0.elapsed().saturating_sub(meant)));
        calls.spawn(async move {
            let mut client = client;
            let answer = submit(&mut client, spec("none"), 0).await;
            (answer, meant)
        });
        while let Some(answered) = calls.try_join_next() {
            refused += note(&mut meant_at, answered?, began.1)?;
        }
    }
    while let Some(answered) = calls.join_next().await {
        refused += note(&mut meant_at, answered?, began.1)?;
    }
    pacing
        .join()
        .map_err(|_| anyhow::anyhow!("the pacing thread panicked"))?;
    Ok(Window {
        meant: meant_at,
        refused,
        late,
    })
}

/// Moments of a Poisson process, since the begin.
fn plan(rate: f64, lasts: Duration, seed: u64) -> Vec<Duration> {
    let mut random = Rng::new(seed, "arrivals");
    let mut moments = Vec::new();
    let mut at = 0.0;
    loop {
        let share =
            f64::from(u32::try_from(random.below(1 << 30)).unwrap_or(0) + 1) / f64::from(1 << 30);
        at -= share.ln() / rate;
        if at >= lasts.as_secs_f64() {
            return moments;
        }
        moments.push(Duration::from_secs_f64(at));
    }
}

/// Takes an answer down. How many jobs it turns away: one or none.
fn note(
    meant_at: &mut BTreeMap<String, u64>,
    (answer, meant): (anyhow::Result<String>, Duration),
    began: SystemTime,
) -> anyhow::Result<u32> {
    let id = match answer {
        Ok(id) => id,
        Err(error) => match error.downcast_ref::<tonic::Status>() {
            Some(status) if status.code() == Code::ResourceExhausted => return Ok(1),
            Some(_) | None => return Err(error),
        },
    };
    let at = (began + meant).duration_since(UNIX_EPOCH)?;
    meant_at.insert(id, micros(at));
    Ok(0)
}

/// How long each job waited for its agent, in microseconds.
fn waits(stand: &mut Stand, meant: &BTreeMap<String, u64>) -> anyhow::Result<Histogram<u64>> {
    let mut waits = histogram()?;
    for Creation { container, at } in stand.creations()? {
        // mu-CLUSTER-JOB.0-1
        let job = container
            .rsplit_once('.')
            .and_then(|(front, _)| front.rsplit_once('-'));
        let (_, job) = job.with_context(|| format!("container {container} names no job"))?;
        if let Some(meant) = meant.get(job) {
            waits.saturating_record(at.saturating_sub(*meant));
        }
    }
    let expected = u64::try_from(meant.len())?;
    anyhow::ensure!(
        waits.len() == expected,
        "{} of {expected} jobs reached an engine",
        waits.len()
    );
    Ok(waits)
}

/// What no durable system can go below, in milliseconds.
fn floor(probes: &probes::Probes) -> f64 {
    (probes.fsync.p99 + 2.0 * probes.grpc.p99) * 1e3
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LONGEST, 3)?)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn millis(micros: u64) -> f64 {
    f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1e3
}
