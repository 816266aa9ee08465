//! A relay between agents and the coordinator, whose connections can be cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use muster_tests::random::Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    open: BTreeMap<u64, CancellationToken>,
}

impl Proxy {
    /// Relays to `target` until `stop`.
    pub(crate) async fn start(target: String, stop: CancellationToken) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
        };
        tokio::spawn(proxy.clone().accept(listener, target, stop));
        proxy
    }

    async fn accept(self, listener: TcpListener, target: String, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((client, _)) = accepted else { continue };
            let cut = stop.child_token();
            let number = {
                let mut connections = self.connections.lock().unwrap();
                connections.last += 1;
                let number = connections.last;
                connections.open.insert(number, cut.clone());
                number
            };
            let (proxy, target) = (self.clone(), target.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = relay(client, &target) => {}
                }
                proxy.connections.lock().unwrap().open.remove(&number);
            });
        }
    }

    /// Cuts one connection, if there is any.
    pub(crate) fn cut_one(&self, random: &mut Rng) -> bool {
        let connections = self.connections.lock().unwrap();
        if connections.open.is_empty() {
            return false;
        }
        let place = random.index(connections.open.len());
        let cut = connections.open.values().nth(place).unwrap();
        cut.cancel();
        true
    }
}

async fn relay(mut client: TcpStream, target: &str) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return; // the client finds its connection closed, as without a relay
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
