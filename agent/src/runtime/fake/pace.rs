//! How long the fake takes for what it is asked. What was asked is done, also if nobody waits any more.

use std::time::Duration;

use super::FakeRuntime;
use super::engine::hung_up;
use crate::runtime::{CreateError, EngineError, NewContainer};

/// Of requests that take no time by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    pub create: Duration,
    /// Until the engine hears of a start. One that is given up before is never made.
    pub ask: Duration,
    /// Until a container runs that is started.
    pub start: Duration,
    /// From then until the caller learns of it.
    pub started: Duration,
}

impl FakeRuntime {
    /// From now on requests take so long.
    pub fn set_pace(&self, pace: Pace) {
        self.lock().pace = pace;
    }

    pub(super) async fn create_at_pace(&self, new: &NewContainer) -> Result<(), CreateError> {
        let Pace { create, .. } = self.lock().pace;
        if create.is_zero() {
            return self.create_now(new);
        }
        let (engine, new) = (self.clone(), new.clone());
        let created = tokio::spawn(async move {
            tokio::time::sleep(create).await;
            engine.create_now(&new)
        });
        created
            .await
            .unwrap_or_else(|_| Err(CreateError::Engine(hung_up())))
    }

    pub(super) async fn start_at_pace(&self, name: &str) -> Result<(), EngineError> {
        let Pace {
            create: _,
            ask,
            start,
            started,
        } = self.lock().pace;
        if !ask.is_zero() {
            tokio::time::sleep(ask).await;
        }
        if (start + started).is_zero() {
            return self.start_now(name);
        }
        let (engine, name) = (self.clone(), name.to_owned());
        let landed = tokio::spawn(async move {
            tokio::time::sleep(start).await;
            let landed = engine.start_now(&name);
            tokio::time::sleep(started).await;
            landed
        });
        landed.await.unwrap_or_else(|_| Err(hung_up()))
    }
}
