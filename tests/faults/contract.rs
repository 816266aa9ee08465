//! One script against the engine in memory and a real one: what is tested with the former is worth no more
//! than what the two agree on. The rows are those of `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use muster_agent::runtime::{
    CreateError, EngineError, EngineEvent, KillError, Limits, LogsFrom, NewContainer, Runtime,
    Signal,
};
use muster_core::time::Timestamp;
use muster_tests::fleet::enabled;
use muster_tests::processes::eventually;

use self::host::{Host, InMemory, Program, Real};

mod host;

/// For one answer of a real engine on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, work).await;
    result.unwrap_or_else(|_| panic!("{what} took more than {PATIENCE:?}"))
}

/// What is over at the call was over in an earlier millisecond.
fn next_millisecond() -> Timestamp {
    let now = || u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("it is after 1970");
    let earlier = now();
    Timestamp(eventually("a tick of the clock", || {
        Some(now()).filter(|now| *now > earlier)
    }))
}

/// One run of the script.
struct Run<H> {
    host: H,
    dir: tempfile::TempDir,
    row: &'static str,
    /// By the test's own clock.
    daemon_start: Timestamp,
    /// What was seen, as words, in order.
    seen: Vec<String>,
}

impl<H: Host> Run<H> {
    fn note(&mut self, what: &str, how: impl Debug) {
        self.seen.push(format!("{} {what}: {how:?}", self.row));
    }

    fn start_daemon(&mut self, live_restore: bool) {
        self.daemon_start = next_millisecond();
        self.host.start_daemon(live_restore);
    }

    /// The container that plays this part in the row.
    fn container(&self, part: &str, program: Program) -> NewContainer {
        let name = format!("{}-{part}", self.row.to_lowercase());
        let run_dir = self.dir.path().join(&name);
        std::fs::create_dir_all(&run_dir).expect("the directory is ours");
        // Tasks are nobody.
        std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o777))
            .expect("the directory is ours");
        let user = match program {
            Program::NoUser => "nosuch",
            _ => "65532:65532",
        };
        NewContainer {
            labels: BTreeMap::from([("muster.agent".to_owned(), name.clone())]),
            name,
            image: self.host.image(),
            entrypoint: None,
            command: self.host.command(program),
            env: Vec::new(),
            workdir: None,
            user: user.to_owned(),
            limits: Limits {
                cpu_millis: 1000,
                memory_bytes: 64 << 20,
                pids: 64,
            },
            gpus: 0,
            network: None,
            writable_root: false,
            run_dir,
            cgroup_parent: None,
            init: None,
        }
    }

    async fn create(&self, part: &str, program: Program) -> NewContainer {
        let new = self.container(part, program);
        self.host
            .engine()
            .create(&new)
            .await
            .expect("the engine answers");
        new
    }

    /// Returns when the program is at work.
    async fn run(&self, part: &str, program: Program) -> NewContainer {
        let new = self.create(part, program).await;
        self.host
            .engine()
            .start(&new.name)
            .await
            .expect("the engine answers");
        self.host.settle(&new);
        new
    }

    async fn wait(&self, new: &NewContainer) {
        let ended = soon("an end", self.host.engine().wait(&new.name));
        ended.await.expect("the engine answers");
    }

    async fn note_state(&mut self, what: &str, new: &NewContainer) {
        let engine = self.host.engine();
        let found = engine
            .inspect(&new.name)
            .await
            .expect("the engine answers")
            .expect("it is there");
        let ended = found.finished.map(|at| {
            if at < self.daemon_start {
                "before the daemon's start"
            } else {
                "after it"
            }
        });
        let state = (
            found.seen,
            found.exit_code,
            found.oom_killed,
            found.started.is_some(),
            ended,
        );
        self.note(what, state);
    }

    /// Waits for its end, and notes it.
    async fn note_end(&mut self, what: &str, new: &NewContainer) {
        self.wait(new).await;
        self.note_state(what, new).await;
    }

    async fn a_start_that_nobody_waits_for(&mut self) {
        self.row = "E1";
        let new = self.create("quick", Program::Exits(0)).await;
        self.host.start_and_hang_up(&new.name).await;
        let engine = self.host.engine();
        soon("the start", async {
            while engine
                .inspect(&new.name)
                .await
                .expect("the engine answers")
                .expect("the engine answers")
                .started
                .is_none()
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.note_end("ran", &new).await;
    }

    async fn a_second_start(&mut self) {
        self.row = "E2";
        let long = self.run("long", Program::Ends(4)).await;
        let again = self.host.engine().start(&long.name).await;
        self.note("start of a running one", again.is_ok());
        self.host.let_end(&long, 4);
        self.note_end("ran", &long).await;
        let quick = self.run("quick", Program::Exits(3)).await;
        self.wait(&quick).await;
        let engine = self.host.engine();
        let first = engine
            .inspect(&quick.name)
            .await
            .expect("the engine answers")
            .expect("it is there");
        next_millisecond();
        engine.start(&quick.name).await.expect("the engine answers");
        self.wait(&quick).await;
        let second = self
            .host
            .engine()
            .inspect(&quick.name)
            .await
            .expect("the engine answers");
        self.note(
            "ran again",
            second.expect("it is there").started > first.started,
        );
        self.note_state("ran again", &quick).await;
    }

    async fn a_name_in_use(&mut self) {
        self.row = "E3";
        let new = self.create("name", Program::Exits(0)).await;
        let engine = self.host.engine().clone();
        let again = engine.create(&new).await;
        self.note("taken", matches!(again, Err(CreateError::NameTaken)));
        self.note_state("never started", &new).await;
        let listed = engine.list(&new.labels).await.expect("the engine answers");
        self.note("listed", listed.len());
        let killed = engine.kill(&new.name, Signal::Term).await;
        self.note("not running", matches!(killed, Err(KillError::NotRunning)));
        engine.remove(&new.name).await.expect("the engine answers");
        let found = engine.inspect(&new.name).await.expect("the engine answers");
        self.note("removed", found.is_none());
        let again = engine.remove(&new.name).await;
        self.note("what is not there is removed", again.is_ok());
        let unknown = engine
            .inspect_image("muster/none:1")
            .await
            .expect("the engine answers");
        self.note("unknown image", unknown.is_none());
    }

    /// Every request that the agent makes of containers.
    async fn nobody_answers(&mut self, new: &NewContainer) {
        let engine = self.host.engine().clone();
        let name = new.name.as_str();
        let unreachable = |error: &EngineError| matches!(error, EngineError::Unreachable { .. });
        let from = LogsFrom {
            follow: true,
            since: None,
        };
        let created = engine
            .create(&self.container("down", Program::Exits(0)))
            .await;
        let killed = engine.kill(name, Signal::Kill).await;
        let answers = [
            engine.ping().await.is_err_and(|error| unreachable(&error)),
            engine.engine().await.is_err_and(|e| unreachable(&e)),
            engine.inspect(name).await.is_err_and(|e| unreachable(&e)),
            engine.start(name).await.is_err_and(|e| unreachable(&e)),
            engine.wait(name).await.is_err_and(|e| unreachable(&e)),
            engine.remove(name).await.is_err_and(|e| unreachable(&e)),
            engine
                .list(&new.labels)
                .await
                .is_err_and(|e| unreachable(&e)),
            matches!(created, Err(CreateError::Engine(e)) if unreachable(&e)),
            matches!(killed, Err(KillError::Engine(e)) if unreachable(&e)),
            matches!(engine.logs(name, from).next().await, Some(Err(e)) if unreachable(&e)),
            matches!(engine.events(None).next().await, Some(Err(e)) if unreachable(&e)),
        ];
        self.note("unreachable", answers);
        self.note("start of the daemon", engine.daemon_started().await);
    }

    async fn the_daemon_is_killed(&mut self) {
        self.row = "E4";
        let stubborn = self.run("stubborn", Program::Ignores).await;
        let trapper = self.run("trapper", Program::Traps(0)).await;
        let (engine, name) = (self.host.engine().clone(), stubborn.name.clone());
        let waiting = tokio::spawn(async move { engine.wait(&name).await.is_err() });
        self.host.kill_daemon();
        let broken = soon("the end of a request", waiting)
            .await
            .expect("the engine answers");
        self.note("a request that waits ends with an error", broken);
        self.nobody_answers(&stubborn).await;
        self.start_daemon(false);
        self.note_end("ignores TERM", &stubborn).await;
        self.note_end("makes 0 of TERM", &trapper).await;
    }

    async fn ends_while_the_daemon_is_away(&mut self) {
        self.row = "E5";
        let new = self.run("ends", Program::Ends(7)).await;
        self.host.kill_daemon();
        self.host.let_end(&new, 7);
        self.start_daemon(false);
        self.note_end("ended", &new).await;
    }

    async fn the_daemon_is_stopped(&mut self) {
        self.row = "E6";
        let stubborn = self.run("stubborn", Program::Ignores).await;
        let obedient = self.run("obedient", Program::Obeys).await;
        let trapper = self.run("trapper", Program::Traps(0)).await;
        self.host.stop_daemon();
        self.start_daemon(true);
        self.note_end("ignores TERM", &stubborn).await;
        self.note_end("obeys TERM", &obedient).await;
        self.note_end("makes 0 of TERM", &trapper).await;
    }

    async fn containers_outlive_the_daemon(&mut self) {
        self.row = "E7";
        let info = self
            .host
            .engine()
            .engine()
            .await
            .expect("the engine answers");
        self.note("live-restore", info.live_restore);
        let stays = self.run("stays", Program::Obeys).await;
        let ends = self.run("ends", Program::Ends(5)).await;
        self.host.kill_daemon();
        self.host.let_end(&ends, 5);
        self.start_daemon(true);
        self.note_end("ended meanwhile", &ends).await;
        self.note_state("runs on after KILL", &stays).await;
        self.host.stop_daemon();
        self.start_daemon(true);
        self.note_state("runs on after TERM", &stays).await;
        let removed = self.host.engine().remove(&stays.name).await;
        self.note("can't be removed", removed.is_err());
        let engine = self.host.engine();
        engine
            .kill(&stays.name, Signal::Term)
            .await
            .expect("the engine answers");
        self.note_end("obeys TERM", &stays).await;
    }

    async fn the_power_is_cut(&mut self) {
        self.row = "E8";
        let new = self.run("runs", Program::Obeys).await;
        self.host.cut_power();
        self.start_daemon(false);
        self.note_end("was running", &new).await;
    }

    async fn too_much_memory(&mut self) {
        self.row = "E9";
        let main = self.create("main", Program::Oom).await;
        let child = self.create("child", Program::ChildOom).await;
        for (what, new) in [("the program", main), ("a child", child)] {
            self.host
                .engine()
                .start(&new.name)
                .await
                .expect("the engine answers");
            self.note_end(what, &new).await;
        }
    }

    async fn what_can_not_start(&mut self) {
        self.row = "E10";
        let refused = self.create("refused", Program::NoUser).await;
        let started = self.host.engine().start(&refused.name).await;
        self.note("refused", started.is_err());
        self.note_state("no such user", &refused).await;
        let missing = self.create("missing", Program::Missing).await;
        self.host
            .engine()
            .start(&missing.name)
            .await
            .expect("the engine answers");
        self.note_end("no such program", &missing).await;
        let from = LogsFrom {
            follow: false,
            since: None,
        };
        let mut words = self.host.engine().logs(&missing.name, from);
        let first = words
            .next()
            .await
            .expect("the engine answers")
            .expect("it is there");
        self.note("said", first.data.starts_with(b"[FATAL tini ("));
    }

    async fn the_disk_is_full(&mut self) {
        self.row = "E11";
        let new = self.run("runs", Program::Ends(3)).await;
        self.host.fill_disk(true);
        let another = self.container("another", Program::Exits(0));
        let refused = match self.host.engine().create(&another).await {
            Err(CreateError::Engine(EngineError::Refused { status, .. })) => Some(status),
            _ => None,
        };
        self.note("create is refused", refused);
        self.host.let_end(&new, 3);
        self.note_end("ended meanwhile", &new).await;
        self.host.fill_disk(false);
        let created = self.host.engine().create(&another).await;
        self.note("create with room again", created.is_ok());
    }

    async fn events_are_forgotten(&mut self) {
        self.row = "E12";
        let daemon = self.host.engine().daemon_started().await;
        let since = daemon.expect("it runs").at;
        let early = self.run("early", Program::Exits(0)).await;
        let told = self.ends(since, &early).await;
        let earlier = told.iter().any(|name| name == "e11-runs");
        self.note("remembers the row before", earlier);
        self.host.kill_daemon();
        self.start_daemon(false);
        let late = self.run("late", Program::Exits(0)).await;
        let told = self.ends(since, &late).await;
        self.note("after a restart", told);
    }

    /// The containers that the engine knows to have ended, up to this one.
    async fn ends(&self, since: Timestamp, last: &NewContainer) -> Vec<String> {
        self.wait(last).await;
        let mut events = self.host.engine().events(Some(since));
        let mut ends = Vec::new();
        while ends.last() != Some(&last.name) {
            match soon("an event", events.next()).await {
                Some(Ok(EngineEvent::Die { container })) => ends.push(container),
                Some(Ok(_)) => {}
                other => panic!("no event but {other:?}"),
            }
        }
        ends
    }
}

async fn script(host: impl Host, dir: &Path) -> Vec<String> {
    let mut run = Run {
        host,
        dir: tempfile::tempdir_in(dir).expect("the directory is ours"),
        row: "",
        daemon_start: Timestamp(0),
        seen: Vec::new(),
    };
    run.a_start_that_nobody_waits_for().await;
    run.a_second_start().await;
    run.a_name_in_use().await;
    run.the_daemon_is_killed().await;
    run.ends_while_the_daemon_is_away().await;
    run.the_daemon_is_stopped().await;
    run.containers_outlive_the_daemon().await;
    run.the_power_is_cut().await;
    run.too_much_memory().await;
    run.what_can_not_start().await;
    run.the_disk_is_full().await;
    run.events_are_forgotten().await;
    run.seen
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_in_memory_does_as_the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let faked = script(InMemory::new(), dir.path()).await;
    if !enabled() {
        return;
    }
    let real = script(Real::start(), dir.path()).await;
    println!("{}", real.join("\n"));
    assert_eq!(real, faked);
}
