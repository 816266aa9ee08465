//! A coordinator as its users run it, with simulated agents, and what a lap of tasks on it costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_service_client::AgentServiceClient;
use muster_proto::v1::channel_service_client::ChannelServiceClient;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::cluster;
use muster_tests::fleet::{Binaries, Fleet};
use muster_tests::gauge::Process;
use muster_tests::sample;
use tonic::transport::{Channel, Endpoint};

use crate::agents::{Agents, Creation, Starts};
use crate::profile::{Profile, Sides, Used};

/// Between two looks at whether something has happened; what is measured takes hundreds of times as long.
const LOOK: Duration = Duration::from_millis(10);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(600);
const ANSWER_MAX: usize = 64 << 20;
const PAGE: u32 = 1_000;

/// How many agents, with how many places each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) agents: usize,
    pub(crate) places: u32,
}

impl Size {
    /// Enough places to keep two cores busy; one process holds the files of all of them open.
    pub(crate) const USUAL: Self = Self {
        agents: 8,
        places: 32,
    };
    pub(crate) const NONE: Self = Self {
        agents: 0,
        places: 0,
    };
}

pub(crate) struct Stand {
    pub(crate) fleet: Fleet,
    pub(crate) agents: Option<Agents>,
    channel: Channel,
    /// By `submit_jobs`.
    queued: u32,
    /// Starts that earlier laps account for.
    started: usize,
}

/// Tasks from their submission until all were ended and known to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lap {
    pub(crate) tasks: u32,
    pub(crate) took: Duration,
    pub(crate) used: Sides,
}

impl Lap {
    /// Tasks a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.tasks) / self.took.as_secs_f64()
    }

    /// Microseconds of processor time a task: the coordinator's and the agents'.
    pub(crate) fn cpu(&self) -> (f64, f64) {
        let each = |used: Used| used.busy.as_secs_f64() * 1e6 / f64::from(self.tasks);
        (each(self.used.coordinator), each(self.used.agents))
    }

    pub(crate) fn profile(&self) -> Profile {
        self.used.over(self.took)
    }
}

impl Stand {
    /// The coordinator keeps its data on `disk`, or where temporary files go.
    pub(crate) async fn start(size: Size, disk: Option<&Path>) -> anyhow::Result<Self> {
        // Warnings only, as the other side of the comparisons does by itself.
        let environment = [("MUSTER_LOG", "warn")];
        let fleet = tokio::task::block_in_place(|| match disk {
            None => Fleet::start_in(0, &[], &environment),
            Some(disk) => Fleet::start_on(disk, Binaries::default(), 0, &[], &environment),
        });
        let mut stand = Self {
            channel: connect(&fleet.grpc)?,
            fleet,
            agents: None,
            queued: 0,
            started: 0,
        };
        stand.add_agents(size).await?;
        Ok(stand)
    }

    /// Starts simulated agents and waits until all are online.
    pub(crate) async fn add_agents(&mut self, size: Size) -> anyhow::Result<()> {
        self.add_agents_with(size, &[]).await
    }

    /// The same with more images for them.
    pub(crate) async fn add_agents_with(
        &mut self,
        size: Size,
        images: &[String],
    ) -> anyhow::Result<()> {
        if size.agents == 0 {
            return Ok(());
        }
        let agents = Agents::start(&self.fleet.grpc, size.agents, size.places, images)?;
        self.agents = Some(agents);
        until("all agents online", || async {
            Ok((self.online().await? == size.agents).then_some(()))
        })
        .await
    }

    pub(crate) async fn online(&self) -> anyhow::Result<usize> {
        let online = |agent: &&pb::Agent| agent.state() == pb::AgentState::Online;
        Ok(self.known_agents().await?.iter().filter(online).count())
    }

    /// From now on nothing starts.
    pub(crate) async fn cordon(&self) -> anyhow::Result<()> {
        for pb::Agent { id: agent, .. } in self.known_agents().await? {
            let reason = "the other side has its turn".to_owned();
            let request = pb::CordonRequest { agent, reason };
            self.agent_service().cordon(request).await?;
        }
        Ok(())
    }

    /// What waits may start again.
    pub(crate) async fn uncordon(&self) -> anyhow::Result<()> {
        for pb::Agent { id: agent, .. } in self.known_agents().await? {
            let request = pb::UncordonRequest { agent };
            self.agent_service().uncordon(request).await?;
        }
        Ok(())
    }

    async fn known_agents(&self) -> anyhow::Result<Vec<pb::Agent>> {
        let request = pb::ListAgentsRequest::default();
        Ok(self
            .agent_service()
            .list(request)
            .await?
            .into_inner()
            .agents)
    }

    fn agent_service(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    pub(crate) async fn channel(&self, name: &str) -> anyhow::Result<pb::Channel> {
        let request = pb::GetChannelRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let mut client = ChannelServiceClient::new(self.channel.clone());
        Ok(client.get(request).await?.into_inner())
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// A connection of its own, as another client has.
    pub(crate) fn another_client(&self) -> anyhow::Result<JobServiceClient<Channel>> {
        Ok(JobServiceClient::new(connect(&self.fleet.grpc)?))
    }

    pub(crate) fn coordinator(&mut self) -> Process {
        Process(self.fleet.coordinator().pid())
    }

    /// So far.
    pub(crate) fn used(&mut self) -> Sides {
        let agents = self.agents.as_ref().map(Agents::process);
        Sides::by(self.coordinator(), agents)
    }

    /// One array job, from its submission to its end; checked. Nothing else may run.
    pub(crate) async fn array(&mut self, tasks: u32) -> anyhow::Result<Lap> {
        let lap = self.array_of(spec("none"), tasks).await?;
        self.check_starts(tasks)?;
        Ok(lap)
    }

    /// The same while other jobs may run.
    pub(crate) async fn array_of(&mut self, spec: pb::JobSpec, tasks: u32) -> anyhow::Result<Lap> {
        let (before, began) = (self.used(), Instant::now());
        let id = submit(&mut self.jobs(), spec, tasks).await?;
        until("the array's end", || async {
            Ok((self.job(&id).await?.state() == pb::JobState::Ended).then_some(()))
        })
        .await?;
        let took = began.elapsed();
        let lap = self.lap(tasks, took, before);
        self.check_array(&id, tasks).await?;
        Ok(lap)
    }

    pub(crate) fn lap(&mut self, tasks: u32, took: Duration, before: Sides) -> Lap {
        let used = self.used().since(before);
        Lap { tasks, took, used }
    }

    pub(crate) async fn job(&self, id: &str) -> anyhow::Result<pb::Job> {
        let request = pb::GetJobRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        Ok(self.jobs().get(request).await?.into_inner())
    }

    /// Submits so many jobs of one task, a number of them in each request.
    pub(crate) async fn submit_jobs(&mut self, count: u32, request: u32) -> anyhow::Result<()> {
        let mut client = self.jobs();
        for first in (0..count).step_by(usize::try_from(request)?) {
            let job = pb::NewJob {
                spec: Some(spec("none")),
                ..Default::default()
            };
            let jobs = vec![job; usize::try_from(request.min(count - first))?];
            let all = pb::SubmitRequest {
                jobs,
                ..Default::default()
            };
            client.submit(all).await?;
        }
        self.queued += count;
        Ok(())
    }

    /// How many of those jobs have not started, if nothing else has.
    pub(crate) fn left(&mut self) -> anyhow::Result<u32> {
        let started = u32::try_from(self.starts()?.total)?;
        Ok(self.queued.saturating_sub(started))
    }

    /// The first page of the list of all jobs, as `muster ps -a` shows it; gives how many it names.
    pub(crate) async fn first_page(&self) -> anyhow::Result<usize> {
        let page = self.jobs().list(pb::ListJobsRequest::default()).await?;
        Ok(page.into_inner().jobs.len())
    }

    /// To the next coordinator on the same address.
    pub(crate) fn reconnect(&mut self) -> anyhow::Result<()> {
        self.channel = connect(&self.fleet.grpc)?;
        Ok(())
    }

    /// Waits until no job is open.
    pub(crate) async fn all_ended(&self) -> anyhow::Result<()> {
        until("the end of all jobs", || async {
            let states = vec![pb::JobState::Pending.into(), pb::JobState::Running.into()];
            let request = pb::ListJobsRequest {
                states,
                page_size: 1,
                ..Default::default()
            };
            let open = self.jobs().list(request).await?.into_inner().jobs;
            Ok(open.is_empty().then_some(()))
        })
        .await
    }

    /// Every task of the array succeeded, at its first attempt, and is there once.
    async fn check_array(&self, id: &str, tasks: u32) -> anyhow::Result<()> {
        let counts = self.job(id).await?.counts.unwrap_or_default();
        ensure!(
            counts.succeeded == tasks && counts.retries == 0,
            "of {tasks} tasks: {counts:?}"
        );
        let mut request = pb::ListTasksRequest {
            job: id.to_owned(),
            page_size: PAGE,
            ..Default::default()
        };
        let mut next = 0;
        loop {
            let page = self.jobs().list_tasks(request.clone()).await?.into_inner();
            for task in page.tasks {
                ensure!(
                    task.index == next && task.attempt == 1,
                    "after task {next}: {task:?}"
                );
                next += 1;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        ensure!(next == tasks, "{next} of {tasks} tasks are in the record");
        Ok(())
    }

    /// So many jobs of one task succeeded, at their first attempt, since the stand began.
    pub(crate) async fn check_jobs(&self, jobs: u32) -> anyhow::Result<()> {
        let mut request = pb::ListJobsRequest {
            name: "load".into(),
            page_size: PAGE,
            ..Default::default()
        };
        let mut seen = 0;
        loop {
            let page = self.jobs().list(request.clone()).await?.into_inner();
            for job in page.jobs {
                let counts = job.counts.unwrap_or_default();
                ensure!(
                    counts.succeeded == 1 && counts.retries == 0,
                    "job {}: {counts:?}",
                    job.id
                );
                seen += 1;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        ensure!(seen == jobs, "{seen} of {jobs} jobs are in the record");
        Ok(())
    }

    /// The engines started so many containers since the last look, none of them twice.
    pub(crate) fn check_starts(&mut self, tasks: u32) -> anyhow::Result<()> {
        let starts = self.starts()?;
        let new = starts.total - self.started;
        ensure!(
            u32::try_from(new) == Ok(tasks) && starts.twice == 0,
            "{new} containers were started for {tasks} tasks, {} of them twice",
            starts.twice
        );
        self.started = starts.total;
        Ok(())
    }

    /// What the engines started so far.
    pub(crate) fn starts(&mut self) -> anyhow::Result<Starts> {
        let Some(agents) = &mut self.agents else {
            bail!("without agents nothing starts");
        };
        agents.starts()
    }

    /// Containers that the engines were asked for since the last look.
    pub(crate) fn creations(&mut self) -> anyhow::Result<Vec<Creation>> {
        let agents = self.agents.as_mut();
        agents.context("without agents nothing starts")?.creations()
    }

    /// Agents first, so that none sees its coordinator vanish.
    pub(crate) fn stop(mut self) {
        self.agents = None;
        tokio::task::block_in_place(|| self.fleet.coordinator().terminate());
    }
}

pub(crate) fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.timeout(PATIENCE).connect_lazy())
}

/// Submits one job and gives its id.
pub(crate) async fn submit(
    client: &mut JobServiceClient<Channel>,
    spec: pb::JobSpec,
    array: u32,
) -> anyhow::Result<String> {
    let answer = client.submit(cluster::submission(spec, array, "")).await?;
    let job = answer.into_inner().jobs.pop().and_then(|job| job.job);
    Ok(job.context("the answer names no job")?.id)
}

/// A job whose image is known by its digest, so that no registry is asked.
pub(crate) fn spec(word: &str) -> pb::JobSpec {
    cluster::spec(&sample::image(1).to_string(), word)
}

/// Looks until there is something to see.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut turns = tokio::time::interval(LOOK);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while Instant::now() < deadline {
        turns.tick().await;
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
    }
    bail!("not within {PATIENCE:?}: {what}")
}
