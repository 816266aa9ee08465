//! The two engines, and what a test does to them from outside.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use muster_agent::runtime::docker::DockerRuntime;
use muster_agent::runtime::fake::{Behaviour, FakeRuntime, OnTerm, StartFault};
use muster_agent::runtime::{NewContainer, Runtime};
use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::IMAGE;
use muster_tests::processes::{eventually, output_of};

/// What a container does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program {
    Exits(i32),
    /// Waits until the test lets it end.
    Ends(i32),
    /// Runs until TERM.
    Obeys,
    Ignores,
    /// Makes this exit code of TERM.
    Traps(i32),
    /// It is killed for its memory.
    Oom,
    /// A child of it is, and it ends with 0.
    ChildOom,
    /// Its user is not in the image.
    NoUser,
    /// Nor is its program.
    Missing,
}

pub(super) trait Host {
    type Engine: Runtime;

    fn engine(&self) -> &Self::Engine;
    fn image(&self) -> String;
    fn command(&self, program: Program) -> Vec<String>;
    /// Returns when a program that was started is at work.
    fn settle(&self, new: &NewContainer);
    /// Returns when a program that waits for it has ended with this code.
    fn let_end(&self, new: &NewContainer, code: i32);
    /// A start whose caller is gone before the answer.
    async fn start_and_hang_up(&self, name: &str);

    fn kill_daemon(&mut self);
    fn stop_daemon(&mut self);
    fn cut_power(&mut self);
    fn start_daemon(&mut self, live_restore: bool);
    fn fill_disk(&mut self, full: bool);
}

pub(super) struct InMemory(FakeRuntime);

impl InMemory {
    pub(super) fn new() -> Self {
        let fake = FakeRuntime::new();
        fake.hold("sha256:1");
        Self(fake)
    }
}

fn behaviour(program: Program) -> Behaviour {
    let on_term = |on_term| Behaviour {
        on_term,
        ..Behaviour::forever()
    };
    let oom = |exit_code| Behaviour {
        exit_code,
        oom: true,
        ..Behaviour::default()
    };
    match program {
        Program::Exits(exit_code) => Behaviour {
            exit_code,
            ..Behaviour::default()
        },
        Program::Ends(_) | Program::Obeys => on_term(OnTerm::Die),
        Program::Ignores => on_term(OnTerm::Ignore),
        Program::Traps(code) => on_term(OnTerm::Exit(code)),
        Program::Oom => oom(137),
        Program::ChildOom => oom(0),
        Program::NoUser => Behaviour {
            refused: true,
            ..Behaviour::default()
        },
        Program::Missing => Behaviour::missing_entrypoint(),
    }
}

impl Host for InMemory {
    type Engine = FakeRuntime;

    fn engine(&self) -> &FakeRuntime {
        &self.0
    }

    fn image(&self) -> String {
        "sha256:1".to_owned()
    }

    fn command(&self, program: Program) -> Vec<String> {
        let word = format!("{program:?}");
        self.0.script(&word, behaviour(program));
        vec![word]
    }

    fn settle(&self, _new: &NewContainer) {}

    fn let_end(&self, new: &NewContainer, code: i32) {
        assert!(self.0.exit(&new.name, code), "it runs");
    }

    async fn start_and_hang_up(&self, name: &str) {
        self.0.fail_next_start(StartFault::HangUpAfterStarting);
        assert!(self.0.start(name).await.is_err(), "the caller is gone");
    }

    fn kill_daemon(&mut self) {
        self.0.kill_daemon();
    }

    fn stop_daemon(&mut self) {
        self.0.stop_daemon();
    }

    fn cut_power(&mut self) {
        self.0.cut_power();
    }

    fn start_daemon(&mut self, live_restore: bool) {
        self.0.start_daemon(live_restore);
    }

    fn fill_disk(&mut self, full: bool) {
        self.0.fill_disk(full);
    }
}

pub(super) struct Real {
    engine: PrivateEngine,
    runtime: DockerRuntime,
    image: String,
}

impl Real {
    pub(super) fn start() -> Self {
        let engine = PrivateEngine::start_on_small_disk("96m");
        let runtime = DockerRuntime::connect_to(&engine.socket()).expect("it listens");
        let format = ["image", "inspect", "--format", "{{.Id}}", IMAGE];
        let image = output_of(engine.docker().args(format));
        Self {
            engine,
            runtime,
            image,
        }
    }
}

impl Host for Real {
    type Engine = DockerRuntime;

    fn engine(&self) -> &DockerRuntime {
        &self.runtime
    }

    fn image(&self) -> String {
        self.image.clone()
    }

    fn command(&self, program: Program) -> Vec<String> {
        let forever = "touch /run/muster/ready; while :; do sleep 0.1; done";
        let script = match program {
            Program::Exits(code) => format!("touch /run/muster/ready; exit {code}"),
            Program::Ends(code) => format!(
                "touch /run/muster/ready; while [ ! -e /run/muster/go ]; do sleep 0.05; done; \
                 exit {code}"
            ),
            Program::Obeys => forever.to_owned(),
            Program::Ignores => format!("trap '' TERM; {forever}"),
            Program::Traps(code) => format!("trap 'exit {code}' TERM; {forever}"),
            Program::Oom => "exec tail /dev/zero".to_owned(),
            Program::ChildOom => "tail /dev/zero; exit 0".to_owned(),
            Program::NoUser => "exit 0".to_owned(),
            Program::Missing => return vec!["/no/such".to_owned()],
        };
        ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
    }

    fn settle(&self, new: &NewContainer) {
        let ready = new.run_dir.join("ready");
        eventually("the task running", || ready.exists().then_some(()));
        let format = ["inspect", "--format", "{{.State.Pid}}", &new.name];
        let pid = output_of(self.engine.docker().args(format));
        std::fs::write(new.run_dir.join("pid"), pid).expect("the directory is ours");
    }

    fn let_end(&self, new: &NewContainer, _code: i32) {
        std::fs::write(new.run_dir.join("go"), "").expect("the directory is ours");
        let pid = std::fs::read_to_string(new.run_dir.join("pid"));
        let process = Path::new("/proc").join(pid.expect("it was settled"));
        eventually("the task's end", || (!process.exists()).then_some(()));
    }

    async fn start_and_hang_up(&self, name: &str) {
        let request = format!(
            "POST /containers/{name}/start HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
        );
        let mut socket = UnixStream::connect(self.engine.socket()).expect("dockerd listens");
        socket.write_all(request.as_bytes()).expect("it is read");
    }

    fn kill_daemon(&mut self) {
        self.engine.kill();
    }

    fn stop_daemon(&mut self) {
        self.engine.terminate();
    }

    fn cut_power(&mut self) {
        self.engine.crash();
    }

    fn start_daemon(&mut self, live_restore: bool) {
        self.engine.set_live_restore(live_restore);
        self.engine.start_again();
    }

    fn fill_disk(&mut self, full: bool) {
        let ballast = self.engine.data_root().join("ballast");
        if full {
            // It ends when nothing more fits.
            let mut file = std::fs::File::create(ballast).expect("the file itself fits");
            while file.write_all(&[0; 4096]).is_ok() {}
        } else {
            std::fs::remove_file(ballast).expect("it was made");
        }
    }
}
