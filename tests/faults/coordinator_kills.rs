//! A coordinator that is killed every few seconds while jobs are submitted: what it acknowledged is
//! stored, and ends once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_agent::runtime::fake::FakeRuntime;
use muster_proto::v1 as pb;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::cluster::{is_away, spec, submission};
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::random::Rng;
use muster_tests::sample;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};

/// Clients that submit at the same time.
const CLIENTS: usize = 4;
const AGENTS: usize = 3;
/// From the start of the process to its first answer.
const SERVING: Duration = Duration::from_secs(5);
const DONE: Duration = Duration::from_secs(120);

fn jobs() -> usize {
    if crate::crash_points::long() {
        20_000
    } else {
        2_000
    }
}

fn pause(random: &mut Rng) -> Duration {
    let (from, to) = if crate::crash_points::long() {
        (5_000, 15_000)
    } else {
        (500, 2_500)
    };
    Duration::from_millis(random.between(from, to))
}

fn connect(address: &str) -> JobServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("it is an address");
    JobServiceClient::new(endpoint.connect_lazy())
}

/// Submits until it is acknowledged, and gives the job's id.
async fn insist(client: &mut JobServiceClient<Channel>, key: &str) -> String {
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    loop {
        turns.tick().await;
        let request = submission(spec(&sample::image(1).to_string(), "true"), 1, key);
        match client.submit(request).await {
            Ok(answer) => {
                let job = answer.into_inner().jobs.pop().and_then(|one| one.job);
                return job.expect("the job is in the answer").id;
            }
            Err(status) => assert!(
                is_away(&status),
                "a coordinator that dies refuses nothing: {status}"
            ),
        }
    }
}

/// All jobs there are, by id.
async fn stored(client: &mut JobServiceClient<Channel>) -> BTreeMap<String, pb::Job> {
    let mut all = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListJobsRequest {
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = client
            .list(request)
            .await
            .expect("the coordinator is there");
        let page = page.into_inner();
        all.extend(page.jobs.into_iter().map(|job| (job.id.clone(), job)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// Agents in this process, which outlive the coordinator.
struct Agents {
    engines: Vec<FakeRuntime>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Agents {
    fn start(fleet: &Fleet) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let engines: Vec<FakeRuntime> = (0..AGENTS)
            .map(|number| {
                let engine = FakeRuntime::new();
                engine.publish(&sample::image(1).to_string());
                let directory = fleet.directory.path().join(format!("fake{number}"));
                let vars = [
                    ("MUSTER_AGENT_COORDINATOR", format!("http://{}", fleet.grpc)),
                    ("MUSTER_AGENT_NAME", format!("fake{number}")),
                    ("MUSTER_AGENT_DATA_DIR", directory.display().to_string()),
                    ("MUSTER_AGENT_PLACES", "16".to_owned()),
                    ("MUSTER_AGENT_CPUS", "8".to_owned()),
                    ("MUSTER_AGENT_MEMORY", "8GiB".to_owned()),
                ];
                let vars = vars.map(|(name, value)| (name.to_owned(), value));
                let config = muster_agent::Config::parse(&BTreeMap::from(vars));
                let config = config.expect("the settings are good");
                tasks.spawn(muster_agent::run_with(engine.clone(), config, stop.clone()));
                engine
            })
            .collect();
        tasks.close();
        Self {
            engines,
            tasks,
            stop,
        }
    }

    /// How often each container was started.
    fn starts(&self) -> Vec<(String, u32)> {
        self.engines.iter().flat_map(FakeRuntime::starts).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_all_the_time_forgets_no_job() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start_with(0, &["--heartbeat", "1s"]);
    let address = format!("http://{}", fleet.grpc);
    let agents = Agents::start(&fleet);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = address.clone();
            tokio::spawn(async move {
                let mut jobs_of = connect(&address);
                let mut acknowledged = Vec::new();
                for number in (client..jobs()).step_by(CLIENTS) {
                    acknowledged.push(insist(&mut jobs_of, &format!("key-{number}")).await);
                }
                acknowledged
            })
        })
        .collect();

    let (begin, mut random) = (Instant::now(), Rng::new(6, "kills"));
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        std::thread::park_timeout(pause(&mut random));
        fleet.coordinator().kill();
        let started = Instant::now();
        fleet.start_coordinator();
        fleet.ok(&["version"]);
        slowest = slowest.max(started.elapsed());
        kills += 1;
    }
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(client.await.expect("the client does not panic"));
    }
    assert_eq!(acknowledged.len(), jobs(), "no two keys share a job");

    let mut client = connect(&address);
    let deadline = Instant::now() + DONE;
    let mut looks = tokio::time::interval(Duration::from_millis(200));
    let all = loop {
        looks.tick().await;
        let all = stored(&mut client).await;
        let open = all
            .values()
            .filter(|job| job.state() != pb::JobState::Ended);
        match open.count() {
            0 => break all,
            open => assert!(Instant::now() < deadline, "{open} jobs have not ended"),
        }
    };
    let ids: BTreeSet<String> = all.keys().cloned().collect();
    assert_eq!(ids, acknowledged, "what is stored is what was acknowledged");
    for job in all.values() {
        let counts = job.counts.unwrap_or_default();
        assert_eq!((counts.succeeded, counts.retries), (1, 0), "{job:?}");
    }
    let starts = agents.starts();
    assert!(starts.iter().all(|(_, count)| *count == 1), "started twice");
    assert_eq!(starts.len(), jobs(), "one container for each job");
    println!(
        "{} jobs over {kills} kills in {:.0} s; slowest restart to serving {:.1} s",
        jobs(),
        begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    assert!(slowest <= SERVING, "a restart took {slowest:?}");
    agents.stop.cancel();
    agents.tasks.wait().await;
}
