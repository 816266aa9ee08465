//! A coordinator from start to end: check, open, bind, spawn, wait, drain.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Shared;
use crate::api::admin::Admin;
use crate::config::Config;
use crate::driver::{Clock, Driver, DriverError, Observers};
use crate::following::Followed;
use crate::logs::LogStore;
use crate::metrics::Metrics;
use crate::metrics::pushgateway::{self, BadGateway, PushGateway};
use crate::registry::verify::Verified;
use crate::registry::{OciRegistry, Registry};
use crate::serve::Bound;
use crate::session::{self, Loads, Sessions};
use crate::store::{Identity, OpenError, SqliteStore, Store};
use crate::{check, gauges, http, poll, serve, webhook};

/// Where a running coordinator can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// `127.0.0.1:7380`, or `unix:///path`.
    pub grpc: String,
    pub http: SocketAddr,
}

/// Why a coordinator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the store in {directory} could not be opened")]
    Store {
        directory: String,
        source: OpenError,
    },
    #[error("the log store in {directory} could not be opened")]
    Logs {
        directory: String,
        source: std::io::Error,
    },
    #[error("{address} could not be listened on")]
    Bind {
        address: String,
        source: std::io::Error,
    },
    #[error("the addresses could not be written to {path}")]
    Addresses {
        path: String,
        source: std::io::Error,
    },
    #[error("metrics can't be pushed")]
    PushGateway { source: BadGateway },
    #[error("the services could not be described")]
    Reflection {
        source: tonic_reflection::server::Error,
    },
    #[error("the driver stopped")]
    Driver { source: DriverError },
    /// Whether it is on disk is not known.
    #[error("output could not be synced to disk")]
    Output { source: std::io::Error },
    #[error("gRPC could not be served")]
    Grpc { source: tonic::transport::Error },
    #[error("HTTP could not be served")]
    Http { source: std::io::Error },
}

/// Runs a coordinator until `stop`. `ready` gets the addresses once it serves.
///
/// # Errors
/// If it can't start, or if the store fails: then nothing that was not durable was said to anybody, and
/// a new start goes on from what the store has.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    ready: oneshot::Sender<Addresses>,
) -> Result<(), RunError> {
    let registry = Arc::new(OciRegistry::new(config.registry.clone()));
    run_with(registry, config, stop, ready).await
}

/// The same with another registry, for tests.
///
/// # Errors
/// As `run`.
pub async fn run_with(
    registry: Arc<dyn Registry>,
    config: Config,
    stop: CancellationToken,
    ready: oneshot::Sender<Addresses>,
) -> Result<(), RunError> {
    let registry: Arc<dyn Registry> = Arc::new(Verified::new(registry, &config.registry));
    let parts = Parts::open(&config)?;
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses()?;
    let identity = parts.store.identity();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), cluster = %identity.cluster, term = identity.term.0,
        grpc = addresses.grpc, http = %addresses.http, "coordinator serves"
    );
    let tracker = TaskTracker::new();
    // Whatever ends first ends the rest.
    let stop = stop.child_token();
    let running = start(parts, listeners, registry, &config, &tracker, &stop).await?;
    write_addresses(&config.data_dir, &addresses)?;
    // Nobody may be waiting for it.
    let _ = ready.send(addresses);
    let ended = running.wait(&stop).await;
    tracker.close();
    tracker.wait().await;
    ended
}

/// What is opened before anything is bound.
struct Parts {
    store: Arc<SqliteStore>,
    logs: Arc<LogStore>,
    metrics: Metrics,
}

impl Parts {
    fn open(config: &Config) -> Result<Self, RunError> {
        let directory = config.data_dir.display().to_string();
        let opened = SqliteStore::open(&config.data_dir);
        let store = opened.map_err(|source| RunError::Store { directory, source })?;
        let logs = config.data_dir.join("logs");
        let directory = logs.display().to_string();
        let opened = LogStore::open(&logs);
        let logs = opened.map_err(|source| RunError::Logs { directory, source })?;
        Ok(Self {
            store: Arc::new(store),
            logs: Arc::new(logs),
            metrics: Metrics::new(),
        })
    }
}

struct Listeners {
    grpc: Bound,
    http: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, RunError> {
        let address = config.listen.to_string();
        let bound = Bound::bind(&config.listen).await;
        let grpc = bound.map_err(|source| RunError::Bind { address, source })?;
        let address = config.http_listen.to_string();
        let bound = TcpListener::bind(config.http_listen).await;
        let http = bound.map_err(|source| RunError::Bind { address, source })?;
        Ok(Self { grpc, http })
    }

    fn addresses(&self) -> Result<Addresses, RunError> {
        let bad = |source| RunError::Bind {
            address: "a listener".to_owned(),
            source,
        };
        let grpc = self.grpc.address().map_err(bad)?;
        let http = self.http.local_addr().map_err(bad)?;
        Ok(Addresses { grpc, http })
    }
}

/// The tasks that a coordinator can't do without.
struct Running {
    driver: tokio::task::JoinHandle<Result<(), DriverError>>,
    grpc: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    logs: Arc<LogStore>,
}

async fn start(
    parts: Parts,
    listeners: Listeners,
    registry: Arc<dyn Registry>,
    config: &Config,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Running, RunError> {
    let Parts {
        store,
        logs,
        metrics,
    } = parts;
    let push_gateway = start_push_gateway(config, &metrics, tracker, stop)?;
    let observers = Observers {
        metrics: metrics.clone(),
        push_gateway,
    };
    let (driver, handle) = Driver::start(store.clone(), config.limits(), observers)
        .await
        .map_err(|source| RunError::Driver { source })?;
    // The driver ends after everything that talks to it.
    let driver = tokio::spawn(driver.run(stop.clone()));
    tracker.spawn(gauges::keep(handle.clone(), metrics.clone(), stop.clone()));
    tracker.spawn(check::keep(handle.clone(), metrics.clone(), stop.clone()));
    let sink = Arc::new(Followed(handle.clone()));
    let (follower, _) = poll::start(
        config.poll.clone(),
        registry.clone(),
        sink,
        metrics.clone(),
        stop.clone(),
    );
    let identity = store.identity();
    let loads = Loads::default();
    let webhooks = webhook::Config {
        secrets: config.webhook_secrets.clone(),
        loopback: config.http_listen.ip().is_loopback(),
    };
    let router = http::router(webhooks, follower.clone(), metrics.clone());
    let backups = store.backups();
    let shared = Arc::new(Shared {
        driver: handle,
        store,
        registry,
        follower,
        logs: logs.clone(),
        loads,
        metrics,
        heartbeat: config.heartbeat_millis(),
    });
    let sessions = open_sessions(&shared, identity, config, stop);
    let admin = Admin {
        shared: shared.clone(),
        facts: check::Facts {
            pushes: config.pushgateway.is_some(),
        },
        settings: config.shown(),
        identity,
        started: Clock::new().now(),
        backups,
    };
    let routes = serve::routes(shared, sessions, admin).await;
    let routes = routes.map_err(|source| RunError::Reflection { source })?;
    let Listeners {
        grpc,
        http: listener,
    } = listeners;
    Ok(Running {
        driver,
        grpc: tokio::spawn(serve::serve(grpc, routes, stop.clone())),
        http: tokio::spawn(http::serve(listener, router, stop.clone())),
        logs,
    })
}

fn open_sessions<S>(
    shared: &Shared<S>,
    identity: Identity,
    config: &Config,
    stop: &CancellationToken,
) -> Sessions {
    let heartbeat = config.heartbeat;
    Sessions::new(
        session::Config {
            identity,
            heartbeat,
        },
        shared.driver.clone(),
        shared.logs.clone(),
        shared.loads.clone(),
        shared.metrics.clone(),
        stop.clone(),
    )
}

fn start_push_gateway(
    config: &Config,
    metrics: &Metrics,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<PushGateway>, RunError> {
    let Some(config) = &config.pushgateway else {
        return Ok(None);
    };
    let started = pushgateway::start(config, metrics.clone(), stop.clone());
    let (gateway, task) = started.map_err(|source| RunError::PushGateway { source })?;
    // It sends what is unsent when it ends; the coordinator waits for that.
    tracker.spawn(task);
    Ok(Some(gateway))
}

impl Running {
    /// Waits for the first of them to end, and then ends the others.
    async fn wait(self, stop: &CancellationToken) -> Result<(), RunError> {
        let Self {
            mut driver,
            mut grpc,
            mut http,
            logs,
        } = self;
        let first = tokio::select! {
            biased;
            ended = &mut driver => Some(driver_ended(ended)),
            ended = &mut grpc => Some(grpc_ended(ended)),
            ended = &mut http => Some(http_ended(ended)),
            source = logs.failed() => Some(Err(RunError::Output { source })),
            () = stop.cancelled() => None,
        };
        stop.cancel();
        if let Some(first) = first {
            // The others are stopping; the first one's reason is what counts.
            return first;
        }
        let (driver, grpc, http) = tokio::join!(driver, grpc, http);
        driver_ended(driver)?;
        grpc_ended(grpc)?;
        http_ended(http)
    }
}

type Joined<T> = Result<T, tokio::task::JoinError>;

fn driver_ended(ended: Joined<Result<(), DriverError>>) -> Result<(), RunError> {
    ended
        .expect("the driver does not panic")
        .map_err(|source| RunError::Driver { source })
}

fn grpc_ended(ended: Joined<Result<(), tonic::transport::Error>>) -> Result<(), RunError> {
    ended
        .expect("the server does not panic")
        .map_err(|source| RunError::Grpc { source })
}

fn http_ended(ended: Joined<std::io::Result<()>>) -> Result<(), RunError> {
    ended
        .expect("the server does not panic")
        .map_err(|source| RunError::Http { source })
}

/// For whoever started the coordinator on port 0: `addresses.json` beside the store.
fn write_addresses(directory: &Path, addresses: &Addresses) -> Result<(), RunError> {
    let path = directory.join("addresses.json");
    let text = serde_json::json!({ "grpc": addresses.grpc, "http": addresses.http.to_string() });
    let unfinished = directory.join("addresses.json.new");
    let written = std::fs::write(&unfinished, text.to_string())
        .and_then(|()| std::fs::rename(&unfinished, &path));
    let path = path.display().to_string();
    written.map_err(|source| RunError::Addresses { path, source })
}
