//! muster beside what its users could pick instead, on the same machine, in the same run.
//!
//! Every row is a ratio against something that is measured in between, so it survives a change of machine
//! better than a time does. See `docs/performance.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

mod agents;
mod comparators;
mod crowd;
mod docker;
mod fleet;
mod history;
mod probes;
mod profile;
mod report;
mod rows;
mod samples;
mod stand;

use fleet::Fleet;
use report::Report;
use rows::{Row, airflow, connected, containers, growth, lifecycles, load, queue, rollouts, warm};

/// Measures muster beside others and writes TARGET/bench/report.json and report.html. The binary to measure, in a
/// release build, is `MUSTER_BIN`.
#[derive(Debug, Parser)]
struct Args {
    /// Only these rows, by their first column.
    #[arg(long, value_delimiter = ',', env = "ROWS")]
    rows: Vec<String>,
    /// Pairs of single containers.
    #[arg(long, default_value_t = 15)]
    pairs: usize,
    /// Rounds of the other comparisons.
    #[arg(long, default_value_t = 7, env = "ROUNDS")]
    rounds: usize,
    /// Containers of a burst.
    #[arg(long, default_value_t = 200)]
    burst: usize,
    /// Jobs that wait in rows 9 and 10, and that are on record in row 14.
    #[arg(long, default_value_t = 1_000_000, env = "JOBS")]
    jobs: u32,
    /// Where the report goes.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the benchmark starts itself as.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Simulated agents, until standard input ends.
    #[command(hide = true)]
    Agents(agents::Args),
    /// Idle agents, until standard input ends.
    #[command(hide = true)]
    Crowd(crowd::Args),
}

/// Every row, in the order of the report.
const ROWS: [&str; 21] = [
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "10",
    "11",
    "12",
    "13",
    "14",
    "cold-none",
    "burst-none",
    "idle",
    "airflow",
    "deploy",
    "deploy-1000",
    "deploy-load",
];
const WITH_ENGINE: [&str; 6] = ["5", "6", "7", "cold-none", "burst-none", "idle"];

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let ran = match args.part {
        Some(Part::Agents(args)) => agents::serve(args).await.map(|()| true),
        Some(Part::Crowd(args)) => crowd::serve(args).await.map(|()| true),
        None => run(&args).await,
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What several rows share, made when the first of them needs it.
struct Engine {
    fleet: Fleet,
    networks: docker::Network,
}

/// The rows that are asked for; all if none are, also in the way of `ROWS=`.
fn rows_of(asked: &[String]) -> anyhow::Result<Vec<&str>> {
    let asked = asked.iter().map(String::as_str);
    let asked: Vec<&str> = asked.filter(|row| !row.is_empty()).collect();
    for row in &asked {
        anyhow::ensure!(
            ROWS.contains(row),
            "there is no row {row:?}; there are {}",
            ROWS.join(", ")
        );
    }
    Ok(if asked.is_empty() { ROWS.into() } else { asked })
}

/// Whether every row met its bar.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let rows = rows_of(&args.rows)?;
    let wanted = |name: &str| rows.contains(&name);
    let with_engine = WITH_ENGINE.iter().any(|row| wanted(row));
    let engine = with_engine.then(start_engine).transpose()?;
    let mut report = Report::new(probes::measure(with_engine).await?);
    for name in ROWS.into_iter().filter(|name| wanted(name)) {
        eprintln!("bench: row {name} …");
        let rows = measure(name, args, engine.as_ref()).await;
        report.add(rows.with_context(|| format!("row {name}"))?);
    }
    report.finish(probes::measure(with_engine).await?);
    print!("{}", report.table());
    let path = args.report.clone().unwrap_or_else(report::default_path);
    report.write(&path)?;
    eprintln!("bench: {}", path.display());
    eprintln!("bench: {}", path.with_extension("html").display());
    Ok(report.all_met())
}

fn start_engine() -> anyhow::Result<Engine> {
    tokio::task::block_in_place(|| {
        docker::need_image()?;
        let binary = muster_tests::fleet::binary();
        Ok(Engine {
            fleet: Fleet::start(Path::new(&binary))?,
            networks: docker::Network::create()?,
        })
    })
}

async fn measure(name: &str, args: &Args, engine: Option<&Engine>) -> anyhow::Result<Vec<Row>> {
    let row = match name {
        "9" => return growth::memory(args.jobs).await,
        "11" => return connected::idle().await,
        "14" => return growth::history(args.rounds, args.jobs).await,
        "10" => growth::backlog(args.rounds, args.jobs).await,
        "12" => growth::recovery(args.rounds).await,
        "1" => lifecycles::array(args.rounds).await,
        "2" => lifecycles::single(args.rounds).await,
        "3" => lifecycles::tax(args.rounds).await,
        "4" => load::latency(args.rounds).await,
        "8" => load::overload(args.rounds).await,
        "13" => queue::submission(args.rounds).await,
        "airflow" => airflow::array(args.rounds).await,
        "deploy" => tokio::task::block_in_place(|| rollouts::deploy(args.rounds)),
        "deploy-1000" => rollouts::everywhere(args.rounds).await,
        "deploy-load" => rollouts::load(args.rounds).await,
        _ => {
            let engine = engine.context("the row needs an engine")?;
            tokio::task::block_in_place(|| measure_containers(name, args, engine))
        }
    };
    Ok(vec![row?])
}

fn measure_containers(name: &str, args: &Args, engine: &Engine) -> anyhow::Result<Row> {
    use containers as rows;
    let Engine { fleet, networks } = engine;
    match name {
        "5" => rows::cold(rows::COLD, fleet, networks, "bridge", args.pairs),
        "6" => warm::first_instruction(fleet, networks, args.pairs),
        "7" => rows::burst(rows::BURST, fleet, networks, "bridge", args.burst),
        "cold-none" => rows::cold(rows::COLD_NONE, fleet, networks, "none", args.pairs),
        "burst-none" => rows::burst(rows::BURST_NONE, fleet, networks, "none", args.burst),
        "idle" => rows::idle(fleet),
        _ => anyhow::bail!("no row is called {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rows_all_are_measured() {
        let rows = |text: &str| {
            let args = Args::try_parse_from(["muster-bench", "--rows", text]).unwrap();
            let rows = rows_of(&args.rows)?;
            anyhow::Ok(rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(rows("").unwrap(), ROWS);
        assert_eq!(rows("1,13").unwrap(), ["1", "13"]);
        let problem = rows("1,99").unwrap_err().to_string();
        assert!(
            problem.starts_with("there is no row \"99\"; there are 1, 2,"),
            "{problem}"
        );
    }
}
