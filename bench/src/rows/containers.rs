//! Rows about real containers: muster and docker in turns, with equal options.

use std::time::Duration;

use anyhow::ensure;
use muster_tests::gauge::host_cpu;

use super::{Aim, Goal, Plot, Row, Series, mebibytes};
use crate::docker::{self, Network};
use crate::fleet::Fleet;
use crate::samples::Samples;

/// Concurrency that is tried for the comparison's best.
const PARALLEL: [usize; 3] = [4, 8, 16];
/// Bursts of each side after the best concurrency is known.
const BURSTS: usize = 3;
/// Runs before the measurement, so that both sides are warm.
const WARM_UP: usize = 3;

pub(crate) const COLD: Aim = Aim {
    row: "5",
    what: "muster run --wait over docker run, whole commands, a bridge of one's own",
    unit: "x",
    goal: Goal::AtMost,
    bar: 0.7,
    reach: Some(0.5),
};
pub(crate) const COLD_NONE: Aim = Aim {
    row: "cold-none",
    what: "the same without a network",
    ..COLD
};
pub(crate) const WARM: Aim = Aim {
    row: "6",
    what: "muster run until the task begins in a warm container, over docker run, a bridge of one's own",
    unit: "x",
    goal: Goal::AtMost,
    bar: 0.15,
    reach: Some(0.05),
};
pub(crate) const BURST: Aim = Aim {
    row: "7",
    what: "containers a second, a burst on one host, over the best xargs -P n docker run, a bridge of one's own",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 2.0,
    reach: Some(3.0),
};
pub(crate) const BURST_NONE: Aim = Aim {
    row: "burst-none",
    what: "the same without a network",
    ..BURST
};
pub(crate) const IDLE: Aim = Aim {
    row: "idle",
    what: "resident memory of a coordinator and one agent, idle",
    unit: "MiB",
    goal: Goal::AtMost,
    bar: 60.0,
    reach: None,
};

/// How long `muster run --wait` takes, over `docker run` of the same image and options.
pub(crate) fn cold(
    aim: Aim,
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
    let (mut plain, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
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
        ratios.push(muster / docker);
    }
    let plots = vec![Plot {
        title: format!("row {}: one container", aim.row),
        unit: "ms",
        series: vec![
            Series::new("muster run --wait", &ours),
            Series::new("docker run", &plain),
        ],
    }];
    let (plain, ours) = (Samples::new(plain), Samples::new(ours));
    let detail = format!(
        "{pairs} pairs: docker run {:.0} ms, muster run --wait {:.0} ms",
        plain.median(),
        ours.median()
    );
    Ok(Row::measured(aim, &Samples::new(ratios), detail, plots))
}

/// Containers a second of an array on one agent, over those of the best `xargs -P n docker run`.
pub(crate) fn burst(
    aim: Aim,
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
    let (parallel, _) = best.expect("several were tried");
    let (mut plain, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut by_docker, mut by_muster) = (OnHost::default(), OnHost::default());
    for _ in 0..BURSTS {
        let muster = by_muster.add(fleet, || fleet.time_burst(network, count))?;
        let docker = by_docker.add(fleet, || docker::time_burst(like, count, parallel))?;
        ours.push(muster);
        plain.push(docker);
        ratios.push(docker / muster);
    }
    let why = format!(
        "a container took {} by docker run; {} by muster, of which coordinator and agent {:.1} ms",
        by_docker.each(count),
        by_muster.each(count),
        by_muster.daemons.as_secs_f64() * 1e3 / of_all(count)
    );
    let plots = vec![Plot {
        title: format!("row {}: a burst of {count}", aim.row),
        unit: "s",
        series: vec![
            Series::new("muster", &ours),
            Series::new("xargs docker run", &plain),
        ],
    }];
    let detail = format!(
        "{BURSTS} bursts of {count}: docker best at -P {parallel}: {:.1} s, muster {:.1} s",
        Samples::new(plain).median(),
        Samples::new(ours).median()
    );
    Ok(Row::measured(aim, &Samples::new(ratios), detail, plots).because(why))
}

/// What the bursts of one side took together.
#[derive(Debug, Default)]
struct OnHost {
    took: Duration,
    /// Processor time of everything on the host, and of that muster's daemons'.
    all: Duration,
    daemons: Duration,
}

impl OnHost {
    /// One more; gives its seconds.
    fn add(
        &mut self,
        fleet: &Fleet,
        burst: impl FnOnce() -> anyhow::Result<Duration>,
    ) -> anyhow::Result<f64> {
        let (all, daemons) = (host_cpu(), fleet.cpu());
        let took = burst()?;
        self.took += took;
        self.all += host_cpu().saturating_sub(all);
        self.daemons += fleet.cpu().saturating_sub(daemons);
        Ok(took.as_secs_f64())
    }

    fn each(&self, count: usize) -> String {
        let (all, took) = (self.all.as_secs_f64(), self.took.as_secs_f64());
        let each = all * 1e3 / of_all(count);
        let busy = all / took;
        format!("{each:.0} ms of processor time ({busy:.2} processors busy)")
    }
}

/// Containers of all bursts.
fn of_all(count: usize) -> f64 {
    f64::from(u32::try_from(BURSTS * count).unwrap_or(u32::MAX))
}

/// Resident memory of an idle coordinator and an idle agent together.
pub(crate) fn idle(fleet: &Fleet) -> anyhow::Result<Row> {
    let [coordinator, agent] = fleet.daemons().map(|daemon| mebibytes(daemon.resident()));
    ensure!(coordinator.min(agent) > 0.0, "one of the daemons is gone");
    let sum = Samples::new(vec![coordinator + agent]);
    let detail = format!("coordinator {coordinator:.1} MiB, agent {agent:.1} MiB");
    Ok(Row::measured(IDLE, &sum, detail, Vec::new()))
}
