//! The OCI runtime that the host's policy file names: whether the engine knows it, and whether it works.
//!
//! A host that can't keep to its policy runs nothing: the file may name a runtime for what it keeps apart, and
//! another one would not be a slower choice but a weaker one.

use std::collections::BTreeMap;

use crate::namespaces::ensure_image;
use crate::runtime::{CreateError, EngineError, EngineInfo, NewParked, Runtime, Signal};

/// Why containers can't run with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the engine knows only {}; name it in the engine's configuration (runtimes)", known.join(", "))]
    Unknown { known: Vec<String> },
    /// Some refuse hosts whose control groups are of both versions.
    #[error("it can't start a container on this host: {message}")]
    Broken { message: String },
    /// It may pass.
    #[error(transparent)]
    Engine(EngineError),
}

impl Unfit {
    fn of(error: EngineError) -> Self {
        match error {
            EngineError::Refused { message, .. } => Self::Broken { message },
            other @ (EngineError::Deadline { .. } | EngineError::Unreachable { .. }) => {
                Self::Engine(other)
            }
        }
    }
}

/// Runs one container that does nothing, with the runtime that `runtime` uses, which is `name`.
pub(crate) async fn try_out<R: Runtime>(
    runtime: &R,
    engine: &EngineInfo,
    name: &str,
) -> Result<(), Unfit> {
    if !engine.runtimes.iter().any(|known| known == name) {
        let mut known = engine.runtimes.clone();
        known.sort();
        return Err(Unfit::Unknown { known });
    }
    let image = ensure_image(runtime).await.map_err(Unfit::Engine)?;
    let probe = NewParked {
        name: format!("mu-probe-{}", uuid::Uuid::now_v7().simple()),
        image,
        network: "none".to_owned(),
        labels: BTreeMap::new(),
    };
    let tried = start(runtime, &probe).await;
    if let Err(error) = end(runtime, &probe.name).await {
        tracing::warn!(%error, container = probe.name, "probe of the runtime not removed");
    }
    tried
}

async fn start<R: Runtime>(runtime: &R, probe: &NewParked) -> Result<(), Unfit> {
    match runtime.create_parked(probe).await {
        Ok(()) => runtime.start(&probe.name).await.map_err(Unfit::of),
        Err(CreateError::Engine(error)) => Err(Unfit::of(error)),
        Err(other) => Err(Unfit::Broken {
            message: other.to_string(),
        }),
    }
}

async fn end<R: Runtime>(runtime: &R, name: &str) -> Result<(), EngineError> {
    if runtime.kill(name, Signal::Kill).await.is_ok() {
        runtime.wait(name).await?;
    }
    runtime.remove(name).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::FakeRuntime;

    #[tokio::test]
    async fn one_that_the_engine_does_not_know_is_named_with_those_it_does() {
        let engine = FakeRuntime::new();
        let info = engine.engine().await.unwrap();
        let unfit = try_out(&engine, &info, "crun").await.unwrap_err();
        let wanted = "the engine knows only runc; name it in the engine's configuration (runtimes)";
        assert_eq!(unfit.to_string(), wanted);
        assert_eq!(engine.names(), [""; 0]);
    }

    #[tokio::test]
    async fn one_that_works_leaves_nothing_behind() {
        let engine = FakeRuntime::new();
        let info = engine.engine().await.unwrap();
        try_out(&engine, &info, "runc").await.unwrap();
        assert_eq!(engine.starts().len(), 1);
        assert_eq!(engine.names(), [""; 0]);
    }
}
