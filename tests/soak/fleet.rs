//! The simulated worker hosts of a soak, some of them behind a relay.

use muster_agent::runtime::fake::{Behaviour, FakeRuntime};
use muster_tests::hosts::{SimulatedHost, disks};
use muster_tests::sample;
use tempfile::TempDir;

use crate::load::Kind;
use crate::proxy::Proxy;

/// One agent in so many reaches the coordinator through the relay whose connections get cut.
const RELAYED: usize = 10;

fn engine() -> FakeRuntime {
    let engine = FakeRuntime::new();
    engine.publish(&sample::image(1).to_string());
    for kind in Kind::ALL {
        engine.script(kind.word(), kind.behaviour());
    }
    engine
}

pub(crate) struct Fleet {
    pub(crate) hosts: Vec<SimulatedHost>,
    _directory: TempDir,
}

impl Fleet {
    /// So many agents with so many places each. They are started, and online some time later.
    pub(crate) fn start(agents: usize, places: u32, coordinator: &str, proxy: &Proxy) -> Self {
        let directory = disks();
        let host = |number: usize| {
            let address = if number.is_multiple_of(RELAYED) {
                &proxy.address
            } else {
                coordinator
            };
            let mut host = SimulatedHost::new(number, places, address, directory.path(), engine());
            host.start();
            host
        };
        Self {
            hosts: (0..agents).map(host).collect(),
            _directory: directory,
        }
    }

    pub(crate) fn leftovers(&self) -> Vec<String> {
        self.hosts
            .iter()
            .flat_map(SimulatedHost::leftovers)
            .collect()
    }

    pub(crate) async fn stop(&mut self) {
        for host in &self.hosts {
            host.begin_to_stop();
        }
        for host in &mut self.hosts {
            host.stop().await;
        }
    }
}

impl Kind {
    fn behaviour(self) -> Behaviour {
        let text = |text: &str| (muster_core::logframe::LogStream::Stdout, text.to_owned());
        let plain = Behaviour {
            takes: self.takes(),
            ..Behaviour::default()
        };
        match self {
            Self::Short | Self::Long => plain,
            Self::Prints => Behaviour {
                output: (0..20)
                    .map(|line| text(&format!("line {line}\n")))
                    .collect(),
                ..plain
            },
            Self::Fails => Behaviour {
                exit_code: 3,
                ..plain
            },
            Self::Impossible => Behaviour {
                refused: true,
                ..plain
            },
        }
    }
}
