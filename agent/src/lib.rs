//! The agent: runs attempts as containers on a worker host and reports how they end.
//!
//! It dials out and listens nowhere. Everything it must not forget is in its journals and in the
//! engine; a restarted agent takes its containers up again, and stopping it leaves them running.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{RwLock, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub mod config;
pub mod doctor;
pub mod lease;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod runtime;

mod attempt;
mod contact;
mod disk;
mod engine_watch;
mod files;
mod host;
mod images;
mod init;
mod journal;
mod leftovers;
mod metrics;
mod metrics_file;
mod namespaces;
mod oci;
mod offer;
mod outbox;
mod output;
mod probe;
mod session;
mod ship;
mod starts;
mod supervisor;
mod terms;
mod usage;
mod warm;
mod wire;

#[cfg(test)]
mod e2e;
#[cfg(test)]
mod rig;

pub use config::Config;

use attempt::{ATTEMPTS, Shared};
use config::InitChoice;
use contact::Contact;
use disk::{Disks, Measure};
use engine_watch::EngineWatch;
use images::{Images, Shelf};
use leftovers::{Leftovers, Orphans};
use metrics::AgentMetrics;
use namespaces::{Bounds as Pool, Namespaces};
use outbox::Outbox;
use output::Logs;
use output::spool::Bounds;
use probe::Probe;
use runtime::docker::DockerRuntime;
use runtime::{EngineError, EngineInfo, Runtime};
use session::Session;
use starts::Starts;
use supervisor::Supervisor;
use terms::SeenTerm;
use warm::Warm;

const LOCK: &str = "lock";
/// Orders on their way to the supervisor.
const ORDERS: usize = 256;
const ENGINE_RETRY: Duration = Duration::from_secs(2);

/// Why the agent can't run. Nothing that may pass is among it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the container engine's address can't be used")]
    Engine(#[source] EngineError),
    #[error("the data directory {} can't be used", path.display())]
    DataDir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("another agent uses the data directory {}", path.display())]
    Locked { path: PathBuf },
    #[error("the policy file's runtime {name:?} can't be used: {problem}")]
    OciRuntime { name: String, problem: String },
    #[error("the metrics port can't be opened")]
    Metrics { source: std::io::Error },
}

/// Runs the agent on the engine that `DOCKER_HOST` names, until `shutdown`. Containers stay.
///
/// # Errors
/// See [`RunError`]. An engine or a coordinator that is away is waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let runtime = DockerRuntime::connect().map_err(RunError::Engine)?;
    let runtime = runtime.with_oci_runtime(config.policy.oci_runtime.clone());
    run_with(runtime, config, shutdown).await
}

/// Runs the agent on any engine.
///
/// # Errors
/// See [`RunError`].
pub async fn run_with<R: Runtime>(
    runtime: R,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let config = with_absolute_paths(config)?;
    let lock = open_data_dir(&config)?;
    let term = SeenTerm::load(&config.data_dir).map_err(|source| RunError::DataDir {
        path: config.data_dir.clone(),
        source,
    })?;
    let metrics = Arc::new(AgentMetrics::new());
    if let Some(address) = config.metrics_listen {
        let serving = metrics::serve(Arc::clone(&metrics), address, shutdown.clone());
        serving
            .await
            .map_err(|source| RunError::Metrics { source })?;
    }
    let Some(engine) = await_engine(&runtime, &shutdown).await else {
        return Ok(());
    };
    if !try_oci_runtime(&runtime, &engine, &config, &shutdown).await? {
        return Ok(());
    }
    tracing::info!(
        agent.id = %config.name,
        pool = %config.pool,
        engine = engine.version,
        places = config.places,
        "agent starting"
    );
    let shared = Arc::new(share(runtime, config, engine, metrics));
    serve(shared, term, shutdown).await;
    drop(lock);
    Ok(())
}

fn share<R: Runtime>(
    runtime: R,
    config: Config,
    engine: EngineInfo,
    metrics: Arc<AgentMetrics>,
) -> Shared<R> {
    Shared {
        disks: Disks::new(
            config.disk_reserve,
            &config.data_dir,
            engine.root.as_deref(),
        ),
        probe: Probe::default(),
        images: Images::new(
            runtime.clone(),
            config.pulls,
            Arc::clone(&metrics),
            &config.data_dir,
        ),
        namespaces: Namespaces::new(
            runtime.clone(),
            config.name.clone(),
            pool(&config, &engine),
            Arc::clone(&metrics),
        ),
        starts: Starts::new(config.starts, engine.cpus),
        contact: Contact::open(&config.data_dir, &host::boot_id()),
        boot_id: host::boot_id(),
        init: install_init(&config, &engine),
        cluster: OnceLock::new(),
        outbox: Outbox::default(),
        logs: Arc::new(Logs::default()),
        log_bounds: Bounds::HOST,
        watch: EngineWatch::new(),
        orphans: Orphans::default(),
        networks: RwLock::new(BTreeSet::new()),
        warm: Warm::new(&config.data_dir, config.warm, Arc::clone(&metrics)),
        runtime,
        config,
        engine,
        metrics,
    }
}

fn pool(config: &Config, engine: &EngineInfo) -> Pool {
    // Others may have a network stack of their own, and take the namespace's interfaces for it.
    let runtime = config.policy.oci_runtime.as_deref();
    let plain = runtime.is_none_or(|name| matches!(name, "runc" | "crun"));
    if config.policy.pooled_networks && engine.in_sight && plain {
        Pool::of(engine.cpus)
    } else {
        Pool::OFF
    }
}

/// The init process for containers. `None`: the engine's own.
fn install_init(config: &Config, engine: &EngineInfo) -> Option<PathBuf> {
    if config.init == InitChoice::Engine || !engine.mounts {
        return None;
    }
    init::install(&config.data_dir)
        .inspect_err(|error| {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "init process can't be used, the engine's is");
        })
        .ok()
}

/// Runs the parts until `shutdown`.
async fn serve<R: Runtime>(shared: Arc<Shared<R>>, term: SeenTerm, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let listener = Arc::clone(&shared);
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let runtime = listener.runtime.clone();
        listener.watch.run(runtime, stop).await;
    });
    let (prober, stop) = (Arc::clone(&shared), shutdown.clone());
    tasks.spawn(async move { prober.probe.run(prober.runtime.clone(), stop).await });
    tasks.spawn(Leftovers::new(Arc::clone(&shared)).run(shutdown.clone()));
    let (pool, stop) = (Arc::clone(&shared), shutdown.clone());
    tasks.spawn(async move {
        let Shared {
            namespaces,
            cluster,
            starts,
            ..
        } = &*pool;
        namespaces.run(cluster, starts, stop).await;
    });
    tasks.spawn(tend_images(Arc::clone(&shared), shutdown.clone()));
    let mut supervisor = Supervisor::new(Arc::clone(&shared), shutdown.clone());
    let warm = supervisor.take_up();
    let stock = async {
        warm::clear(&shared, &warm).await;
        leftovers::take_stock(&shared).await;
    };
    shutdown.run_until_cancelled(stock).await;
    tasks.spawn(warm::keep(Arc::clone(&shared), shutdown.clone()));
    let (orders, inbox) = mpsc::channel(ORDERS);
    let (links, link) = watch::channel(None);
    tasks.spawn(supervisor.run(inbox));
    tasks.spawn(ship::run(
        Arc::clone(&shared.logs),
        link,
        shared.config.log_stream_idle,
        shutdown.clone(),
    ));
    let session = Session {
        shared,
        supervisor: orders,
        links,
        term,
        process: uuid::Uuid::now_v7().to_string(),
    };
    tasks.spawn(session.run(shutdown));
    tasks.close();
    tasks.wait().await;
}

/// Keeps the engine's disk below its mark, if that is wanted and can be measured.
async fn tend_images<R: Runtime>(shared: Arc<Shared<R>>, shutdown: CancellationToken) {
    let measure: Measure = Box::new(host::disk);
    let shelf = match (&shared.engine.root, shared.config.image_gc) {
        (Some(path), Some(marks)) => Some(Shelf {
            path,
            marks,
            measure: &measure,
        }),
        (None, _) | (_, None) => None,
    };
    shared.images.tend(shelf, shutdown).await;
}

/// Tries the runtime that the policy file names, if it names one. False: the agent was stopped meanwhile.
async fn try_oci_runtime<R: Runtime>(
    runtime: &R,
    engine: &EngineInfo,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<bool, RunError> {
    let Some(name) = &config.policy.oci_runtime else {
        return Ok(true);
    };
    loop {
        match oci::try_out(runtime, engine, name).await {
            Ok(()) => return Ok(true),
            Err(oci::Unfit::Engine(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "container engine unreachable");
            }
            Err(unfit @ (oci::Unfit::Unknown { .. } | oci::Unfit::Broken { .. })) => {
                return Err(RunError::OciRuntime {
                    name: name.clone(),
                    problem: unfit.to_string(),
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(ENGINE_RETRY) => {}
        }
    }
}

/// An engine that is still starting is waited for. `None`: the agent was stopped meanwhile.
async fn await_engine<R: Runtime>(runtime: &R, shutdown: &CancellationToken) -> Option<EngineInfo> {
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return None,
            asked = runtime.engine() => asked,
        };
        match asked {
            Ok(engine) => return Some(engine),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "container engine unreachable");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(ENGINE_RETRY) => {}
        }
    }
}

/// The engine takes no relative path for what it mounts.
fn with_absolute_paths(mut config: Config) -> Result<Config, RunError> {
    match std::path::absolute(&config.data_dir) {
        Ok(path) => {
            config.data_dir = path;
            Ok(config)
        }
        Err(source) => Err(RunError::DataDir {
            path: config.data_dir,
            source,
        }),
    }
}

/// Makes the data directory, closed to others, and holds it against a second agent.
fn open_data_dir(config: &Config) -> Result<File, RunError> {
    let path = &config.data_dir;
    let open = || {
        std::fs::create_dir_all(path.join(ATTEMPTS))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        File::create(path.join(LOCK))
    };
    let file = open().map_err(|source| RunError::DataDir {
        path: path.clone(),
        source,
    })?;
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    match rustix::fs::flock(&file, lock) {
        Ok(()) => Ok(file),
        Err(_) => Err(RunError::Locked { path: path.clone() }),
    }
}
