use super::*;

fn prefetch(enough_percent: u32, at_a_time: u32) -> Policy {
    Policy {
        prefetch: Some(Prefetch {
            enough_percent,
            at_a_time,
            patience: Millis::from_secs(600),
        }),
        ..Policy::default()
    }
}

#[test]
fn a_prefetch_goes_in_waves_and_waits_for_enough_agents() {
    let mut rig = Rig::new();
    for name in ["a1", "a2", "a3", "a4"] {
        rig.hello(name, 1);
    }
    rig.set_channel(1);
    rig.policy(prefetch(75, 2));
    let first = rig.push(2);
    assert_eq!(fetches(&first), ["a1", "a2"]);
    assert_eq!(at_once(&first), [true, true], "few ask the registry");
    assert_eq!(fetches(&rig.hold("a2", 2)), ["a3"]);
    assert_eq!(fetches(&rig.hold("a3", 2)), ["a4"]);
    assert_eq!(rig.current(), (1, 1));
    let effects = rig.hold("a4", 2);
    assert_eq!(rig.current(), (2, 2));
    assert_eq!(fetches(&effects), ["a1"], "who lacks it is told again");
    assert_eq!(at_once(&effects), [false]);
}

#[test]
fn an_agent_that_stalls_blocks_neither_the_others_nor_the_rollout() {
    let mut rig = Rig::new();
    for name in ["a1", "a2"] {
        rig.hello(name, 1);
    }
    rig.set_channel(1);
    rig.policy(prefetch(50, 1));
    assert_eq!(fetches(&rig.push(2)), ["a1"]);
    let effects = rig.tick_until(rig.now + Millis::from_secs(121));
    assert_eq!(fetches(&effects), ["a2"]);
    rig.hold("a2", 2);
    assert_eq!(rig.current(), (2, 2));
}

/// A registry may be down for a while.
#[test]
fn an_agent_that_cannot_fetch_is_told_again_ever_later_and_noted_once() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    rig.set_channel(1);
    rig.policy(prefetch(100, 1));
    assert_eq!(fetches(&rig.push(2)), ["a1"]);
    for seconds in [5, 10, 20, 40, 80, 120, 120] {
        rig.fail_to_fetch("a1", 2);
        let turn = rig.now + Millis::from_secs(seconds);
        let early = rig.tick_until(Timestamp(turn.0 - 1));
        assert!(fetches(&early).is_empty(), "before {seconds} s");
        assert_eq!(fetches(&rig.tick_until(turn)), ["a1"], "{seconds} s");
    }
    let rollout = rig.fleet.rollout(&channel("analytics")).unwrap();
    let failures = rollout.timeline.iter();
    let failures = failures.filter(|moment| moment.what.contains("cannot fetch it"));
    assert_eq!(failures.count(), 1);
    rig.hold("a1", 2);
    assert_eq!(rig.current(), (2, 2));
}

#[test]
fn an_agent_that_failed_is_told_after_those_that_never_were() {
    let mut rig = Rig::new();
    for name in ["a1", "a2", "a3"] {
        rig.hello(name, 1);
    }
    rig.set_channel(1);
    rig.policy(prefetch(100, 1));
    assert_eq!(fetches(&rig.push(2)), ["a1"]);
    assert_eq!(fetches(&rig.fail_to_fetch("a1", 2)), ["a2"]);
    rig.tick_until(rig.now + Millis::from_secs(60));
    assert_eq!(fetches(&rig.hold("a2", 2)), ["a3"]);
    assert_eq!(fetches(&rig.hold("a3", 2)), ["a1"]);
}

/// It may have been the agent's process that ended, and its orders with it.
#[test]
fn an_agent_that_comes_back_is_told_at_once() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    rig.set_channel(1);
    rig.policy(prefetch(100, 1));
    assert_eq!(fetches(&rig.push(2)), ["a1"]);
    assert!(fetches(&rig.hello("a1", 1)).contains(&"a1".to_owned()));
    rig.hold("a1", 2);
    assert_eq!(rig.current(), (2, 2));
}

#[test]
fn a_prefetch_that_reaches_too_few_changes_nothing() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    rig.set_channel(1);
    rig.policy(prefetch(100, 1));
    rig.push(2);
    let effects = rig.tick_until(rig.now + Millis::from_secs(601));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::RolledBack);
    assert_eq!(rig.current(), (1, 1));
}

fn with_validation() -> Policy {
    Policy {
        validate: Some(Validate {
            command: vec!["smoke.py".into()],
            timeout: Millis::from_secs(60),
            exit_code: 0,
            pool: PoolName::parse("default").unwrap(),
        }),
        ..Policy::default()
    }
}

fn validation(rig: &Rig) -> JobId {
    let rollout = rig.fleet.rollout(&channel("analytics")).unwrap();
    rollout.validation.as_ref().unwrap().job
}

#[test]
fn a_validation_runs_on_the_new_digest_and_decides() {
    for (end, expected) in [(succeeded(), (2, 2)), (failed(1), (1, 1))] {
        let mut rig = rig(with_validation());
        let effects = rig.push(2);
        let job = validation(&rig);
        assert_eq!(
            offers(&effects),
            [("a1".into(), attempt(job, 0, 1), digest(2))]
        );
        rig.run("a1", attempt(job, 0, 1), end, Millis(5));
        assert_eq!(rig.current(), expected);
    }
}

#[test]
fn a_validation_that_nobody_runs_or_somebody_cancels_fails() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    rig.policy(with_validation());
    rig.push(2);
    let effects = rig.tick_until(rig.now + Millis::from_secs(61));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::RolledBack);

    rig.push(3);
    let job = validation(&rig);
    let effects = rig.cancel(job, None);
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::RolledBack);
}

#[test]
fn a_validation_goes_on_after_a_restart_of_the_coordinator() {
    let mut rig = rig(with_validation());
    let effects = rig.push(2);
    let rollout = stored(&effects).unwrap().clone();
    let channel_row = rig.fleet.channel(&channel("analytics")).unwrap().clone();
    let live = rig.fleet.job(validation(&rig)).unwrap();
    let (job, progress) = (live.job.clone(), live.progress.clone());
    let id = job.id;
    let row = rig.fleet.task_row(attempt(id, 0, 1).task).unwrap();

    let mut again = Rig::new();
    again.now = rig.now;
    again.handle(Event::Restored(Restored::Channel(Box::new(channel_row))));
    again.handle(Event::Restored(Restored::Rollout(Box::new(rollout))));
    let tasks = vec![(0, row)];
    again.handle(Event::Restored(Restored::Agent(
        rig.fleet.agents().next().unwrap().clone(),
    )));
    again.handle(Event::Restored(Restored::Job {
        job,
        progress,
        tasks,
    }));
    again.hello_with("a1", 20, BTreeSet::from([attempt(id, 0, 1)]));
    again.tick_until(rig.now);
    assert_eq!(validation(&again), id, "no second one");
    again.run("a1", attempt(id, 0, 1), succeeded(), Millis(5));
    assert_eq!(again.current(), (2, 2));
}

#[test]
fn a_release_that_turns_bad_while_it_bakes_is_taken_back() {
    let policy = Policy {
        bake: Some(Bake {
            lasts: Millis::from_secs(600),
        }),
        ..Policy::default()
    };
    let mut rig = rig(policy);
    rig.live_through_ten();
    rig.push(2);
    assert_eq!((rig.current(), rig.phase()), ((2, 2), Some(Phase::Bake)));
    let (job, _) = rig.submit(follower(), 3);
    rig.run("a1", attempt(job, 0, 1), failed(1), Millis(5));
    let effects = rig.tick_until(rig.now);
    assert_eq!(
        digests(&effects),
        [1],
        "its next attempt runs the release before"
    );
    rig.run("a1", attempt(job, 1, 1), failed(1), Millis(5));
    let effects = rig.run("a1", attempt(job, 2, 1), failed(1), Millis(5));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::RolledBack);
    assert_eq!(rig.current(), (3, 1));
    assert_eq!(rig.fleet.job(job).unwrap().tasks[&2].spent.user, 0);
    assert_eq!(rig.push(2), []);
}

#[test]
fn a_bake_ends_by_itself() {
    let policy = Policy {
        bake: Some(Bake {
            lasts: Millis::from_secs(600),
        }),
        ..Policy::default()
    };
    let mut rig = rig(policy);
    rig.push(2);
    let effects = rig.tick_until(rig.now + Millis::from_secs(600));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::Promoted);
}

#[test]
fn a_restart_stops_the_old_and_waits_for_the_new() {
    let policy = Policy {
        restart: Some(Restart {
            jobs: BTreeSet::new(),
            healthy_after: Millis::from_secs(30),
            patience: Millis::from_secs(600),
        }),
        ..Policy::default()
    };
    let mut rig = rig(policy);
    let (job, _) = rig.submit(follower(), 1);
    rig.start("a1", attempt(job, 0, 1));
    let effects = rig.push(2);
    assert_eq!(stops(&effects), [attempt(job, 0, 1)]);
    rig.end(
        "a1",
        attempt(job, 0, 1),
        End::of(Outcome::Preempted, EndReason::Drained),
    );
    let effects = rig.tick_until(rig.now);
    assert_eq!(digests(&effects), [2]);
    rig.start("a1", attempt(job, 0, 2));
    assert_eq!(rig.phase(), Some(Phase::Restart));
    let effects = rig.tick_until(rig.now + Millis::from_secs(31));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::Promoted);
}

fn facts(platform: &str, objection: Option<&str>) -> Facts {
    Facts {
        platforms: [platform.to_owned()].into(),
        accepted: "signed by ann".into(),
        objection: objection.map(Into::into),
        ..Facts::default()
    }
}

fn verify_moments(effects: &[Effect]) -> Vec<String> {
    let timeline = stored(effects).unwrap().timeline.iter();
    let found = timeline.filter(|moment| moment.phase == Phase::Verify);
    found.map(|moment| moment.what.clone()).collect()
}

#[test]
fn an_image_that_is_objected_to_or_that_no_agent_can_run_is_taken_back_at_once() {
    let elsewhere =
        "the image is for linux/arm64, and no agent that is online runs that; they run linux/amd64";
    for (facts, expected) in [
        (facts("linux/amd64", Some("no signature")), "no signature"),
        (facts("linux/arm64", None), elsewhere),
    ] {
        let mut rig = rig(Policy::default());
        let effects = rig.push_with(2, facts.clone());
        let (how, reason) = conclusion(&effects).unwrap();
        assert_eq!((how, reason.as_str()), (Conclusion::RolledBack, expected));
        assert_eq!(verify_moments(&effects), [format!("refused: {expected}")]);
        assert_eq!(rig.current(), (1, 1));
    }
    let mut rig = rig(Policy::default());
    let effects = rig.push_with(2, facts("linux/amd64", None));
    assert_eq!(verify_moments(&effects), ["accepted: signed by ann"]);
    assert_eq!(rig.current(), (2, 2));
}

#[test]
fn an_image_that_is_objected_to_does_not_disturb_what_is_under_way() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.push(2);
    let effects = rig.push_with(3, facts("linux/amd64", Some("no signature")));
    let (how, reason) = conclusion(&effects).unwrap();
    assert_eq!(
        (how, reason.as_str()),
        (Conclusion::RolledBack, "no signature")
    );
    assert_eq!(stored(&effects).unwrap().to.number, 3);
    assert_eq!(rig.phase(), Some(Phase::Canary));
    let under_way = rig.fleet.rollout(&channel("analytics")).unwrap();
    assert_eq!((under_way.to.number, under_way.to.digest), (2, digest(2)));

    // Whoever asks for it by name is told.
    let mut wanted = candidate(4, Cause::Start);
    wanted.facts = facts("linux/amd64", Some("no signature"));
    let ticket = rig.ticket();
    let effects = rig.handle(Event::RolloutAsked {
        ticket,
        channel: channel("analytics"),
        candidate: Box::new(wanted),
    });
    let expected = Answer::Refused(Refusal::Objection {
        channel: channel("analytics"),
        objection: "no signature".into(),
    });
    assert_eq!(answers(&effects), [&expected]);

    // Numbers are given once, in whatever order rollouts end.
    rig.tell(Command::Abort {
        reason: String::new(),
    });
    let effects = rig.push(5);
    assert_eq!(stored(&effects).unwrap().to.number, 5);
}

#[test]
fn a_platform_that_nobody_tells_is_no_objection() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    rig.push_with(2, facts("linux/arm64", None));
    assert_eq!(rig.current(), (2, 2), "no agent is online");
}

#[test]
fn a_channel_does_not_begin_with_an_image_that_is_objected_to() {
    let mut rig = Rig::new();
    let ticket = rig.ticket();
    let mut first = candidate(1, Cause::Set);
    first.facts = facts("linux/amd64", Some("no signature"));
    let effects = rig.handle(Event::ChannelSet {
        ticket,
        channel: channel("analytics"),
        tag: crate::image::Tag::parse("latest").unwrap(),
        candidate: Box::new(first),
    });
    let refused = effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Answer {
                answer: Answer::Refused(Refusal::Objection { .. }),
                ..
            }
        )
    });
    assert!(refused, "{effects:?}");
    assert!(rig.fleet.channel(&channel("analytics")).is_none());
}
