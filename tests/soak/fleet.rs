//! Simulated worker hosts: real agents in this process, each with an engine in memory and a disk of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_agent::runtime::fake::{Behaviour, FakeRuntime};
use muster_tests::sample;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::load::Kind;
use crate::proxy::Proxy;

/// One agent in so many reaches the coordinator through the relay whose connections get cut.
const RELAYED: usize = 10;

pub(crate) struct Host {
    pub(crate) engine: FakeRuntime,
    vars: BTreeMap<String, String>,
    data: PathBuf,
    process: Option<(
        CancellationToken,
        JoinHandle<Result<(), muster_agent::RunError>>,
    )>,
}

impl Host {
    fn new(number: usize, places: u32, coordinator: &str, directory: &Path) -> Self {
        let engine = FakeRuntime::new();
        engine.publish(&sample::image(1).to_string());
        for kind in Kind::ALL {
            engine.script(kind.word(), kind.behaviour());
        }
        let name = format!("host-{number:04}");
        let data = directory.join(&name);
        let vars = [
            ("COORDINATOR", format!("http://{coordinator}")),
            ("NAME", name),
            ("DATA_DIR", data.display().to_string()),
            ("PLACES", places.to_string()),
            ("CPUS", "64".to_owned()),
            ("MEMORY", "64GiB".to_owned()),
            // All hosts share one disk here, and it is not what is tested.
            ("DISK_FREE", "1MiB".to_owned()),
            ("DISK_FREE_PERCENT", "0".to_owned()),
        ];
        let vars = vars.map(|(name, value)| (format!("MUSTER_AGENT_{name}"), value));
        Self {
            engine,
            vars: vars.into(),
            data,
            process: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let config = muster_agent::Config::parse(&self.vars).unwrap();
        let stop = CancellationToken::new();
        let running = muster_agent::run_with(self.engine.clone(), config, stop.clone());
        self.process = Some((stop, tokio::spawn(running)));
    }

    /// Ends the agent. Containers run on.
    pub(crate) async fn stop(&mut self) {
        if let Some((stop, running)) = self.process.take() {
            stop.cancel();
            running.await.unwrap().unwrap();
        }
    }

    /// Attempts of which something is left: a container or a directory.
    fn leftovers(&self) -> Vec<String> {
        let mut left = self.engine.names();
        let entries = std::fs::read_dir(self.data.join("attempts"));
        let entries = entries.into_iter().flatten().flatten();
        left.extend(entries.map(|entry| entry.path().display().to_string()));
        left
    }
}

pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Host>,
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
            let mut host = Host::new(number, places, address, directory.path());
            host.start();
            host
        };
        Self {
            hosts: (0..agents).map(host).collect(),
            _directory: directory,
        }
    }

    pub(crate) fn leftovers(&self) -> Vec<String> {
        self.hosts.iter().flat_map(Host::leftovers).collect()
    }

    pub(crate) async fn stop(&mut self) {
        for host in &self.hosts {
            if let Some((stop, _)) = &host.process {
                stop.cancel();
            }
        }
        for host in &mut self.hosts {
            host.stop().await;
        }
    }
}

/// In memory where that is possible: each real host has a disk of its own, and one disk is not a model of a
/// thousand.
fn disks() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
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
