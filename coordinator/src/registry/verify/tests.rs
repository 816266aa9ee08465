use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::registry::fake::FakeRegistry;

use super::*;

fn allowing(allowed: &[&str]) -> Verified {
    let config = Config {
        allowed_repositories: allowed.iter().map(|text| (*text).to_owned()).collect(),
        ..Config::default()
    };
    Verified::new(Arc::new(FakeRegistry::default()), &config)
}

async fn answer(script: &str) -> Result<Facts, ResolveError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verify");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    ask(&path).await
}

async fn ask(command: &Path) -> Result<Facts, ResolveError> {
    let config = Config {
        verify_command: Some(command.to_owned()),
        ..Config::default()
    };
    let registry = FakeRegistry::default();
    let carried = Facts {
        revision: "8f2c1aa".to_owned(),
        ..Facts::default()
    };
    registry.label(Digest::from_bytes([1; 32]), carried);
    let registry = Arc::new(registry);
    let verified = Verified::new(registry.clone(), &config);
    let repository: Repository = "registry.example/acme/etl".parse().unwrap();
    let facts = verified
        .facts((&repository).into(), Digest::from_bytes([1; 32]))
        .await;
    let taken = facts.as_ref().is_ok_and(|facts| facts.objection.is_none());
    let read = usize::from(taken);
    assert_eq!(
        registry.read(),
        read,
        "only what was taken is read: {facts:?}"
    );
    facts
}

#[tokio::test]
async fn only_allowed_registries_and_repositories_are_asked() {
    let some = allowing(&["registry.example:5000", "ghcr.io/acme"]);
    for (name, allowed) in [
        ("registry.example:5000/anything/at/all", true),
        ("ghcr.io/acme/etl", true),
        ("ghcr.io/acme", true),
        ("ghcr.io/acme-evil/etl", false),
        ("ghcr.io/other/etl", false),
        ("registry.example/etl", false),
    ] {
        let repository: Repository = name.parse().unwrap();
        let facts = some
            .facts((&repository).into(), Digest::from_bytes([1; 32]))
            .await;
        assert_eq!(facts.is_ok(), allowed, "{name}");
        assert_eq!(some.check(&repository).is_ok(), allowed, "{name}");
    }
    let error = some
        .check(&"ghcr.io/other/etl".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ghcr.io/other/etl is not among the repositories that the coordinator allows: \
         registry.example:5000, ghcr.io/acme"
    );
    assert!(
        allowing(&[])
            .check(&"docker.io/library/busybox".parse().unwrap())
            .is_ok()
    );
}

#[tokio::test]
async fn the_exit_code_decides_and_the_output_is_the_reason() {
    let good = answer("echo signed by ann: $1 = $MUSTER_IMAGE, $2 = $MUSTER_DIGEST")
        .await
        .unwrap();
    let digest = Digest::from_bytes([1; 32]);
    let image = format!("registry.example/acme/etl@{digest}");
    let said = format!("signed by ann: {image} = {image}, {digest} = {digest}");
    assert_eq!((good.accepted, good.objection), (said, None));
    assert_eq!(good.revision, "8f2c1aa");
    let bad = answer("echo no signature >&2; exit 1").await.unwrap();
    assert_eq!(bad.objection.as_deref(), Some("no signature"));
    assert_eq!(bad.revision, "");
    let silent = answer("exit 3").await.unwrap().objection.unwrap();
    assert!(
        silent.ends_with("verify refused it with exit code 3"),
        "{silent}"
    );
}

#[tokio::test]
async fn output_without_end_is_cut_and_holds_nothing_up() {
    let good = answer("head -c 1000000 /dev/zero | tr '\\0' x")
        .await
        .unwrap();
    assert_eq!(good.accepted.len(), 512);
}

#[tokio::test]
async fn what_gives_no_verdict_neither_takes_nor_refuses() {
    let killed = answer("kill -9 $$").await.unwrap_err();
    assert!(
        killed.is_transient() && killed.to_string().contains("by a signal"),
        "{killed}"
    );
    let missing = ask(Path::new("/nonexistent/verify")).await.unwrap_err();
    assert!(missing.is_transient(), "{missing}");
}

/// As `/proc` has it; a zombie has ended.
fn runs(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn what_the_program_started_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, told) = (
        directory.path().join("verify"),
        directory.path().join("told"),
    );
    let script = format!(
        "#!/bin/sh\nsleep 1000 &\necho $! >{told}.new\nmv {told}.new {told}\nwait\n",
        told = told.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut asking = Box::pin(ask(&path));
    let deadline = std::time::Instant::now() + Duration::from_secs(25);
    let wait = async |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(std::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let has_told = || told.exists();
    tokio::select! {
        verdict = &mut asking => panic!("{verdict:?}"),
        () = wait("the program tells what it started", &has_told) => {}
    }
    let started = std::fs::read_to_string(&told).unwrap();
    let started = started.trim();
    assert!(runs(started));
    drop(asking);
    wait("it is killed", &|| !runs(started)).await;
}
