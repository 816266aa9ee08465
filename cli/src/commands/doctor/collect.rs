//! What goes into a bundle, and from where. Whatever can't be had is named, and the rest goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use muster_core::redact::{REMOVED, is_secret_name};
use muster_proto::v1;
use tokio::io::AsyncReadExt as _;

use super::bundle::Gathered;
use super::{Coordinator, DoctorArgs, Seen};
use crate::client::Client;
use crate::config::Settings;
use crate::render::json::{
    AgentJson, ChannelJson, ExplanationJson, FindingJson, JobJson, ServerJson, TaskJson,
};

/// Newest jobs, and of those the live ones that are explained.
const JOBS: u32 = 100;
const EXPLAINED: usize = 20;
/// Of each log, in bytes: its end.
const LOG_MAX: u64 = 2 << 20;
/// Of each unit's journal.
const LINES: &str = "2000";
/// Bytes that journalctl may print for them; lines are long at times.
const JOURNAL_MAX: u64 = 64 << 20;
const JOURNAL_DEADLINE: Duration = Duration::from_secs(20);
const UNITS: [&str; 3] = ["muster-coordinator", "muster-agent", "docker"];
/// Entries of all data directories that are listed.
const ENTRIES: usize = 5_000;
/// How deep: an attempt's own files are the last.
const DEPTH: usize = 3;
/// Variables besides muster's own whose values are of use and no secrets.
const SHOWN: [&str; 4] = ["DOCKER_CONFIG", "DOCKER_HOST", "HOME", "XDG_DATA_HOME"];

pub(super) async fn everything(seen: &Seen, flags: &DoctorArgs, settings: &Settings) -> Gathered {
    let mut gathered = Gathered::default();
    let findings: Vec<FindingJson> = seen.findings.iter().cloned().map(Into::into).collect();
    gathered.add_json("findings.json", &findings);
    client(settings, &mut gathered);
    host(seen, &mut gathered);
    for unit in UNITS {
        let name = format!("logs/{unit}.txt");
        match journal(unit).await {
            Ok(text) => gathered.add(&name, &text),
            Err(why) => gathered.miss(&name, why),
        }
    }
    for (number, file) in flags.log_files.iter().enumerate() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match end_of(file) {
            Ok(text) => gathered.add(&format!("logs/{}-{name}", number + 1), &text),
            Err(error) => gathered.miss(&file.display().to_string(), error),
        }
    }
    match &seen.coordinator {
        Coordinator::There(client) => {
            process(client, &mut gathered).await;
            state(client, &mut gathered).await;
        }
        Coordinator::Unreachable => {
            gathered.miss("coordinator, state", "the coordinator can't be reached")
        }
        Coordinator::LeftOut => gathered.miss("coordinator, state", "left out with --local"),
    }
    gathered
}

fn client(settings: &Settings, gathered: &mut Gathered) {
    gathered.add(
        "client/version.txt",
        concat!(env!("CARGO_PKG_VERSION"), "\n"),
    );
    let rows = settings.rows().into_iter();
    let rows: BTreeMap<&str, String> = rows
        .map(|(name, value, origin)| (name, format!("{value} ({origin})")))
        .collect();
    gathered.add_json("client/settings.json", &rows);
}

/// What is known of this host without the coordinator.
fn host(seen: &Seen, gathered: &mut Gathered) {
    gathered.add_json("host/settings.json", &shown(&seen.host.vars));
    gathered.add("host/data-dirs.txt", &listing(&seen.host.data_dirs));
    for (name, file) in [
        ("os-release", "/etc/os-release"),
        ("kernel", "/proc/version"),
    ] {
        match fs::read_to_string(file) {
            Ok(text) => gathered.add(&format!("host/{name}.txt"), &text),
            Err(error) => gathered.miss(file, error),
        }
    }
    match &seen.engine {
        Some(engine) => {
            gathered.add_json("engine/info.json", &engine.info);
            gathered.add_json("engine/version.json", &engine.version);
        }
        None => gathered.miss("engine", "the container engine does not answer here"),
    }
}

/// Variables that are muster's own or known. Of others not even the name: there is no telling what
/// they hold.
fn shown(vars: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let ours = vars
        .iter()
        .filter(|(name, _)| name.starts_with("MUSTER_") || SHOWN.contains(&name.as_str()));
    let shown = ours.map(|(name, value)| {
        let value = if is_secret_name(name) { REMOVED } else { value };
        (name.as_str(), value)
    });
    shown.collect()
}

/// Names, sizes and times of what is in the data directories; not what is in the files, which hold
/// the tasks' variables and output.
fn listing(directories: &[std::path::PathBuf]) -> String {
    let mut text = String::new();
    let mut left = ENTRIES;
    for directory in directories {
        list(directory, DEPTH, &mut left, &mut text);
    }
    if left == 0 {
        text.push_str("and more\n");
    }
    text
}

fn list(path: &Path, depth: usize, left: &mut usize, text: &mut String) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let line = match fs::symlink_metadata(path) {
        Ok(metadata) => {
            let changed = metadata
                .modified()
                .ok()
                .and_then(|at| jiff::Timestamp::try_from(at).ok());
            let changed = changed.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"));
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
            format!(
                "{mode:06o} {:>12} {changed} {}",
                metadata.len(),
                path.display()
            )
        }
        Err(error) => format!("{}: {error}", path.display()),
    };
    writeln!(text, "{line}").expect("a string takes whatever is written");
    // A link is not followed, and what can't be read has its line.
    let is_dir = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if !is_dir || depth == 0 {
        return;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        list(&entry, depth - 1, left, text);
    }
}

/// The newest lines of a unit, or why there are none.
async fn journal(unit: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new("journalctl");
    command.args([
        "--no-pager",
        "--quiet",
        "--output=short-iso",
        "--lines",
        LINES,
        "--unit",
        unit,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("journalctl: {error}"))?;
    let output = child.stdout.take().expect("the output is piped");
    let mut bytes = Vec::new();
    let mut output = output.take(JOURNAL_MAX);
    let read = tokio::time::timeout(JOURNAL_DEADLINE, output.read_to_end(&mut bytes));
    match read.await {
        Err(_) => Err(format!(
            "journalctl did not end within {} s",
            JOURNAL_DEADLINE.as_secs()
        )),
        Ok(Err(error)) => Err(format!("journalctl: {error}")),
        Ok(Ok(0)) => {
            Err("journalctl has nothing of that unit, or this user may not see it".to_owned())
        }
        Ok(Ok(_)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What only the coordinator's process has.
async fn process(client: &Client, gathered: &mut Gathered) {
    match client.admin().info(v1::InfoRequest {}).await {
        Ok(info) => gathered.add_json(
            "coordinator/info.json",
            &ServerJson::from(info.into_inner()),
        ),
        Err(status) => gathered.miss("coordinator/info.json", status.message()),
    }
    match client.admin().diagnose(v1::DiagnoseRequest {}).await {
        Err(status) => gathered.miss("coordinator: log, settings, metrics", status.message()),
        Ok(told) => {
            let v1::DiagnoseResponse {
                settings,
                log_lines,
                metrics,
            } = told.into_inner();
            let settings: BTreeMap<String, String> = settings.into_iter().collect();
            gathered.add_json("coordinator/settings.json", &settings);
            gathered.add("coordinator/log.txt", &(log_lines.join("\n") + "\n"));
            gathered.add("coordinator/metrics.txt", &metrics);
        }
    }
}

/// The fleet, as any client may see it.
async fn state(client: &Client, gathered: &mut Gathered) {
    match client.agents().list(v1::ListAgentsRequest::default()).await {
        Ok(reply) => {
            let agents = reply.into_inner().agents.into_iter().map(AgentJson::from);
            gathered.add_json("state/agents.json", &agents.collect::<Vec<_>>());
        }
        Err(status) => gathered.miss("state/agents.json", status.message()),
    }
    let team = client.team.clone();
    match client
        .channels()
        .list(v1::ListChannelsRequest { team })
        .await
    {
        Ok(reply) => {
            let channels = reply
                .into_inner()
                .channels
                .into_iter()
                .map(ChannelJson::from);
            gathered.add_json("state/channels.json", &channels.collect::<Vec<_>>());
        }
        Err(status) => gathered.miss("state/channels.json", status.message()),
    }
    let team = client.team.clone();
    match client
        .jobs()
        .list_quarantined(v1::ListQuarantinedRequest { team })
        .await
    {
        Ok(reply) => {
            let tasks = reply.into_inner().tasks.into_iter().map(TaskJson::from);
            gathered.add_json("state/quarantine.json", &tasks.collect::<Vec<_>>());
        }
        Err(status) => gathered.miss("state/quarantine.json", status.message()),
    }
    jobs(client, gathered).await;
}

async fn jobs(client: &Client, gathered: &mut Gathered) {
    let request = v1::ListJobsRequest {
        team: client.team.clone(),
        page_size: JOBS,
        ..v1::ListJobsRequest::default()
    };
    let jobs = match client.jobs().list(request).await {
        Ok(reply) => reply.into_inner().jobs,
        Err(status) => return gathered.miss("state/jobs.json, state/why.json", status.message()),
    };
    let live = jobs.iter().filter(|job| job.state() != v1::JobState::Ended);
    let mut why = BTreeMap::new();
    for job in live.take(EXPLAINED) {
        let request = v1::ExplainRequest {
            team: client.team.clone(),
            job: job.id.clone(),
            index: None,
        };
        match client.jobs().explain(request).await {
            Ok(reply) => {
                why.insert(job.id.clone(), ExplanationJson::from(reply.into_inner()));
            }
            Err(status) => gathered.miss(&format!("why {}", job.id), status.message()),
        }
    }
    gathered.add_json("state/why.json", &why);
    let jobs: Vec<JobJson> = jobs
        .into_iter()
        .map(|job| JobJson::from(without_values(job)))
        .collect();
    gathered.add_json("state/jobs.json", &jobs);
}

/// Variables' values and arguments may hold anything; their names and number say enough.
fn without_values(mut job: v1::Job) -> v1::Job {
    if let Some(spec) = &mut job.spec {
        let entrypoint = spec.entrypoint.iter_mut().flat_map(|argv| &mut argv.args);
        let arguments = entrypoint.chain(&mut spec.command);
        for value in arguments.chain(spec.env.values_mut()) {
            REMOVED.clone_into(value);
        }
    }
    job
}

#[cfg(test)]
mod tests;
