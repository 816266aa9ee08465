//! The signals that ask a command to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::Failure;

/// What the process was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Signals as they come. From here on they no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) received: mpsc::Receiver<Asked>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |source| Failure::Setup { source };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (sender, received) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    _ = interrupt.recv() => Asked::Interrupt,
                    _ = terminate.recv() => Asked::Terminate,
                    () = sender.closed() => return,
                };
                if sender.send(asked).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { received })
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Asked {
        match self.received.recv().await {
            Some(asked) => asked,
            // The task that sends only ends with the process.
            None => std::future::pending().await,
        }
    }
}
