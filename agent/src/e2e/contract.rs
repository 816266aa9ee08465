//! One script against the fake engine and the real one: the fake may only be trusted where they agree.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::plan::Seen;
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
        network: None,
        writable_root: false,
        run_dir: dir.to_owned(),
        cgroup_parent: None,
    }
}

/// What was seen, as words, in order.
async fn script(engine: &impl Runtime, image: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut note = |text: String| seen.push(text);
    let dir = tempfile::tempdir().unwrap();
    let name = format!("mu-contract-{}", uuid::Uuid::now_v7().simple());
    let state = async |name: &str| {
        let found = engine.inspect(name).await.unwrap();
        found.map_or("absent".to_owned(), |found| {
            format!(
                "{:?} {} {}",
                found.seen,
                found.exit_code,
                found.started.is_some()
            )
        })
    };
    note(state(&name).await);
    // A name in use is a conflict (E3).
    let new = container(&name, image, &["/bin/sh", "-c", "exit 3"], dir.path());
    engine.create(&new).await.unwrap();
    note(format!(
        "taken {}",
        matches!(engine.create(&new).await, Err(CreateError::NameTaken))
    ));
    note(state(&name).await);
    let labels = new.labels.clone();
    note(format!(
        "listed {}",
        engine.list(&labels).await.unwrap().len()
    ));
    // A signal for what doesn't run is told apart.
    let killed = engine.kill(&name, Signal::Term).await;
    note(format!(
        "not running {}",
        matches!(killed, Err(KillError::NotRunning))
    ));
    engine.start(&name).await.unwrap();
    engine.wait(&name).await.unwrap();
    note(state(&name).await);
    // A start of an exited container runs it again (E2).
    engine.start(&name).await.unwrap();
    engine.wait(&name).await.unwrap();
    note(state(&name).await);
    engine.remove(&name).await.unwrap();
    note(state(&name).await);
    // What is not there is removed.
    engine.remove(&name).await.unwrap();

    // What the engine can't start stays as it was created, with an error (E10).
    let mut refused = container(&name, image, &["refused"], dir.path());
    refused.user = "nosuch".to_owned();
    engine.create(&refused).await.unwrap();
    let started = engine.start(&name).await;
    note(format!(
        "refused {} {}",
        started.is_err(),
        state(&name).await
    ));
    engine.remove(&name).await.unwrap();

    // A program that is missing is the init process's to say.
    let missing = container(&name, image, &["/no/such"], dir.path());
    engine.create(&missing).await.unwrap();
    engine.start(&name).await.unwrap();
    engine.wait(&name).await.unwrap();
    let from = LogsFrom {
        follow: false,
        since: None,
    };
    let first = engine.logs(&name, from).next().await.unwrap().unwrap();
    let words = String::from_utf8_lossy(&first.data).into_owned();
    note(format!(
        "missing {} {}",
        words.starts_with("[FATAL tini ("),
        state(&name).await
    ));
    engine.remove(&name).await.unwrap();

    // What runs can't be removed; KILL ends it with 137.
    let sleeper = container(&name, image, &["/bin/sleep", "1000"], dir.path());
    engine.create(&sleeper).await.unwrap();
    engine.start(&name).await.unwrap();
    note(state(&name).await);
    note(format!("kept {}", engine.remove(&name).await.is_err()));
    engine.kill(&name, Signal::Kill).await.unwrap();
    engine.wait(&name).await.unwrap();
    note(state(&name).await);
    engine.remove(&name).await.unwrap();
    note(format!(
        "{:?}",
        engine
            .inspect_image("muster/none@sha256:0")
            .await
            .is_ok_and(|f| f.is_some())
    ));
    seen
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
    assert_eq!(faked[5], format!("{:?} 3 true", Seen::Exited));

    let Some((engine, image)) = super::engine().await else {
        return;
    };
    assert_eq!(script(&engine, &image).await, faked);
}
