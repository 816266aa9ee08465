//! Plain values of the core's types, for tests that build jobs and agents by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::agent::{Capacity, Profile};
use muster_core::channel::{Candidate, Cause};
use muster_core::ids::{JobName, PoolName, TeamName};
use muster_core::image::{Digest, Image, Repository};
use muster_core::rollout::Facts;
use muster_core::spec::{
    Backoff, BackoffKind, Delivery, ImageSource, Network, OnDisconnect, Pull, Requirements,
    Resources, RetryPolicy, Spec,
};
use muster_core::time::Millis;

/// The team that tests use when they need only one.
///
/// # Panics
/// Never: `default` is a name.
#[must_use]
pub fn team() -> TeamName {
    TeamName::parse("default").expect("it is a name")
}

/// # Panics
/// Never: `default` is a name.
#[must_use]
pub fn pool() -> PoolName {
    PoolName::parse("default").expect("it is a name")
}

/// # Panics
/// Never: the text is a repository.
#[must_use]
pub fn repository() -> Repository {
    "registry.example/analytics"
        .parse()
        .expect("it is a repository")
}

/// That digest of the repository, without labels.
#[must_use]
pub fn candidate(digest: Digest, cause: Cause) -> Candidate {
    Candidate {
        repository: repository(),
        digest,
        facts: Facts::default(),
        cause,
        reason: String::new(),
        by: String::new(),
    }
}

/// A digest that is easy to tell from others.
#[must_use]
pub const fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

/// What `digest` names in [`repository`].
#[must_use]
pub fn image(byte: u8) -> Image {
    Image::Remote {
        repository: repository(),
        digest: digest(byte),
    }
}

/// A spec that any agent of the pool `default` can run: one place, no retries, an hour of time.
///
/// # Panics
/// If `name` is no name.
#[must_use]
pub fn spec(name: &str) -> Spec {
    Spec {
        name: JobName::parse(name).expect("the test gives a name"),
        image: ImageSource::Reference {
            text: "registry.example/analytics:1".into(),
        },
        pull: Pull::Missing,
        entrypoint: None,
        command: vec!["load".into()],
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        workdir: None,
        user: None,
        requirements: Arc::new(Requirements {
            pool: pool(),
            labels: BTreeMap::new(),
            agent: None,
            resources: Resources {
                cpu_millis: 100,
                memory_bytes: 16 << 20,
                ..Resources::default()
            },
            held: None,
            concurrency: BTreeMap::new(),
            lease: false,
        }),
        priority: 0,
        queue_timeout: None,
        run_timeout: Millis::from_secs(3600),
        kill_grace: Millis::from_secs(10),
        retry: RetryPolicy {
            user: 0,
            infra: 0,
            backoff: Backoff {
                kind: BackoffKind::Fixed,
                jitter: false,
                ..Backoff::default()
            },
            rules: Vec::new(),
        },
        success_codes: vec![],
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Finish,
        network: Network::Bridge,
        writable_root: false,
    }
}

/// An agent with room for `places` tasks of any size.
#[must_use]
pub fn profile(places: u32) -> Profile {
    let resources = Resources {
        cpu_millis: 64_000,
        memory_bytes: 1 << 40,
        ..Resources::default()
    };
    Profile {
        pool: pool(),
        labels: BTreeMap::new(),
        capacity: Capacity { resources, places },
        version: "0.1.0".into(),
        engine: "20.10".into(),
        boot_id: "boot".into(),
        leases: true,
        platform: "linux/amd64".into(),
    }
}
