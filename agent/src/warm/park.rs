//! One parked container, from its directory to its removal.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use muster_core::ids::TeamName;
use tokio::net::{UnixListener, UnixStream};

use super::go;
use super::targets::Asked;
use crate::attempt::{RUN, Shared, Surroundings, parked_container, parked_name};
use crate::files;
use crate::images::ImageFailure;
use crate::init::{self, RECORDS, SOCKET};
use crate::runtime::{CreateError, EngineError, KillError, Limits, RunTerms, Runtime, Signal};
use crate::usage::AttemptGroup;

/// A started container that is not heard of for so long is given up.
const READY: Duration = Duration::from_secs(30);
/// From the message to the answer.
const TOLD: Duration = Duration::from_secs(10);

/// A container whose init process waits to be told.
#[derive(Debug)]
pub(crate) struct Parked {
    pub name: String,
    pub limits: Limits,
    pub(super) asked: Asked,
    stream: UnixStream,
}

/// Why there is no parked container.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotParked {
    #[error("no coordinator has said which cluster this is")]
    NoCluster,
    #[error("containers have the engine's init process here")]
    NoInit,
    #[error("the channel's team can't be told")]
    NoTeam,
    #[error(transparent)]
    Image(#[from] ImageFailure),
    #[error("the host's disk takes no directory for it")]
    Directory(#[from] io::Error),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("its init process was not heard of within {} s", READY.as_secs())]
    Silent,
}

impl Parked {
    /// Whether its init process still listens.
    pub(super) fn is_alive(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Has it run the task. On an error it may run all the same.
    ///
    /// # Errors
    /// If it didn't say that it does.
    pub(crate) async fn tell(mut self, run: &RunTerms, env: &[String]) -> io::Result<()> {
        let telling = go::tell(&mut self.stream, run, env);
        tokio::time::timeout(TOLD, telling).await?
    }
}

/// Parks one. On an error, with the name of what may be left of it.
pub(super) async fn park<R: Runtime>(
    shared: &Shared<R>,
    asked: &Asked,
    limits: Limits,
) -> Result<Parked, (Option<String>, NotParked)> {
    let cluster = shared.cluster.get();
    let cluster = cluster.ok_or((None, NotParked::NoCluster))?;
    let name = parked_name(cluster);
    park_as(shared, cluster, &name, asked, limits)
        .await
        .map_err(|error| (Some(name), error))
}

async fn park_as<R: Runtime>(
    shared: &Shared<R>,
    cluster: &str,
    name: &str,
    asked: &Asked,
    limits: Limits,
) -> Result<Parked, NotParked> {
    let Asked {
        channel,
        image,
        wish,
    } = asked;
    let team = channel
        .split('/')
        .next()
        .and_then(|team| TeamName::parse(team).ok());
    let team = team.ok_or(NotParked::NoTeam)?;
    let program = shared.init.clone().ok_or(NotParked::NoInit)?;
    let ready = shared.images.ensure(image, false).await?;
    let network = match wish.bridge {
        true => Some(shared.team_network(cluster, &team).await?),
        false => None,
    };
    let home = shared.warm.dir(name);
    let listener = prepare(&home)?;
    let around = Surroundings {
        name,
        cluster,
        config: &shared.config,
        image: &ready.facts,
        network,
        run_dir: home.join(RUN),
        cgroup_parent: group(shared, name).map(|group| group.name().to_owned()),
        init: Some((program, home.join(RECORDS))),
        lease_dir: shared.contact.dir(),
        last_contact: shared.contact.last(),
    };
    let term = shared.warm.lock().term;
    let new = parked_container(wish, &team, limits, term, around);
    let created = shared.runtime.create(&new).await;
    if matches!(created, Err(CreateError::NoSuchImage)) {
        // It was removed since it was last seen.
        shared.images.forget(image);
    }
    created?;
    {
        let _permit = shared.starts.acquire().await;
        shared.runtime.start(name).await?;
    }
    let heard = tokio::time::timeout(READY, listener.accept()).await;
    let (stream, _) = heard.map_err(|_| NotParked::Silent)??;
    Ok(Parked {
        name: name.to_owned(),
        limits,
        asked: asked.clone(),
        stream,
    })
}

/// Takes the socket's name away: nobody else is told anything there.
pub(super) fn close(home: &Path) -> io::Result<()> {
    fs::remove_file(home.join(RECORDS).join(SOCKET))
}

/// Its directories, and the socket at which its init process will be heard.
fn prepare(home: &Path) -> io::Result<UnixListener> {
    let run = home.join(RUN);
    fs::create_dir_all(&run)?;
    fs::set_permissions(&run, Permissions::from_mode(0o777))?;
    let records = home.join(RECORDS);
    fs::create_dir_all(&records)?;
    // A socket's path may have 107 bytes, and the data directory's is anybody's choice.
    let dir = fs::File::open(&records)?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    let listener = UnixListener::bind(short)?;
    // For whatever user the task has; the data directory above is closed to everybody else.
    fs::set_permissions(records.join(SOCKET), Permissions::from_mode(0o666))?;
    init::prepare(home)?;
    Ok(listener)
}

/// Whether an attempt was given its directories.
pub(super) fn is_given(home: &Path) -> bool {
    !home.join(RECORDS).exists()
}

fn group<R>(shared: &Shared<R>, name: &str) -> Option<AttemptGroup> {
    shared
        .engine
        .cgroup_parents
        .then(|| AttemptGroup::new(name))
}

/// Ends and removes a parked container in which nothing was run, and then its directory.
pub(super) async fn destroy<R: Runtime>(shared: &Shared<R>, name: &str) -> Result<(), EngineError> {
    match shared.runtime.kill(name, Signal::Kill).await {
        Ok(()) => {
            // It is removed next time if this takes long.
            let gone = shared.runtime.wait(name);
            let _ = tokio::time::timeout(READY, gone).await;
        }
        Err(KillError::NotRunning) => {}
        Err(KillError::Engine(error)) => return Err(error),
    }
    shared.runtime.remove(name).await?;
    let (group, home) = (group(shared, name), shared.warm.dir(name));
    let removed = files::spawn_removal(move || {
        if let Some(group) = group {
            group.remove();
        }
        fs::remove_dir_all(home)
    });
    if let Ok(Err(error)) = removed.await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "parked container's directory not removed");
    }
    Ok(())
}
