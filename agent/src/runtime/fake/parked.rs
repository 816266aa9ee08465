//! A container of the fake that was started before its task: what its init process does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Behaviour, FakeContainer, FakeRuntime, Inner, StartFault};
use crate::plan::Seen;

/// As muster's own init process exits.
const SECOND_START: i32 = 123;
const UNUSABLE: i32 = 122;

impl Inner {
    /// The container that was created with this name, which may have another one now.
    pub(super) fn created_as(&mut self, name: &str) -> Option<(&String, &mut FakeContainer)> {
        let mut all = self.containers.iter_mut();
        all.find(|(_, container)| container.new.name == name)
    }

    /// Of a container whose first argument is `word`.
    pub(super) fn behaviour(&self, word: &str) -> Behaviour {
        let script = self.scripts.iter().rev().find(|(of, _)| of == word);
        script.map_or_else(Behaviour::default, |(_, found)| found.clone())
    }
}

impl FakeRuntime {
    /// From now on the engine can mount what is on this host, so that containers have muster's init process. They
    /// leave no records.
    pub fn set_mounts(&self) {
        self.lock().mounts = true;
    }

    /// When the next parked container is told what to run.
    pub fn fail_next_tell(&self, fault: StartFault) {
        self.lock().tell_faults.push_back(fault);
    }

    /// The arguments of what was started in parked containers, by their names.
    #[must_use]
    pub fn told(&self) -> std::collections::BTreeMap<String, Vec<String>> {
        self.lock().told.clone()
    }

    pub(super) async fn wait_for_task(self, name: String, records: PathBuf) {
        let told = tokio::select! {
            told = self.be_told(&name, &records) => told,
            () = self.until_gone(&name) => return,
        };
        match told {
            Ok(behaviour) => self.run_to_the_end(name, behaviour).await,
            Err(code) => {
                let mut inner = self.lock();
                if let Some((name, container)) = inner.created_as(&name)
                    && container.state.seen == Seen::Running
                    && !container.cut_off
                {
                    self.end(name, container, code);
                }
            }
        }
    }

    async fn until_gone(&self, name: &str) {
        loop {
            let mut turn = match self.lock().created_as(name) {
                Some((_, found)) if found.state.seen == Seen::Running && !found.cut_off => {
                    found.turn.subscribe()
                }
                Some(_) | None => return,
            };
            if turn.changed().await.is_err() {
                return;
            }
        }
    }

    /// What to do, or the exit code of an init process that has nothing to do.
    async fn be_told(&self, name: &str, records: &Path) -> Result<Behaviour, i32> {
        let unusable = |_: io::Error| UNUSABLE;
        let socket = records.join("socket");
        let mut stream = UnixStream::connect(socket).await.map_err(unusable)?;
        // What was mounted stays so wherever it is moved to; a path does not.
        let dir = fs::File::open(records).map_err(unusable)?;
        let argv = listen(&mut stream).await.map_err(unusable)?;
        let fault = self.lock().tell_faults.pop_front();
        if fault == Some(StartFault::HangUpBeforeStarting) {
            return Err(UNUSABLE);
        }
        take_start(&dir).map_err(|_| SECOND_START)?;
        let behaviour = {
            let mut inner = self.lock();
            let behaviour = inner.behaviour(argv.first().map_or("", String::as_str));
            inner.told.insert(name.to_owned(), argv);
            if let Some((_, container)) = inner.created_as(name) {
                container.behaviour = behaviour.clone();
            }
            behaviour
        };
        if fault.is_none() {
            // Nobody may listen any more.
            let _ = stream.write_all(b"1").await;
        }
        Ok(behaviour)
    }
}

fn take_start(dir: &fs::File) -> io::Result<()> {
    rustix::fs::renameat(dir, "armed", dir, "started").map_err(io::Error::from)
}

/// The arguments of the task.
async fn listen(stream: &mut UnixStream) -> io::Result<Vec<String>> {
    let length = stream.read_u32_le().await?;
    let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let text = String::from_utf8_lossy(&body);
    let words: Vec<&str> = text.split('\0').collect();
    let pairs = words.chunks_exact(2);
    let arguments = pairs.filter(|pair| pair[0] == "arg");
    Ok(arguments.map(|pair| pair[1].to_owned()).collect())
}
