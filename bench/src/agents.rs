//! Simulated agents in a process of their own: the real agent over an engine in memory.
//!
//! The benchmark starts itself again with `agents …` and asks over the child's standard input, so that processor
//! time of agents is not counted as the coordinator's or the load's.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use muster_agent::runtime::fake::{Behaviour, FakeRuntime};
use muster_tests::gauge::Process;
use muster_tests::hosts::{SimulatedHost, disks};
use muster_tests::sample;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Tasks with this first argument take 20 ms; others end at once.
pub(crate) const BRIEF: &str = "brief";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`.
    #[arg(long)]
    coordinator: String,
    #[arg(long)]
    count: usize,
    /// Tasks at a time, of each.
    #[arg(long)]
    places: u32,
    /// Images, by their digests, that a registry has for them.
    #[arg(long = "image")]
    images: Vec<String>,
}

/// What the engines saw.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Starts {
    /// Containers started, ever.
    pub(crate) total: usize,
    /// Containers started more than once.
    pub(crate) twice: usize,
}

/// A container that an engine was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Creation {
    pub(crate) container: String,
    /// Microseconds since the Unix epoch.
    pub(crate) at: u64,
}

const STARTS: &str = "starts";
const CREATIONS: &str = "creations";

/// The child's side: runs until its input ends, and answers `starts` with [`Starts`], `creations` with all
/// [`Creation`]s since it was asked last.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let directory = disks();
    let mut hosts: Vec<SimulatedHost> = Vec::with_capacity(args.count);
    for number in 0..args.count {
        let engine = engine(&args.images);
        let disk = directory.path();
        let mut host = SimulatedHost::new(number, args.places, &args.coordinator, disk, engine);
        host.start();
        hosts.push(host);
    }
    let (asked, mut questions) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if asked.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    while let Some(question) = questions.recv().await {
        if question == CREATIONS {
            let all = hosts.iter().flat_map(|host| host.engine.take_creations());
            let all: Result<Vec<Creation>, _> = all.map(creation).collect();
            println!("{}", serde_json::to_string(&all?)?);
            continue;
        }
        for host in &hosts {
            for (name, count) in host.engine.take_starts() {
                if count > 1 || seen.contains(&name) {
                    twice.insert(name.clone());
                }
                seen.insert(name);
            }
        }
        let starts = Starts {
            total: seen.len(),
            twice: twice.len(),
        };
        println!("{}", serde_json::to_string(&starts)?);
    }
    for host in &hosts {
        host.begin_to_stop();
    }
    for host in &mut hosts {
        host.stop().await;
    }
    Ok(())
}

fn creation((container, at): (String, SystemTime)) -> anyhow::Result<Creation> {
    let at = at.duration_since(UNIX_EPOCH)?.as_micros();
    let at = u64::try_from(at)?;
    Ok(Creation { container, at })
}

fn engine(images: &[String]) -> FakeRuntime {
    let engine = FakeRuntime::new();
    engine.note_creations();
    engine.publish(&sample::image(1).to_string());
    for image in images {
        engine.publish(image);
    }
    let takes = Duration::from_millis(20);
    let brief = Behaviour {
        takes,
        ..Behaviour::default()
    };
    engine.script(BRIEF, brief);
    engine
}

/// The parent's side.
pub(crate) struct Agents {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Agents {
    pub(crate) fn start(
        coordinator: &str,
        count: usize,
        places: u32,
        images: &[String],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["agents", "--coordinator", coordinator])
            .args(["--count", &count.to_string()])
            .args(["--places", &places.to_string()])
            .args(images.iter().map(|image| format!("--image={image}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the simulated agents can't be started")?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().context("the child has an output")?;
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(answers),
        })
    }

    pub(crate) fn starts(&mut self) -> anyhow::Result<Starts> {
        self.ask(STARTS)
    }

    /// Since the last call.
    pub(crate) fn creations(&mut self) -> anyhow::Result<Vec<Creation>> {
        self.ask(CREATIONS)
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &str) -> anyhow::Result<T> {
        let questions = self.questions.as_mut().context("the agents have ended")?;
        writeln!(questions, "{question}").context("the simulated agents are gone")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the simulated agents are gone");
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        // Its input ends, and so does the child.
        self.questions = None;
        let _ = self.child.wait();
    }
}
