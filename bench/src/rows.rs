//! The rows: each measures muster and docker in turns and says what it found.

use serde::Serialize;

use crate::docker::{self, Network};
use crate::fleet::Fleet;
use crate::samples::Samples;

/// Concurrency that is tried for the comparison's best.
const PARALLEL: [usize; 3] = [4, 8, 16];
/// Bursts of each side after the best concurrency is known.
const BURSTS: usize = 3;
/// Runs before the measurement, so that both sides are warm.
const WARM_UP: usize = 3;

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) row: String,
    /// What is compared, in words.
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// Median, and the worst and best of the pairs.
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// What the value is held against.
    pub(crate) bar: f64,
    pub(crate) met: bool,
    /// What a reply of muster's survives.
    pub(crate) durability: &'static str,
    /// The figures behind it.
    pub(crate) detail: String,
}

/// Both sync before they answer, or docker has nothing to lose.
const DURABLE: &str = "D2";

/// How much longer `muster run --wait` takes than `docker run` of the same image and options.
pub(crate) fn added(
    fleet: &Fleet,
    networks: &Network,
    network: &str,
    pairs: usize,
) -> anyhow::Result<Row> {
    let like = networks.like(network);
    for _ in 0..WARM_UP {
        docker::time_run(like)?;
        fleet.time_run(network)?;
    }
    let (mut plain, mut ours, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        // The order changes, so that neither side always follows the other.
        let (docker, muster) = if pair.is_multiple_of(2) {
            let docker = docker::time_run(like)?.as_secs_f64();
            (docker, fleet.time_run(network)?.as_secs_f64())
        } else {
            let muster = fleet.time_run(network)?.as_secs_f64();
            (docker::time_run(like)?.as_secs_f64(), muster)
        };
        plain.push(docker * 1e3);
        ours.push(muster * 1e3);
        added.push((muster - docker) * 1e3);
    }
    let (plain, ours, added) = (Samples::new(plain), Samples::new(ours), Samples::new(added));
    let bar = 40.0;
    Ok(Row {
        row: format!("added-{network}"),
        what: format!("muster run --wait minus docker run, --network {network}"),
        unit: "ms",
        value: added.median(),
        low: added.min(),
        high: added.max(),
        bar,
        met: added.median() <= bar,
        durability: DURABLE,
        detail: format!(
            "median of {pairs} pairs; docker run {:.0} ms, muster run --wait {:.0} ms",
            plain.median(),
            ours.median()
        ),
    })
}

/// Containers a second of an array on one agent, over those of the best `xargs -P n docker run`.
pub(crate) fn burst(
    fleet: &Fleet,
    networks: &Network,
    network: &str,
    count: usize,
) -> anyhow::Result<Row> {
    let like = networks.like(network);
    fleet.time_run(network)?;
    let mut best: Option<(usize, f64)> = None;
    for parallel in PARALLEL {
        let took = docker::time_burst(like, count, parallel)?.as_secs_f64();
        if best.is_none_or(|(_, shortest)| took < shortest) {
            best = Some((parallel, took));
        }
    }
    let (parallel, first) = best.expect("several were tried");
    let (mut plain, mut ours, mut ratios) = (vec![first], Vec::new(), Vec::new());
    for round in 0..BURSTS {
        let muster = fleet.time_burst(network, count)?.as_secs_f64();
        let docker = if round == 0 {
            first
        } else {
            docker::time_burst(like, count, parallel)?.as_secs_f64()
        };
        ours.push(muster);
        plain.push(docker);
        ratios.push(docker / muster);
    }
    let (plain, ours, ratios) = (
        Samples::new(plain),
        Samples::new(ours),
        Samples::new(ratios),
    );
    let bar = 0.9;
    Ok(Row {
        row: format!("burst-{network}"),
        what: format!(
            "containers/s, {count} at once, over xargs -P n docker run, --network {network}"
        ),
        unit: "x",
        value: ratios.median(),
        low: ratios.min(),
        high: ratios.max(),
        bar,
        met: ratios.median() >= bar,
        durability: DURABLE,
        detail: format!(
            "median of {BURSTS}; docker best at -P {parallel}: {:.1} s, muster {:.1} s",
            plain.median(),
            ours.median()
        ),
    })
}

/// Resident memory of an idle coordinator and an idle agent together.
pub(crate) fn idle(fleet: &Fleet) -> anyhow::Result<Row> {
    let resident = fleet.resident()?;
    let mebibytes = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0;
    let parts: Vec<f64> = resident.into_iter().map(mebibytes).collect();
    let sum: f64 = parts.iter().sum();
    let bar = 60.0;
    Ok(Row {
        row: "idle".to_owned(),
        what: "resident memory, coordinator and one agent, idle".to_owned(),
        unit: "MiB",
        value: sum,
        low: sum,
        high: sum,
        bar,
        met: sum < bar,
        durability: DURABLE,
        detail: format!("coordinator {:.1} MiB, agent {:.1} MiB", parts[0], parts[1]),
    })
}
