use muster_core::ids::{ChannelName, TeamName};

use crate::registry::fake::FakeRegistry;
use crate::registry::{ResolveError, TransportError};

use super::*;

type Told = (FollowedChannel, Digest, Cause);

#[derive(Default)]
struct Sink {
    channels: Mutex<Vec<FollowedChannel>>,
    told: Mutex<Vec<Told>>,
    /// What happens right after the next telling.
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl ChannelSink for Sink {
    fn channels(&self) -> BoxFuture<'_, Vec<FollowedChannel>> {
        let channels = self.channels.lock().unwrap().clone();
        Box::pin(async move { channels })
    }

    fn resolved(&self, channel: FollowedChannel, found: Found, cause: Cause) -> BoxFuture<'_, ()> {
        let Found { digest, facts: _ } = found;
        self.told.lock().unwrap().push((channel, digest, cause));
        if let Some(then) = self.then.lock().unwrap().take() {
            then();
        }
        Box::pin(async {})
    }
}

struct Rig {
    registry: Arc<FakeRegistry>,
    sink: Arc<Sink>,
    follower: Follower,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Rig {
    fn start(channels: &[&FollowedChannel]) -> Self {
        let registry = Arc::new(FakeRegistry::default());
        for channel in channels {
            registry.push(&channel.repository, &channel.tag, digest(1));
        }
        Self::with(registry, channels, Duration::from_secs(300))
    }

    fn with(
        registry: Arc<FakeRegistry>,
        channels: &[&FollowedChannel],
        interval: Duration,
    ) -> Self {
        let sink = Arc::new(Sink::default());
        *sink.channels.lock().unwrap() = channels.iter().map(|c| (*c).clone()).collect();
        let stop = CancellationToken::new();
        let (follower, task) = start(
            Config {
                interval,
                retries: [Duration::from_millis(1); 2],
            },
            registry.clone(),
            sink.clone(),
            Metrics::new(),
            stop.clone(),
        );
        Self {
            registry,
            sink,
            follower,
            stop,
            task,
        }
    }

    async fn told(&self, count: usize) -> Vec<Told> {
        self.until(|rig| rig.sink.told.lock().unwrap().len() >= count)
            .await;
        self.sink.told.lock().unwrap().clone()
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let poll = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let deadline = Duration::from_secs(20);
        tokio::time::timeout(deadline, poll).await.expect("in time");
    }
}

fn channel(name: &str, image: &str) -> FollowedChannel {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    FollowedChannel {
        id: ChannelId {
            team: TeamName::parse("default").unwrap(),
            name: ChannelName::parse(name).unwrap(),
        },
        repository: repository.parse().unwrap(),
        tag: Tag::parse(tag).unwrap(),
        current: None,
        following: Following::default(),
    }
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn hint(image: &str) -> Hint {
    let (repository, tag) = muster_core::image::split_tag(image);
    Hint {
        repository: repository.parse().unwrap(),
        tag: tag.map(|tag| Tag::parse(tag).unwrap()),
        any_host: false,
    }
}

fn unreachable() -> ResolveError {
    ResolveError::Unreachable {
        source: TransportError::TimedOut {
            after: Duration::from_secs(20),
        },
    }
}

#[tokio::test]
async fn the_first_poll_is_at_once_and_the_next_after_the_interval() {
    let etl = channel("etl", "reg.example/etl:latest");
    let registry = Arc::new(FakeRegistry::default());
    registry.push(&etl.repository, &etl.tag, digest(1));
    let interval = Duration::from_millis(100);
    let began = Instant::now();
    let rig = Rig::with(registry, &[&etl], interval);

    let told = rig.told(1).await;
    assert_eq!(told, [(etl.clone(), digest(1), Cause::Poll)]);

    rig.registry.push(&etl.repository, &etl.tag, digest(2));
    let told = rig.told(2).await;
    assert_eq!(told[1], (etl, digest(2), Cause::Poll));
    assert!(began.elapsed() >= interval.mul_f64(0.9));
}

#[tokio::test]
async fn a_hint_makes_a_look_at_the_matching_channels_only() {
    let etl = channel("etl", "reg.example/etl:latest");
    let old = channel("etl-old", "reg.example/etl:v1");
    let web = channel("web", "reg.example/web:latest");
    let rig = Rig::start(&[&etl, &old, &web]);
    rig.told(3).await;
    rig.registry.push(&etl.repository, &etl.tag, digest(2));

    rig.follower.hint(hint("reg.example/etl:latest")).unwrap();
    rig.follower.hint(hint("other.example/web:latest")).unwrap();

    let told = rig.told(4).await;
    assert_eq!(told[3..], [(etl, digest(2), Cause::Webhook)]);
}

#[tokio::test]
async fn a_hint_without_a_tag_concerns_all_tags_and_one_without_a_host_all_hosts() {
    let etl = channel("etl", "reg.example/etl:latest");
    let old = channel("etl-old", "reg.example/etl:v1");
    let rig = Rig::start(&[&etl, &old]);
    rig.told(2).await;
    for channel in [&etl, &old] {
        let (repository, tag) = (&channel.repository, &channel.tag);
        rig.registry.push(repository, tag, digest(2));
    }

    let any_host = Hint {
        any_host: true,
        ..hint("127.0.0.1:5000/etl")
    };
    rig.follower.hint(any_host).unwrap();

    let told = rig.told(4).await;
    let hinted: Vec<_> = told[2..].iter().map(|(c, ..)| c.clone()).collect();
    assert_eq!(hinted, [etl, old]);
}

#[tokio::test]
async fn a_burst_of_hints_is_one_look_at_a_time_and_one_after_the_last() {
    let etl = channel("etl", "reg.example/etl:latest");
    let rig = Rig::start(&[&etl]);
    rig.told(1).await;
    rig.registry.hold();

    for _ in 0..5 {
        rig.follower.hint(hint("reg.example/etl:latest")).unwrap();
    }
    rig.until(|rig| rig.registry.asked().len() == 2).await;
    for _ in 0..20 {
        rig.follower.hint(hint("reg.example/etl:latest")).unwrap();
    }
    rig.until(|rig| rig.follower.hints.capacity() == QUEUE)
        .await;
    rig.registry.push(&etl.repository, &etl.tag, digest(9));
    rig.registry.release();

    // The last one brings no news, so there are three more looks.
    let told = rig.told(6).await;
    assert_eq!(told[5], (etl, digest(9), Cause::Webhook));
    assert_eq!(rig.registry.asked().len(), 6);
    assert_eq!(rig.registry.most_in_flight(), 1);
}

#[tokio::test]
async fn a_hint_that_comes_before_the_tag_has_moved_is_not_lost() {
    // The channel is where its tag is, or a rollout to there is under way.
    for current in [digest(1), digest(3)] {
        second_look(current).await;
    }
}

async fn second_look(current: Digest) {
    let mut etl = channel("etl", "reg.example/etl:latest");
    etl.current = Some(current);
    let rig = Rig::start(&[&etl]);
    rig.told(1).await;

    let (registry, pushed) = (rig.registry.clone(), etl.clone());
    let move_tag = move || registry.push(&pushed.repository, &pushed.tag, digest(2));
    *rig.sink.then.lock().unwrap() = Some(Box::new(move_tag));
    rig.follower.hint(hint("reg.example/etl:latest")).unwrap();

    let told = rig.told(3).await;
    assert_eq!(
        told[1].1,
        digest(1),
        "the registry had not moved the tag yet"
    );
    assert_eq!(told[2], (etl, digest(2), Cause::Webhook));
}

#[tokio::test]
async fn a_look_that_a_hint_asked_for_is_tried_again_and_its_problem_is_shown() {
    let etl = channel("etl", "reg.example/etl:latest");
    let rig = Rig::start(&[&etl]);
    rig.told(1).await;
    let first = rig.follower.last_look(&etl.id);
    assert!(first.resolved.is_some() && first.problem.is_none());
    // Three tries of each of two looks.
    for _ in 0..6 {
        rig.registry.fail_next(unreachable());
    }

    rig.follower.hint(hint("reg.example/etl:latest")).unwrap();
    rig.until(|rig| rig.follower.last_look(&etl.id).problem.is_some())
        .await;

    let look = rig.follower.last_look(&etl.id);
    assert_eq!(look.resolved, first.resolved);
    let problem = "the registry did not answer: nothing within 20 s";
    assert_eq!(look.problem.as_deref(), Some(problem));
    rig.follower.hint(hint("reg.example/etl:latest")).unwrap();
    rig.told(2).await;
    assert_eq!(rig.follower.last_look(&etl.id).problem, None);
}

#[tokio::test]
async fn a_channel_that_moved_while_its_tag_was_looked_up_is_not_told() {
    let etl = channel("etl", "reg.example/etl:latest");
    let registry = Arc::new(FakeRegistry::default());
    registry.push(&etl.repository, &etl.tag, digest(1));
    registry.hold();
    let rig = Rig::with(registry, &[&etl], Duration::from_millis(100));
    rig.until(|rig| rig.registry.asked().len() == 1).await;

    let moved = channel("etl", "reg.example/elsewhere:latest");
    *rig.sink.channels.lock().unwrap() = vec![moved.clone()];
    rig.registry.push(&moved.repository, &moved.tag, digest(7));
    rig.registry.release();

    let told = rig.told(1).await;
    assert_eq!(told[0], (moved, digest(7), Cause::Poll));
}

#[tokio::test]
async fn a_caller_that_waits_gets_the_digest_or_the_error() {
    let etl = channel("etl", "reg.example/etl:latest");
    let rig = Rig::start(&[]);

    let missing = rig.follower.look(&etl).await;
    assert!(matches!(missing, Err(ResolveError::NoSuchTag { .. })));
    let problem = rig.follower.last_look(&etl.id).problem;
    assert_eq!(
        problem.as_deref(),
        Some("reg.example/etl has no tag latest")
    );

    rig.registry.push(&etl.repository, &etl.tag, digest(3));
    assert_eq!(rig.follower.look(&etl).await.unwrap().digest, digest(3));
    assert!(rig.sink.told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_follower_ends_when_told_to_even_if_a_registry_hangs() {
    let etl = channel("etl", "reg.example/etl:latest");
    let registry = Arc::new(FakeRegistry::default());
    registry.hold();
    let rig = Rig::with(registry, &[&etl], Duration::from_secs(300));
    rig.until(|rig| rig.registry.asked().len() == 1).await;

    rig.stop.cancel();

    rig.task.await.unwrap();
}

#[tokio::test]
async fn a_channel_shows_its_own_credentials_and_only_those() {
    let usual = channel("usual", "reg.example/etl:main");
    let mut named = channel("named", "reg.example/etl:main");
    let acme = CredentialsName::parse("acme").unwrap();
    named.following.credentials = Some(acme.clone());

    let rig = Rig::start(&[&usual, &named]);

    let told = rig.told(2).await;
    let names: BTreeSet<_> = told.iter().map(|(of, ..)| of.id.name.to_string()).collect();
    assert_eq!(names, ["named".to_owned(), "usual".to_owned()].into());
    let mut shown = rig.registry.shown();
    shown.sort();
    assert_eq!(shown, [None, Some(acme)], "one look with each");
    rig.stop.cancel();
    rig.task.await.unwrap();
}
