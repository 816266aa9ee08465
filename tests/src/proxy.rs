//! A way between an agent and its coordinator that a test can break.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What the way does with what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Carries nothing in either direction, and says nothing of it.
    Blackhole,
    /// Carries nothing towards the coordinator.
    BlackholeUp,
    /// Closes what is open, and takes nothing new.
    Cut,
}

/// Listens on a port of its own; gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    _running: AbortOnDropHandle<()>,
}

impl Proxy {
    /// An open way to `coordinator`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn before(coordinator: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (way, changes) = watch::channel(Way::Open);
        let running = tokio::spawn(accept(listener, coordinator, changes));
        Self {
            address,
            way,
            _running: AbortOnDropHandle::new(running),
        }
    }

    /// Where agents dial.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, for open connections and new ones.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn accept(listener: TcpListener, coordinator: SocketAddr, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((agent, _)) = accepted else { return };
                connections.spawn(carry(agent, coordinator, way.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(agent: TcpStream, coordinator: SocketAddr, mut way: watch::Receiver<Way>) {
    if *way.borrow_and_update() == Way::Cut {
        return;
    }
    let Ok(coordinator) = TcpStream::connect(coordinator).await else {
        return;
    };
    let (from_agent, to_agent) = agent.into_split();
    let (from_coordinator, to_coordinator) = coordinator.into_split();
    let up = copy(from_agent, to_coordinator, way.clone(), |way| {
        matches!(way, Way::Open)
    });
    let down = copy(from_coordinator, to_agent, way.clone(), |way| {
        matches!(way, Way::Open | Way::BlackholeUp)
    });
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

/// Carries bytes while the way is open; what arrives meanwhile waits, as it would for a retransmission.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    open: fn(Way) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if way.wait_for(|way| open(*way)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
