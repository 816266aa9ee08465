//! A way between an agent and its coordinator that a test can break.

use std::net::SocketAddr;
use std::time::Duration;

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
    /// The same, with a reset instead of an orderly end.
    Reset,
    /// Carries everything, each piece so much later than it was sent.
    Slow(Duration),
}

impl Way {
    /// Whether connections are closed.
    fn is_closed(self) -> bool {
        matches!(self, Self::Cut | Self::Reset)
    }
}

/// What the way does now, and what became of the connections over it.
#[derive(Debug, Clone, Copy)]
struct State {
    way: Way,
    /// Connections that were taken so far.
    taken: u64,
    /// The first so many connections carry nothing for ever.
    forgotten: u64,
}

/// Listens on a port of its own; gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
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
        let (state, _) = watch::channel(State {
            way: Way::Open,
            taken: 0,
            forgotten: 0,
        });
        let running = tokio::spawn(accept(listener, coordinator, state.clone()));
        Self {
            address,
            state,
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
        self.state.send_modify(|state| state.way = way);
    }

    /// Leaves what is connected half-open: it carries nothing any more, and neither end is told. New
    /// connections work.
    pub fn forget(&self) {
        self.state
            .send_modify(|state| state.forgotten = state.taken);
    }

    /// How often somebody dialled.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.state.borrow().taken
    }
}

async fn accept(listener: TcpListener, coordinator: SocketAddr, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((agent, _)) = accepted else { return };
                state.send_modify(|state| state.taken += 1);
                let number = state.borrow().taken;
                connections.spawn(carry(agent, coordinator, number, state.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(
    agent: TcpStream,
    coordinator: SocketAddr,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let way = state.borrow_and_update().way;
    if way.is_closed() {
        return close(&agent, way);
    }
    let Ok(coordinator) = TcpStream::connect(coordinator).await else {
        return;
    };
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_coordinator, mut to_coordinator) = coordinator.into_split();
    let changes = state.clone();
    let up = copy(&mut from_agent, &mut to_coordinator, changes, |state| {
        state.forgotten < number && !matches!(state.way, Way::Blackhole | Way::BlackholeUp)
    });
    let changes = state.clone();
    let down = copy(&mut from_coordinator, &mut to_agent, changes, |state| {
        state.forgotten < number && state.way != Way::Blackhole
    });
    let closed = async {
        let closed = state.wait_for(|state| state.way.is_closed()).await;
        closed.map_or(Way::Cut, |state| state.way)
    };
    let way = tokio::select! {
        () = up => Way::Cut,
        () = down => Way::Cut,
        way = closed => way,
    };
    close(from_agent.as_ref(), way);
    close(from_coordinator.as_ref(), way);
}

/// How the connection ends when it is dropped.
fn close(connection: &TcpStream, way: Way) {
    if way == Way::Reset {
        // It may be over already.
        let _ = connection.set_zero_linger();
    }
}

/// Carries bytes while the way is open; what arrives meanwhile waits, as it would for a retransmission.
async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    open: impl Fn(&State) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let way = match state.wait_for(|state| open(state)).await {
            Ok(state) => state.way,
            Err(_) => return,
        };
        if let Way::Slow(by) = way {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
