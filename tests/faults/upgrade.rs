//! Daemons that are replaced one after another while tasks run and clients ask: no task notices, and a client that
//! asks again gets its answer. With the same version, and with an earlier one on either side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::cluster::{is_away, submission};
use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Binaries, Fleet, IMAGE, binary, enabled};
use muster_tests::history::{Expected, History};
use muster_tests::ledger::SAY;
use muster_tests::processes::PATIENCE;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const AGENTS: [&str; 3] = ["a1", "a2", "a3"];
const DRAINED: &str = "a3";
const CLIENTS: usize = 3;
/// As `docs/operations.md` tells clients: so long, and no longer between two tries.
const INSIST: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);
/// Between two calls of a client.
const PACE: Duration = Duration::from_millis(50);
/// Looks at a job before the next one is submitted, so that the queue stays short.
const LOOKS: u64 = 16;
/// After everything that is replaced once, so that what is new has worked for a while.
const QUIET: Duration = Duration::from_secs(1);

/// What clients saw.
#[derive(Debug, Default)]
struct Asked {
    jobs: Vec<String>,
    calls: u64,
    /// Calls that were made again, each time counted.
    again: u64,
}

/// Calls until there is an answer, as clients should.
async fn insist<T, F: Future<Output = Result<T, Status>>>(
    asked: &mut Asked,
    mut call: impl FnMut() -> F,
) -> T {
    asked.calls += 1;
    let began = Instant::now();
    let mut turns = tokio::time::interval(AGAIN);
    loop {
        turns.tick().await;
        match call().await {
            Ok(answer) => return answer,
            Err(status) => {
                let passes = is_away(&status) || is_stopping(&status);
                assert!(
                    passes && began.elapsed() < INSIST,
                    "a call failed: {status}"
                );
                asked.again += 1;
            }
        }
    }
}

/// What the earlier version says to a call that meets its end; later ones say `UNAVAILABLE`.
fn is_stopping(status: &Status) -> bool {
    status.code() == Code::Internal && status.message().ends_with("was cancelled")
}

/// A client that submits jobs of one task each and looks at them.
async fn client(address: String, number: usize, stop: CancellationToken) -> Asked {
    let endpoint = Endpoint::from_shared(address).expect("it is an address");
    let jobs: JobServiceClient<Channel> = JobServiceClient::new(endpoint.connect_lazy());
    let mut asked = Asked::default();
    let mut turns = tokio::time::interval(PACE);
    while !stop.is_cancelled() {
        turns.tick().await;
        let key = format!("client-{number}-{}", asked.jobs.len());
        let seconds = 1 + asked.jobs.len() % 5;
        let answer = insist(&mut asked, || {
            let mut jobs = jobs.clone();
            let request = submission(spec(seconds), 1, &key);
            async move { jobs.submit(request).await }
        })
        .await;
        let job = answer.into_inner().jobs.pop().and_then(|one| one.job);
        let job = job.expect("the job is in the answer").id;
        for _ in 0..LOOKS {
            turns.tick().await;
            insist(&mut asked, || {
                let mut jobs = jobs.clone();
                let request = pb::GetJobRequest {
                    id: job.clone(),
                    ..Default::default()
                };
                async move { jobs.get(request).await }
            })
            .await;
        }
        asked.jobs.push(job);
    }
    asked
}

fn spec(seconds: usize) -> pb::JobSpec {
    let script = format!("{SAY}say start; echo begin; sleep {seconds}; echo finish; say end");
    pb::JobSpec {
        name: "load".into(),
        image: IMAGE.into(),
        pull: pb::PullPolicy::Never.into(),
        command: ["sh", "-c", &script].map(str::to_owned).into(),
        network: pb::Network::None.into(),
        resources: Some(pb::Resources {
            cpu_millis: 10,
            memory_bytes: 16 << 20,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One daemon after the other, each by an orderly end and a new process.
fn replace(fleet: &mut Fleet, what: &str) {
    if what == "coordinator" {
        assert_eq!(fleet.coordinator().terminate(), Some(0), "{what}");
        fleet.start_coordinator();
    } else {
        // One of them is emptied before: also then nothing is cut off.
        let drained = what == DRAINED;
        if drained {
            fleet.ok(&["agent", "drain", what, "--reason", "replace", "--wait"]);
            // The drain of an earlier coordinator does not wait for output.
            fleet.wait_for_no_attempts(what);
        }
        assert_eq!(fleet.agent(what).terminate(), Some(0), "{what}");
        fleet.start_agent(what);
        if drained {
            fleet.ok(&["agent", "uncordon", what]);
        }
    }
    std::thread::park_timeout(QUIET);
    fleet.wait_for_agents(AGENTS.len());
}

/// Works while the daemons become those of `steps`, in turn.
fn replaced_under_load(
    what: &str,
    before: Binaries,
    steps: &[(Binaries, &[&str])],
    expected: Expected,
) {
    let engine = PrivateEngine::start(false);
    let host = engine.host();
    let flags = ["--heartbeat", "1s"];
    let mut fleet = Fleet::start_of(before, AGENTS.len(), &flags, &[("DOCKER_HOST", &host)]);
    let began = Instant::now();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let stop = CancellationToken::new();
    let address = format!("http://{}", fleet.grpc);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| runtime.spawn(client(address.clone(), number, stop.clone())))
        .collect();
    std::thread::park_timeout(QUIET);
    for (binaries, daemons) in steps {
        fleet.upgrade_to(binaries.clone());
        for daemon in *daemons {
            replace(&mut fleet, daemon);
        }
    }
    stop.cancel();
    let mut asked = Asked::default();
    for client in clients {
        let Asked { jobs, calls, again } = runtime.block_on(client).expect("every call succeeded");
        asked.jobs.extend(jobs);
        asked.calls += calls;
        asked.again += again;
    }
    for job in &asked.jobs {
        let ended = fleet.muster(&["wait", job]).status.code();
        assert_eq!(ended, Some(0), "{job}");
    }
    fleet.wait_for_no_containers();
    for agent in AGENTS {
        fleet.wait_for_no_attempts(agent);
    }
    let mut history = History::default();
    for job in &asked.jobs {
        history.add(&fleet, engine.ledger(), job, expected);
        let log = fleet.ok(&["logs", &format!("{job}.0")]);
        if log != "begin\nfinish" {
            history.violations.push(format!("{job}.0 said {log:?}"));
        }
    }
    println!(
        "{what}: {:.0} s, {} calls, {} made again",
        began.elapsed().as_secs_f64(),
        asked.calls,
        asked.again
    );
    history.judge(what);
}

const ALL: [&str; 6] = [
    "coordinator",
    "a1",
    "coordinator",
    "a2",
    "coordinator",
    "a3",
];

#[test]
fn replacing_every_daemon_disturbs_no_task_and_no_client() {
    if !enabled() {
        return;
    }
    let same = Binaries::default();
    replaced_under_load(
        "same version",
        same.clone(),
        &[(same, &ALL)],
        Expected::FirstAttempt,
    );
}

/// An agent of the earlier version that is stopped may cut off a start that it is asking for.
const FROM_EARLIER: Expected = Expected::FirstStart;

/// The binary of an earlier version. `None`: it says why not.
fn previous() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/previous");
    let output = Command::new(script).output().expect("it can be run");
    if !output.status.success() {
        eprint!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn both(path: &Path) -> Binaries {
    Binaries {
        coordinator: path.to_owned(),
        agents: path.to_owned(),
    }
}

#[test]
fn an_upgrade_coordinator_first_disturbs_no_task_and_no_client() {
    let Some(old) = enabled().then(previous).flatten() else {
        return;
    };
    // Old agents stay with the new coordinator for a while, and are replaced, too.
    let mixed = Binaries {
        coordinator: binary(),
        agents: old.clone(),
    };
    let steps: [(Binaries, &[&str]); 2] = [
        (mixed, &["coordinator", "a1"]),
        (both(&binary()), &["a1", "a2", "a3"]),
    ];
    replaced_under_load("coordinator first", both(&old), &steps, FROM_EARLIER);
}

#[test]
fn an_upgrade_agents_first_and_back_disturbs_no_task_and_no_client() {
    let Some(old) = enabled().then(previous).flatten() else {
        return;
    };
    // New agents with an old coordinator; one of them goes back, after a drain: an earlier agent does not find the
    // output of containers that a later one started.
    let mixed = Binaries {
        coordinator: old.clone(),
        agents: binary(),
    };
    let steps: [(Binaries, &[&str]); 3] = [
        (mixed, &["a1", "a3", "coordinator"]),
        (both(&old), &["a3"]),
        (both(&binary()), &["a2", "coordinator", "a3"]),
    ];
    replaced_under_load("agents first", both(&old), &steps, FROM_EARLIER);
}

#[test]
fn an_older_coordinator_leaves_a_newer_store_alone() {
    let Some(old) = enabled().then(previous).flatten() else {
        return;
    };
    let mut fleet = Fleet::start(1);
    let job = fleet.submit(&[], &["true"]);
    assert!(fleet.muster(&["wait", &job]).status.success());
    assert_eq!(fleet.coordinator().terminate(), Some(0));
    fleet.upgrade_to(both(&old));
    fleet.launch_coordinator(&[]);
    let deadline = Instant::now() + PATIENCE;
    while fleet.coordinator().is_running() {
        assert!(Instant::now() < deadline, "it serves a store it can't know");
        std::thread::park_timeout(AGAIN);
    }
    let said = fleet.coordinator().tail();
    assert!(said.contains("newer"), "{said}");
    fleet.upgrade_to(both(&binary()));
    fleet.start_coordinator();
    assert_eq!(fleet.json(&["job", "get", &job])["outcome"], "succeeded");
    fleet.wait_for_agents(1);
}
