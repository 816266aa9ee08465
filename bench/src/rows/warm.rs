//! Warm containers: how long a task of a channel takes to begin where one waits for it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use muster_tests::processes::free_address;
use muster_tests::registry::Registry;

use super::containers::WARM;
use super::{Plot, Row, Series};
use crate::docker::{self, Network};
use crate::fleet::Fleet;
use crate::samples::Samples;

/// Runs before the measurement, so that both sides are warm and the agent has seen such tasks.
const WARM_UP: usize = 3;
const CHANNEL: &str = "bench-warm";
/// For a container to wait again.
const PARKED: Duration = Duration::from_secs(30);

/// From the start of the command that submits it to when the init process begins the task, over a whole
/// `docker run`.
pub(crate) fn first_instruction(
    fleet: &Fleet,
    networks: &Network,
    pairs: usize,
) -> anyhow::Result<Row> {
    let like = networks.like("bridge");
    let registry = Registry::start(free_address(), None, None);
    let repository = registry.push_script("bench", "true");
    fleet.set_warm(CHANNEL, &repository, 1)?;
    for _ in 0..WARM_UP {
        docker::time_run(like)?;
        begin_one(fleet)?;
    }
    let (mut plain, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        let docker = docker::time_run(like)?.as_secs_f64();
        let muster = begin_one(fleet)?;
        plain.push(docker * 1e3);
        ours.push(muster * 1e3);
        ratios.push(muster / docker);
    }
    // The rows after this one are about other things.
    fleet.set_warm(CHANNEL, &repository, 0)?;
    let plots = vec![Plot {
        title: format!("row {}: until a task begins", WARM.row),
        unit: "ms",
        series: vec![
            Series::new("muster run, until the task begins", &ours),
            Series::new("docker run", &plain),
        ],
    }];
    let (plain, ours) = (Samples::new(plain), Samples::new(ours));
    let detail = format!(
        "{pairs} pairs: docker run {:.0} ms, muster run until the task begins {:.0} ms",
        plain.median(),
        ours.median()
    );
    Ok(Row::measured(WARM, &Samples::new(ratios), detail, plots))
}

/// Seconds from the command's start to the task's.
fn begin_one(fleet: &Fleet) -> anyhow::Result<f64> {
    wait_for_parked(&fleet.agent_dir().join("warm"))?;
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let job = fleet.run_in_channel(CHANNEL)?;
    let started = fleet.started(&job)?;
    let began = started.checked_sub(before);
    Ok(began.context("the clock was set back")?.as_secs_f64())
}

fn wait_for_parked(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PARKED;
    loop {
        let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let parked = entries.any(|entry| {
            let records = entry.path().join("records");
            records.join("armed").exists() && !records.join("socket").exists()
        });
        // Nothing of making it goes on when it is measured.
        std::thread::park_timeout(Duration::from_millis(if parked { 300 } else { 20 }));
        if parked {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("no container waits for the task");
        }
    }
}
