//! Rows about deploying: how soon a push is everywhere, and what it costs the tasks meanwhile.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use muster_proto::v1 as pb;
use muster_proto::v1::channel_service_client::ChannelServiceClient;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::cluster;
use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::Fleet;
use muster_tests::processes::{docker, free_address, output_of};
use muster_tests::registry::Registry;
use muster_tests::tag::Tag;
use tempfile::TempDir;

use super::{Aim, Goal, Plot, Row, Series};
use crate::docker::IMAGE;
use crate::profile::each_task;
use crate::samples::Samples;
use crate::stand::{Lap, Size, Stand, connect, submit, until};

pub(crate) const DEPLOY: Aim = Aim {
    row: "deploy",
    what: "push until the first task on the new image has started, over docker pull of as large a layer",
    unit: "x",
    goal: Goal::AtMost,
    bar: 1.3,
    reach: None,
};
pub(crate) const EVERYWHERE: Aim = Aim {
    row: "deploy-1000",
    what: "webhook until 1,000 simulated agents hold the image and the release is promoted",
    unit: "ms",
    goal: Goal::AtMost,
    bar: 500.0,
    reach: None,
};
pub(crate) const LOAD: Aim = Aim {
    row: "deploy-load",
    what: "tasks a second while one rollout follows another, over those without",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 0.95,
    reach: None,
};

const CHANNEL: &str = "followed";
/// Bytes of the layer that a push adds; they do not compress.
const LAYER: u32 = 10 << 20;
const AGENTS: usize = 1_000;
/// Tasks of a lap.
const TASKS: u32 = 20_000;
/// Between two pushes during a lap: the coordinator takes sixty webhooks a minute from one address.
const PUSHES: Duration = Duration::from_millis(1500);
/// More than are pushed in a lap.
const IMAGES: u64 = 500;

const EVERY_AGENT: &str = "prefetch: {enough_percent: 100%, at_a_time: 1000}";
const CANARY: &str = "{prefetch: {}, canary: {first: 20, sample: 10, patience: 1m}}";

/// A registry of its own, followed by a channel of the stand.
struct Followed {
    tag: Tag,
    hook: String,
    pushed: u64,
}

impl Followed {
    async fn by(stand: &mut Stand, size: Size, policy: &str) -> anyhow::Result<Self> {
        let tag = Tag::serve();
        let images: Vec<String> = (1..=IMAGES).map(|number| tag.image(number)).collect();
        stand.add_agents_with(size, &images).await?;
        let repository = tag.repository();
        let manifest =
            format!("kind: Channel\nname: {CHANNEL}\nrepository: {repository}\npolicy: {policy}\n");
        let file = stand.fleet.directory.path().join("channel.yaml");
        std::fs::write(&file, manifest)?;
        let file = file.display().to_string();
        tokio::task::block_in_place(|| stand.fleet.ok(&["apply", "-f", &file]));
        let followed = Self {
            hook: format!("http://{}/webhook/generic", stand.fleet.http),
            tag,
            pushed: 1,
        };
        Ok(followed)
    }

    /// Moves the tag and tells of it.
    fn push(&mut self) {
        self.pushed += 1;
        self.tag.moves();
        let body = format!("{{\"image\": \"{}\"}}", self.tag.reference());
        let mut curl = Command::new("curl");
        output_of(curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--data",
            &body,
            &self.hook,
        ]));
    }

    fn digest(&self) -> String {
        let image = self.tag.image(self.pushed);
        image.rsplit('@').next().unwrap_or_default().to_owned()
    }
}

/// The policy wants every agent to hold the image before anything else, so the promotion is the proof.
pub(crate) async fn everywhere(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::NONE, None).await?;
    let size = Size {
        agents: AGENTS,
        places: 1,
    };
    let mut followed = Followed::by(&mut stand, size, &format!("{{{EVERY_AGENT}}}")).await?;
    let mut took = Vec::new();
    // The first finds the agents still busy with what the channel began with.
    for round in 0..=rounds {
        let began = Instant::now();
        tokio::task::block_in_place(|| followed.push());
        let digest = followed.digest();
        until("the release being promoted", || async {
            let at = stand.channel(CHANNEL).await?.current.unwrap_or_default();
            Ok((at.digest == digest).then_some(()))
        })
        .await?;
        if round > 0 {
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    stand.stop();
    let plots = vec![Plot {
        title: "a push until 1,000 agents hold it".into(),
        unit: "ms",
        series: vec![Series::new("muster", &took)],
    }];
    let detail = format!("{rounds} pushes, the pull itself takes no time");
    Ok(Row::measured(
        EVERYWHERE,
        &Samples::new(took),
        detail,
        plots,
    ))
}

/// Laps of one array with and without pushes, in turns.
pub(crate) async fn load(rounds: usize) -> anyhow::Result<Row> {
    let mut stand = Stand::start(Size::NONE, None).await?;
    let mut followed = Followed::by(&mut stand, Size::USUAL, CANARY).await?;
    let spec = || cluster::spec(CHANNEL, "none");
    stand.array_of(spec(), TASKS / 10).await?;
    stand.check_starts(TASKS / 10)?;
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order changes, so that neither side always has the longer history.
        let quiet_first = round.is_multiple_of(2);
        if quiet_first {
            quiet.push(stand.array_of(spec(), TASKS).await?);
        }
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let pusher = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                followed.push();
                std::thread::park_timeout(PUSHES);
            }
            followed
        });
        let lap = stand.array_of(spec(), TASKS).await;
        done.store(true, Ordering::Relaxed);
        pusher.thread().unpark();
        let back = tokio::task::block_in_place(|| pusher.join());
        followed = back.ok().context("a push failed")?;
        busy.push(lap?);
        if !quiet_first {
            quiet.push(stand.array_of(spec(), TASKS).await?);
        }
        stand.check_starts(2 * TASKS)?;
    }
    let pushes = followed.pushed - 1;
    ensure!(
        pushes < IMAGES,
        "{pushes} pushes are more than there are images"
    );
    stand.stop();
    let why = each_task(("with rollouts", &busy), ("without", &quiet));
    let [busy, quiet] = [busy, quiet].map(|laps| laps.iter().map(Lap::rate).collect::<Vec<_>>());
    let ratios = busy.iter().zip(&quiet).map(|(busy, quiet)| busy / quiet);
    let ratios = Samples::new(ratios.collect());
    let plots = vec![Plot {
        title: "lifecycles with and without rollouts".into(),
        unit: "tasks/s",
        series: vec![
            Series::new("a push every 1.5 s", &busy),
            Series::new("no push", &quiet),
        ],
    }];
    let (busy, quiet) = (Samples::new(busy), Samples::new(quiet));
    let detail = format!(
        "{rounds} rounds: {:.0} tasks/s with {pushes} pushes in all, {:.0} without",
        busy.median(),
        quiet.median()
    );
    Ok(Row::measured(LOAD, &ratios, detail, plots).because(why))
}

/// Images that are built on an engine of their own, so that the one that pulls them has none of their layers.
struct Workshop {
    engine: PrivateEngine,
    registry: Registry,
    directory: TempDir,
}

impl Workshop {
    /// Builds an image with a new layer, and pushes it.
    fn push(&self, name: &str, word: &str) -> anyhow::Result<String> {
        let reference = format!("{}/acme/{name}:latest", self.registry.address);
        let context = self.directory.path();
        let mut random = Command::new("head");
        random.args(["--bytes", &LAYER.to_string(), "/dev/urandom"]);
        random.stdout(std::fs::File::create(context.join("layer"))?);
        ensure!(random.status()?.success(), "no random bytes");
        std::fs::write(context.join("word"), word)?;
        std::fs::write(
            context.join("Dockerfile"),
            format!("FROM {IMAGE}\nCOPY layer word /\nCMD [\"cat\", \"/word\"]\n"),
        )?;
        self.docker(&["build", "--quiet", "--tag", &reference, &path(context)]);
        self.docker(&["push", "--quiet", &reference]);
        Ok(reference)
    }

    fn docker(&self, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.env("DOCKER_BUILDKIT", "0");
        output_of(
            command
                .args(["--host", &self.engine.host()])
                .args(arguments),
        );
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// From the end of `docker push` until the first task on the new image has started, submitted when the image is in
/// force. The comparison has none of a start in it; `docker run` of what was pulled says how long one takes.
pub(crate) fn deploy(rounds: usize) -> anyhow::Result<Row> {
    let runtime = tokio::runtime::Handle::current();
    let fleet = Fleet::start(1);
    let workshop = Workshop {
        engine: PrivateEngine::start(false),
        registry: Registry::start(free_address(), Some(fleet.http), None),
        directory: tempfile::tempdir()?,
    };
    let reference = workshop.push(CHANNEL, "0")?;
    fleet.ok(&["channel", "set", CHANNEL, &reference]);
    runtime.block_on(begin_first(&fleet, 1, "0"))?;
    let (mut pulls, mut runs, mut ours, mut ratios) = (vec![], vec![], vec![], vec![]);
    for (round, release) in (1..=rounds).zip(2..) {
        let word = round.to_string();
        let plain = workshop.push("plain", &word)?;
        let began = Instant::now();
        docker(&["pull", "--quiet", &plain]);
        let pull = began.elapsed();
        docker(&["run", "--rm", "--network", "none", &plain]);
        runs.push((began.elapsed() - pull).as_secs_f64() * 1e3);
        docker(&["rmi", "--force", &plain]);

        workshop.push(CHANNEL, &word)?;
        let pushed = jiff::Timestamp::now();
        let started = runtime.block_on(begin_first(&fleet, release, &word))?;
        let took: Duration = started.duration_since(pushed).try_into()?;
        pulls.push(pull.as_secs_f64() * 1e3);
        ours.push(took.as_secs_f64() * 1e3);
        ratios.push(took.as_secs_f64() / pull.as_secs_f64());
    }
    let pulled = reference.trim_end_matches(":latest");
    let pulled = docker(&["images", "--quiet", "--no-trunc", pulled]);
    let pulled: Vec<&str> = pulled.lines().collect();
    docker(&[&["rmi", "--force"], &pulled[..]].concat());
    let plots = vec![Plot {
        title: "a push until its first task has started".into(),
        unit: "ms",
        series: vec![
            Series::new("muster", &ours),
            Series::new("docker pull", &pulls),
        ],
    }];
    let (pulls, runs, ours) = (Samples::new(pulls), Samples::new(runs), Samples::new(ours));
    let why = format!(
        "{:.0} ms more than the pull; docker run takes {:.0} more to start it",
        ours.median() - pulls.median(),
        runs.median()
    );
    let detail = format!(
        "{rounds} pushes of a 10 MiB layer: docker pull {:.0} ms (docker run of it {:.0}), muster {:.0} ms with the start",
        pulls.median(),
        runs.median(),
        ours.median()
    );
    Ok(Row::measured(DEPLOY, &Samples::new(ratios), detail, plots).because(why))
}

/// Submits a task when the release is in force, and says when it started. As a client that stays connected: commands
/// that look again and again would take the processors from what they wait for.
async fn begin_first(fleet: &Fleet, release: u64, word: &str) -> anyhow::Result<jiff::Timestamp> {
    let client = connect(&fleet.grpc)?;
    let mut jobs = JobServiceClient::new(client.clone());
    until("the release being in force", || async {
        let name = CHANNEL.to_owned();
        let team = String::new();
        let request = pb::GetChannelRequest { team, name };
        let mut channels = ChannelServiceClient::new(client.clone());
        let current = channels.get(request).await?.into_inner().current;
        Ok(current.filter(|current| current.number == release))
    })
    .await?;
    let spec = pb::JobSpec {
        command: Vec::new(),
        network: pb::Network::None.into(),
        resources: None,
        ..cluster::spec(CHANNEL, "")
    };
    let job = submit(&mut jobs, spec, 0).await?;
    until("the task's end", || async {
        let (team, id) = (String::new(), job.clone());
        let asked = jobs.clone().get(pb::GetJobRequest { team, id }).await?;
        Ok((asked.into_inner().state() == pb::JobState::Ended).then_some(()))
    })
    .await?;
    tokio::task::block_in_place(|| {
        let printed = fleet.ok(&["logs", &job]);
        ensure!(printed == word, "release {release} printed {printed:?}");
        let task = fleet.json(&["task", "get", &format!("{job}.0")]);
        let started = task["attempts"][0]["started"].as_str();
        Ok(started.context("it has not started")?.parse()?)
    })
}
