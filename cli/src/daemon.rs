//! The daemons, from their settings to their end. They are libraries; this is what starts them.

mod up;

use std::collections::BTreeMap;
use std::future::Future;

use muster_coordinator::telemetry::{self, LogFormat, TelemetryConfig, TelemetryError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::args::daemon::{AgentDaemonArgs, CoordinatorArgs, Setting};
use crate::config::{SYSTEM_DIR, daemon_file};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

pub(crate) use up::up;

const COORDINATOR: &str = "MUSTER_COORDINATOR_";
const AGENT: &str = "MUSTER_AGENT_";
/// What daemons log unless `MUSTER_LOG` says otherwise. The plumbing would log each refused request as
/// an error; whoever sent it has the answer.
const LOGGED: &str = "info,tower_http=off";
const LOG_FORMAT: &str = "MUSTER_LOG_FORMAT";

/// Why a daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("the coordinator has a wrong setting")]
    CoordinatorSetting(#[source] Box<muster_coordinator::config::BadSetting>),
    #[error("the agent has a wrong setting")]
    AgentSetting(#[source] Box<muster_agent::config::BadSetting>),
    #[error("{LOG_FORMAT}: {value:?} is neither text nor json")]
    LogFormat { value: String },
    #[error("logs or traces have a wrong setting")]
    Telemetry(#[source] Box<TelemetryError>),
    #[error("neither --data-dir nor HOME says where to keep things")]
    NoDataDir,
    #[error("the coordinator ended")]
    Coordinator(#[source] Box<muster_coordinator::RunError>),
    #[error("the agent ended")]
    Agent(#[source] Box<muster_agent::RunError>),
}

impl DaemonError {
    /// A wrong setting is 2, so that systemd does not try again.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::CoordinatorSetting(_)
            | Self::AgentSetting(_)
            | Self::LogFormat { .. }
            | Self::Telemetry(_)
            | Self::NoDataDir => Exit::USAGE,
            Self::Coordinator(_) | Self::Agent(_) => Exit::OTHER,
        }
    }
}

/// `muster coordinator`.
pub(crate) fn coordinator(flags: &CoordinatorArgs) -> Result<Exit, Failure> {
    let file = format!("{SYSTEM_DIR}/coordinator.yaml");
    let vars = settings(COORDINATOR, &file, flags.settings())?;
    let config = parse_coordinator(&vars)?;
    run_daemon("muster-coordinator", LOGGED, async |stop| {
        let (ready, serves) = oneshot::channel();
        let running = muster_coordinator::run(config, stop, ready);
        let notify = async {
            if serves.await.is_ok() {
                notify_ready();
            }
        };
        let (ended, ()) = tokio::join!(running, notify);
        ended.map_err(|error| DaemonError::Coordinator(Box::new(error)))
    })
}

/// `muster agent` without a verb.
pub(crate) fn agent(flags: &AgentDaemonArgs) -> Result<Exit, Failure> {
    let file = format!("{SYSTEM_DIR}/agent.yaml");
    let vars = settings(AGENT, &file, flags.settings())?;
    let config = parse_agent(&vars)?;
    run_daemon("muster-agent", LOGGED, async |stop| {
        // An engine or a coordinator that is away is waited for: that is running, too.
        notify_ready();
        let ended = muster_agent::run(config, stop).await;
        ended.map_err(|error| DaemonError::Agent(Box::new(error)))
    })
}

fn parse_coordinator(
    vars: &BTreeMap<String, String>,
) -> Result<muster_coordinator::config::Config, DaemonError> {
    let parsed = muster_coordinator::config::Config::parse(vars);
    parsed.map_err(|bad| DaemonError::CoordinatorSetting(Box::new(bad)))
}

fn parse_agent(vars: &BTreeMap<String, String>) -> Result<muster_agent::Config, DaemonError> {
    let parsed = muster_agent::Config::parse(vars);
    parsed.map_err(|bad| DaemonError::AgentSetting(Box::new(bad)))
}

/// Flags over variables over the file. A key of the file is a setting's name without the prefix, in
/// lower case: `data_dir`.
fn settings(
    prefix: &str,
    file: &str,
    flags: Vec<Setting>,
) -> Result<BTreeMap<String, String>, Failure> {
    let file = daemon_file(file.as_ref())?;
    let from_file = file
        .into_iter()
        .map(|(key, value)| (format!("{prefix}{}", key.to_uppercase()), value));
    let mut settings: BTreeMap<String, String> = from_file.collect();
    settings.extend(variables());
    settings.extend(
        flags
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(settings)
}

/// The process's variables. One that is not text is nobody's setting.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Everything around a daemon: TLS, a runtime, logs, traces, signals.
///
/// SIGTERM and Ctrl-C end it in order; a second signal ends it at once.
fn run_daemon<F>(
    service_name: &'static str,
    default_filter: &'static str,
    daemon: impl FnOnce(CancellationToken) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<(), DaemonError>>,
{
    // An error says that somebody chose a provider before, which is as good.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let config = TelemetryConfig {
        service_name,
        log_format: log_format()?,
        default_filter,
    };
    // At least two: the exporter of traces must never wait for the only one.
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|source| Failure::Setup { source })?;
    runtime.block_on(async {
        let telemetry =
            telemetry::init(&config).map_err(|error| DaemonError::Telemetry(Box::new(error)))?;
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        let ended = daemon(stop).await;
        telemetry.shutdown().await;
        ended?;
        Ok(Exit::DONE)
    })
}

fn log_format() -> Result<LogFormat, DaemonError> {
    let value = std::env::var(LOG_FORMAT).unwrap_or_default();
    match value.as_str() {
        "" => Ok(LogFormat::default()),
        word => LogFormat::from_word(word).ok_or(DaemonError::LogFormat { value }),
    }
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        let asked = signals.next().await;
        tracing::info!(signal = ?asked, "stopping");
        // Without systemd there is nobody to tell.
        sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        stop.cancel();
        signals.next().await;
        tracing::warn!("second signal: ending at once");
        std::process::exit(i32::from(Exit::INTERRUPTED.0));
    });
    Ok(())
}

fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(error = %error, "systemd not told that the daemon is ready");
    }
}

#[cfg(test)]
mod tests;
