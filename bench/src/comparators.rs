//! What users could pick instead, run for real. `scripts/setup comparators airflow` installs it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use muster_tests::processes::{Daemon, free_address};
use serde::Deserialize;
use tempfile::TempDir;

use crate::samples::Samples;

/// How Celery and Airflow are set up. `comparators/celery_laps.py` and `airflow_laps.py` say what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Default,
    Tuned,
}

impl Setting {
    const fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
        }
    }
}

/// A script that does laps of tasks through a comparator: one for each line of its input, until that ends.
struct Laps {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct RivalLap {
    pub(crate) seconds: f64,
}

impl Laps {
    /// `log` gets what the script has to say.
    fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("the child has an output")?);
        let mut laps = Self {
            process,
            questions,
            answers,
            log,
        };
        let ready = laps.line()?;
        ensure!(ready.trim() == "ready", "the comparator said {ready:?}");
        Ok(laps)
    }

    fn lap(&mut self, tasks: u32) -> anyhow::Result<RivalLap> {
        let questions = self.questions.as_mut().context("its input has ended")?;
        writeln!(questions, "{tasks}").context("the comparator has ended")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let log = std::fs::read_to_string(&self.log);
            anyhow::bail!("the comparator has ended: {}", log.unwrap_or_default());
        }
        Ok(line)
    }
}

impl Drop for Laps {
    fn drop(&mut self) {
        // Its input ends; it ends what it started and then itself.
        self.questions = None;
        let _ = self.process.wait();
    }
}

/// A worker and its Redis, which saves snapshots from time to time: class D1.
pub(crate) struct Celery {
    laps: Laps,
    _redis: Daemon,
    _directory: TempDir,
}

impl Celery {
    pub(crate) fn start(setting: Setting) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = free_address();
        let redis = start_redis(directory.path(), address);
        let mut command = Command::new(python("venv", "celery")?);
        command.arg(script("celery_laps.py"));
        command.args([&format!("redis://{address}/0"), setting.word()]);
        Ok(Self {
            laps: Laps::start(&mut command, directory.path().join("celery.log"))?,
            _redis: redis,
            _directory: directory,
        })
    }

    /// From the first submission to the last end.
    pub(crate) fn lap(&mut self, tasks: u32) -> anyhow::Result<RivalLap> {
        self.laps.lap(tasks)
    }
}

/// Whether Airflow is installed; the error says what is missing.
pub(crate) fn find_airflow() -> anyhow::Result<PathBuf> {
    python("venv-airflow", "airflow")
}

/// Starts Airflow and its database, runs a DAG of so many tasks and ends both: SQLite, or for `tuned` PostgreSQL, which
/// both sync each commit: class D2. From the start of the first task to the end of the last.
pub(crate) fn airflow_lap(setting: Setting, tasks: u32) -> anyhow::Result<RivalLap> {
    let python = find_airflow()?;
    let directory = tempfile::tempdir()?;
    let mut command = match setting {
        Setting::Default => Command::new(python),
        Setting::Tuned => {
            let mut command = Command::new(script("postgres.sh"));
            command.arg(python);
            command
        }
    };
    command.arg(script("airflow_laps.py"));
    command.args([setting.word(), &tasks.to_string()]);
    Laps::start(&mut command, directory.path().join("airflow.log"))?.lap(tasks)
}

fn start_redis(directory: &Path, address: SocketAddr) -> Daemon {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.arg("--dir").arg(directory);
    let mut redis = Daemon::start("redis", directory, &mut command);
    redis.wait_for_port(address);
    redis
}

/// Seconds of PostgreSQL's `COPY` of so many rows, each time into an empty table: class D2.
pub(crate) fn copy_rows(rows: u32, rounds: usize) -> anyhow::Result<Samples> {
    let output = Command::new(script("postgres.sh"))
        .arg(script("copy_rows.sh"))
        .args([rows.to_string(), rounds.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "copy_rows.sh failed");
    let text = String::from_utf8(output.stdout)?;
    let seconds: Result<Vec<f64>, _> = text.lines().map(str::parse).collect();
    Ok(Samples::new(seconds?))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("comparators")
        .join(name)
}

/// The interpreter of an environment that `scripts/setup` keeps, with what is to be in it.
fn python(environment: &str, what: &str) -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache
        .or_else(home)
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let environment = cache.join("muster").join(environment);
    // Written when all of it is installed.
    let stamp = environment.join(format!(".installed-{what}"));
    ensure!(
        stamp.exists(),
        "{} is missing: scripts/setup comparators airflow",
        stamp.display()
    );
    Ok(environment.join("bin/python"))
}
