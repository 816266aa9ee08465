//! One script against the fake engine and the real one: the fake may only be trusted where they agree.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::runtime::fake::{Behaviour, FakeRuntime, OnTerm};
use crate::runtime::{CreateError, KillError, LogsFrom, NewContainer, Runtime, Signal};

fn container(name: &str, image: &str, command: &[&str], dir: &std::path::Path) -> NewContainer {
    NewContainer {
        name: name.to_owned(),
        image: image.to_owned(),
        entrypoint: None,
        command: command.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        labels: BTreeMap::from([("muster.agent".to_owned(), name.to_owned())]),
        workdir: None,
        user: "65532:65532".to_owned(),
        cpu_millis: 1000,
        memory_bytes: 64 << 20,
        pids: 64,
        gpus: 0,
        network: None,
        writable_root: false,
        run_dir: dir.to_owned(),
        cgroup_parent: None,
        init: None,
    }
}

/// One run of the script on one engine.
struct Run<'a, R> {
    engine: &'a R,
    image: &'a str,
    name: String,
    dir: tempfile::TempDir,
    /// What was seen, as words, in order.
    seen: Vec<String>,
}

impl<R: Runtime> Run<'_, R> {
    async fn note_state(&mut self, what: &str) {
        let found = self.engine.inspect(&self.name).await.unwrap();
        let state = found.map_or_else(
            || "absent".to_owned(),
            |found| {
                let started = found.started.is_some();
                format!("{:?} {} {started}", found.seen, found.exit_code)
            },
        );
        self.seen.push(format!("{what}: {state}"));
    }

    fn note(&mut self, what: &str, yes: bool) {
        self.seen.push(format!("{what}: {yes}"));
    }

    fn describe(&self, command: &[&str]) -> NewContainer {
        container(&self.name, self.image, command, self.dir.path())
    }

    async fn start_and_wait(&self) {
        self.engine.start(&self.name).await.unwrap();
        self.engine.wait(&self.name).await.unwrap();
    }

    async fn remove(&self) {
        self.engine.remove(&self.name).await.unwrap();
    }

    async fn names_and_restarts(&mut self) {
        self.note_state("before").await;
        let new = self.describe(&["/bin/sh", "-c", "exit 3"]);
        self.engine.create(&new).await.unwrap();
        // A name in use is a conflict (E3).
        let again = self.engine.create(&new).await;
        self.note("taken", matches!(again, Err(CreateError::NameTaken)));
        self.note_state("created").await;
        let listed = self.engine.list(&new.labels).await.unwrap();
        self.note("listed", listed.len() == 1);
        let killed = self.engine.kill(&self.name, Signal::Term).await;
        self.note("not running", matches!(killed, Err(KillError::NotRunning)));
        self.start_and_wait().await;
        self.note_state("exited").await;
        // A start of an exited container runs it again (E2).
        self.start_and_wait().await;
        self.note_state("exited again").await;
        self.remove().await;
        self.note_state("removed").await;
        // What is not there is removed.
        self.remove().await;
    }

    async fn what_can_not_start(&mut self) {
        // What the engine can't start stays as it was created, with an error (E10).
        let mut refused = self.describe(&["refused"]);
        refused.user = "nosuch".to_owned();
        self.engine.create(&refused).await.unwrap();
        let started = self.engine.start(&self.name).await;
        self.note("refused", started.is_err());
        self.note_state("refused").await;
        self.remove().await;

        // A program that is missing is the init process's to say.
        let missing = self.describe(&["/no/such"]);
        self.engine.create(&missing).await.unwrap();
        self.start_and_wait().await;
        let from = LogsFrom {
            follow: false,
            since: None,
        };
        let mut words = self.engine.logs(&self.name, from);
        let first = words.next().await.unwrap().unwrap();
        self.note("said", first.data.starts_with(b"[FATAL tini ("));
        self.note_state("missing").await;
        self.remove().await;
    }

    async fn what_runs(&mut self) {
        let sleeper = self.describe(&["/bin/sleep", "1000"]);
        self.engine.create(&sleeper).await.unwrap();
        self.engine.start(&self.name).await.unwrap();
        self.note_state("running").await;
        let removed = self.engine.remove(&self.name).await;
        self.note("kept", removed.is_err());
        self.engine.kill(&self.name, Signal::Kill).await.unwrap();
        self.engine.wait(&self.name).await.unwrap();
        self.note_state("killed").await;
        self.remove().await;
        let unknown = self.engine.inspect_image("muster/none:1").await.unwrap();
        self.note("unknown image", unknown.is_none());
    }
}

async fn script(engine: &impl Runtime, image: &str) -> Vec<String> {
    let mut run = Run {
        engine,
        image,
        name: format!("mu-contract-{}", uuid::Uuid::now_v7().simple()),
        dir: tempfile::tempdir().unwrap(),
        seen: Vec::new(),
    };
    run.names_and_restarts().await;
    run.what_can_not_start().await;
    run.what_runs().await;
    run.seen
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_engine_does_as_the_real_one() {
    let fake = FakeRuntime::new();
    fake.hold("sha256:1");
    fake.script(
        "/bin/sh",
        Behaviour {
            exit_code: 3,
            ..Behaviour::default()
        },
    );
    fake.script(
        "refused",
        Behaviour {
            refused: true,
            ..Behaviour::default()
        },
    );
    fake.script("/no/such", Behaviour::missing_entrypoint());
    fake.script(
        "/bin/sleep",
        Behaviour {
            on_term: OnTerm::Ignore,
            ..Behaviour::forever()
        },
    );
    let faked = script(&fake, "sha256:1").await;
    assert!(faked.contains(&"exited: Exited 3 true".to_owned()));

    let Some((engine, image)) = super::engine().await else {
        return;
    };
    assert_eq!(script(&engine, &image).await, faked);
}
