//! muster beside plain docker, on the same machine, in the same run.
//!
//! Every row is a ratio or a difference against something that is measured in between, so it survives a
//! change of machine better than a time does. See `docs/benchmarks.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

mod docker;
mod fleet;
mod probes;
mod report;
mod rows;
mod samples;

use fleet::Fleet;
use report::Report;
use rows::Row;

/// Measures muster beside plain docker and writes TARGET/bench/report.json.
#[derive(Debug, Parser)]
struct Args {
    /// The binary to measure, in a release build.
    #[arg(long, value_name = "FILE")]
    muster: PathBuf,
    /// Only these rows.
    #[arg(long, value_delimiter = ',', env = "ROWS")]
    rows: Vec<String>,
    /// Pairs of each comparison.
    #[arg(long, default_value_t = 15)]
    pairs: usize,
    /// Containers of a burst.
    #[arg(long, default_value_t = 200)]
    burst: usize,
    /// Where the report goes.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Makes one row.
type Measure<'a> = Box<dyn Fn() -> anyhow::Result<Row> + 'a>;

/// Whether every row met its bar.
fn run(args: &Args) -> anyhow::Result<bool> {
    let wanted = |name: &str| args.rows.is_empty() || args.rows.iter().any(|row| row == name);
    docker::need_image()?;
    let mut report = Report::new(probes::measure()?);
    let networks = docker::Network::create()?;
    let fleet = Fleet::start(&args.muster)?;
    let rows: [(&str, Measure<'_>); 5] = [
        ("idle", Box::new(|| rows::idle(&fleet))),
        (
            "added-none",
            Box::new(|| rows::added(&fleet, &networks, "none", args.pairs)),
        ),
        (
            "added-bridge",
            Box::new(|| rows::added(&fleet, &networks, "bridge", args.pairs)),
        ),
        (
            "burst-none",
            Box::new(|| rows::burst(&fleet, &networks, "none", args.burst)),
        ),
        (
            "burst-bridge",
            Box::new(|| rows::burst(&fleet, &networks, "bridge", args.burst)),
        ),
    ];
    for (name, measure) in rows {
        if wanted(name) {
            eprintln!("bench: {name} …");
            report.add(measure().with_context(|| format!("row {name}"))?);
        }
    }
    report.finish(probes::measure()?);
    print!("{}", report.table());
    let path = args.report.clone().unwrap_or_else(report::default_path);
    report.write(&path)?;
    eprintln!("bench: {}", path.display());
    Ok(report.all_met())
}
