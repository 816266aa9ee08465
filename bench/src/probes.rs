//! What the machine does by itself, before and after: a row counts only while these agree.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::samples::Samples;

/// Times of each probe.
const REPEATS: usize = 200;

/// Medians in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Probes {
    /// Appending 4 KiB to a file and syncing its data.
    pub(crate) fsync: f64,
    /// Starting a process that does nothing, and waiting for it.
    pub(crate) fork_exec: f64,
}

pub(crate) fn measure() -> anyhow::Result<Probes> {
    Ok(Probes {
        fsync: fsync()?,
        fork_exec: fork_exec()?,
    })
}

fn fsync() -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("probe");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let block = [7; 4096];
    repeat(|| {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })
}

fn fork_exec() -> anyhow::Result<f64> {
    repeat(|| {
        Command::new("/bin/true").status()?;
        Ok(())
    })
}

fn repeat(mut probe: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut took: Vec<Duration> = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let began = Instant::now();
        probe()?;
        took.push(began.elapsed());
    }
    Ok(Samples::of_durations(&took).median())
}
