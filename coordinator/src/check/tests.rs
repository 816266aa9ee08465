//! Each check about agents and sides, where it passes and where it fails.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::agent::{Agent, Capacity, Link, Profile, Schedulable};
use muster_core::fleet::{Cursor, Fleet, Limits};
use muster_core::ids::{AgentId, PoolName, SessionNo};
use muster_core::time::{Millis, Timestamp};
use muster_proto::v1 as pb;

use super::agents::{Seen, judge};
use super::{Finding, TOLD, Verdict, or_ok, sides, watch};
use crate::metrics::{AGENT_ORPHANS, AGENT_WEDGED, Metrics, PushResult, Sample};
use crate::session::{Skew, Told};

const NOW: Timestamp = Timestamp(1_000_000);

fn healthy() -> Seen {
    let agent = Agent {
        id: AgentId::parse("etl-1").unwrap(),
        profile: Profile {
            pool: PoolName::parse("default").unwrap(),
            labels: BTreeMap::new(),
            capacity: Capacity::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: "20.10.24".to_owned(),
            boot_id: String::new(),
            leases: false,
            platform: String::new(),
        },
        link: Link::Online {
            session: SessionNo(1),
        },
        schedulable: Schedulable::Yes,
        last_contact: NOW,
        live: BTreeSet::new(),
        reserved: Capacity::default(),
        held: Vec::new(),
        digests: BTreeSet::new(),
    };
    let told = Told {
        load: Some(pb::HostLoad::default()),
        clock: Some(Skew::Behind(Millis::from_secs(299))),
    };
    Seen {
        agent,
        told: Some(told),
        samples: vec![gauge(AGENT_WEDGED, 0.0)],
    }
}

fn gauge(name: &str, value: f64) -> Sample {
    Sample {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        value,
    }
}

fn load(change: impl FnOnce(&mut pb::HostLoad)) -> Seen {
    let mut seen = healthy();
    let told = seen.told.as_mut().unwrap();
    change(told.load.as_mut().unwrap());
    seen
}

/// The only finding that is not ok.
fn only(seen: Seen) -> (&'static str, Verdict, String) {
    let found = judge(&[seen, healthy()], NOW);
    let mut bad = found.into_iter().filter(|one| one.verdict != Verdict::Ok);
    let one = bad.next().expect("something is wrong");
    assert_eq!(bad.next(), None);
    assert_eq!(one.subject, "etl-1");
    assert!(!one.advice.is_empty());
    (one.check, one.verdict, one.what)
}

fn with(change: impl FnOnce(&mut Seen)) -> Seen {
    let mut seen = healthy();
    change(&mut seen);
    seen
}

#[test]
fn healthy_agents_pass_every_check() {
    let found = judge(&[healthy(), healthy()], NOW);
    assert_eq!(found.len(), 8);
    assert!(
        found.iter().all(|one| one.verdict == Verdict::Ok),
        "{found:?}"
    );
    assert_eq!(found[0].what, "2 online");
}

#[test]
fn no_agent_is_worth_a_warning() {
    let found = judge(&[], NOW);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].verdict, Verdict::Warning);
}

#[test]
fn an_agent_that_is_out_of_sight_is_a_problem_and_one_given_up_a_warning() {
    let (since, lost_at) = (Timestamp(940_000), Timestamp(1_540_000));
    let silent = only(with(|seen| {
        seen.agent.link = Link::Unreachable { since, lost_at }
    }));
    let what = "out of sight for 1 m; its attempts are given up in 9 m".to_owned();
    assert_eq!(silent, ("agent_link", Verdict::Problem, what));
    let lost = only(with(|seen| seen.agent.link = Link::Lost { since }));
    assert_eq!((lost.0, lost.1), ("agent_link", Verdict::Warning));
}

#[test]
fn what_agents_say_of_their_hosts_is_judged() {
    let reason = "slow disk".to_owned();
    let cordoned = only(with(|seen| {
        seen.agent.schedulable = Schedulable::Cordoned {
            reason,
            until: None,
        }
    }));
    assert_eq!(
        cordoned,
        (
            "agent_service",
            Verdict::Warning,
            "cordoned: slow disk".to_owned()
        )
    );
    let full = only(load(|load| load.disk_full = true));
    assert_eq!((full.0, full.1), ("agent_disk", Verdict::Problem));
    let slow = only(load(|load| load.docker_degraded = true));
    assert_eq!((slow.0, slow.1), ("agent_engine", Verdict::Problem));
    let wedged = only(with(|seen| seen.samples[0].value = 2.0));
    assert_eq!((wedged.0, wedged.1), ("agent_wedged", Verdict::Problem));
    let orphan = gauge(AGENT_ORPHANS, 1.0);
    let orphans = only(with(|seen| seen.samples.push(orphan)));
    assert_eq!((orphans.0, orphans.1), ("agent_orphans", Verdict::Warning));
}

#[test]
fn clocks_and_versions_that_differ_are_warned_of() {
    let skewed = |clock| {
        only(with(|seen| {
            seen.told = Some(Told {
                load: None,
                clock: Some(clock),
            })
        }))
        .2
    };
    let far = Millis::from_secs(301);
    assert_eq!(
        skewed(Skew::Ahead(far)),
        "its clock is 5 m 1 s ahead of the coordinator's"
    );
    assert_eq!(
        skewed(Skew::Behind(far)),
        "its clock is 5 m 1 s behind the coordinator's"
    );
    assert_eq!(
        Skew::between(Timestamp(5), Timestamp(3)),
        Skew::Ahead(Millis(2))
    );
    assert_eq!(
        Skew::between(Timestamp(3), Timestamp(5)),
        Skew::Behind(Millis(2))
    );
    let old = only(with(|seen| seen.agent.profile.version = "0.0.9".to_owned()));
    assert_eq!((old.0, old.1), ("agent_version", Verdict::Warning));
}

#[test]
fn the_last_push_decides_about_the_gateway() {
    let metrics = Metrics::new();
    let verdict = |pushes| sides::push_gateway(&metrics, pushes).verdict;
    assert_eq!((verdict(false), verdict(true)), (Verdict::Ok, Verdict::Ok));
    for (result, expected) in [
        (PushResult::Failed, Verdict::Warning),
        (PushResult::Dropped, Verdict::Warning),
        (PushResult::Ok, Verdict::Ok),
    ] {
        metrics.pushed(result);
        assert_eq!(verdict(true), expected);
    }
}

#[test]
fn a_thousand_findings_are_told_as_a_few_and_a_number() {
    let one = Finding::of("stuck", Verdict::Problem, "x", "y", "z");
    let found = or_ok("stuck", vec![one; 1_000], "well");
    assert_eq!(found.len(), TOLD + 1);
    assert_eq!(found[TOLD].what, "and 980 more like these");
    assert_eq!(found[TOLD].verdict, Verdict::Problem);
}

#[test]
fn violations_are_a_figure_that_falls_again() {
    let (metrics, mut told) = (Metrics::new(), BTreeSet::new());
    let broken = |what: &str, bends| muster_core::fleet::Broken {
        invariant: "counts",
        what: what.to_owned(),
        bends,
    };
    let shown = || metrics.text().contains("\nmuster_invariant_violations 2\n");
    watch::tell(
        &metrics,
        &mut told,
        vec![broken("a", false), broken("b", false), broken("c", true)],
    );
    assert!(shown() && told.len() == 2);
    watch::tell(&metrics, &mut told, Vec::new());
    assert!(metrics.text().contains("\nmuster_invariant_violations 0\n") && told.is_empty());
    let (found, next) = Fleet::new(Limits::default()).check_part(&Cursor::START, 1);
    assert_eq!((found, next), (vec![], Some(Cursor::Jobs(None))));
}
