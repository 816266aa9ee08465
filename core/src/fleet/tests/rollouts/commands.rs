use super::*;

#[test]
fn a_newer_push_takes_the_place_of_the_older_or_waits() {
    let mut first = rig(with_canary(Share::First(5)));
    first.push(2);
    let effects = first.push(3);
    let supersedes = effects.iter().any(|effect| {
        matches!(effect, Effect::Record(Record::Rollout(rollout))
            if matches!(rollout.state, State::Ended { how: Conclusion::Superseded, .. }))
    });
    assert!(supersedes);
    assert_eq!(stored(&effects).unwrap().to.number, 3);

    let mut second = rig(Policy {
        newer: Newer::Queue,
        ..with_canary(Share::First(5))
    });
    second.push(2);
    second.push(3);
    second.push(4);
    assert_eq!(
        second
            .fleet
            .rollout(&channel("analytics"))
            .unwrap()
            .to
            .number,
        2
    );
    second.tell(Command::Promote { now: true });
    let next = second.fleet.rollout(&channel("analytics")).unwrap();
    assert_eq!((next.to.number, next.to.digest), (3, digest(4)));
}

#[test]
fn a_tag_that_moves_back_ends_the_rollout() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.push(2);
    let effects = rig.push(1);
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::Superseded);
    assert_eq!((rig.current(), rig.phase()), ((1, 1), None));
}

#[test]
fn time_stands_still_while_a_rollout_is_paused() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.push(2);
    rig.tell(Command::Pause);
    let (_, effects) = rig.submit(follower(), 1);
    assert_eq!(digests(&effects), [1], "nothing more is tried");
    rig.tick_until(rig.now + Millis::from_secs(3600));
    assert_eq!(rig.phase(), Some(Phase::Canary));
    let refused = rig.tell(Command::Pause);
    let channel = channel("analytics");
    let expected = Answer::Refused(Refusal::AlreadyPaused { channel });
    assert_eq!(answers(&refused), [&expected]);

    rig.tell(Command::Resume);
    rig.tick_until(rig.now + Millis::from_secs(599));
    assert_eq!(rig.phase(), Some(Phase::Canary));
    rig.tick_until(rig.now + Millis::from_secs(2));
    assert_eq!(rig.current(), (2, 2));
}

#[test]
fn a_person_may_promote_abort_and_go_back() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.push(2);
    rig.tell(Command::Promote { now: false });
    assert_eq!(rig.current(), (2, 2));
    let refused = rig.tell(Command::Abort {
        reason: String::new(),
    });
    let channel_id = channel("analytics");
    let expected = Answer::Refused(Refusal::NoRollout {
        channel: channel_id.clone(),
    });
    assert_eq!(answers(&refused), [&expected]);

    rig.push(3);
    let ticket = rig.ticket();
    let effects = rig.handle(Event::RolledBack {
        ticket,
        channel: channel_id,
        to: RollbackTo::Previous,
        reason: "not today".into(),
        by: "ann".into(),
    });
    assert_eq!(
        conclusion(&effects),
        Some((Conclusion::Aborted, "not today (by ann)".into()))
    );
    assert_eq!(rig.current(), (2, 2));
    assert_eq!(rig.push(3), []);
}

#[test]
fn an_earlier_digest_can_be_asked_for() {
    let mut rig = rig(Policy::default());
    rig.push(2);
    let ticket = rig.ticket();
    let ask = |ticket| Event::RolloutAsked {
        ticket,
        channel: channel("analytics"),
        candidate: Box::new(candidate(1, Cause::Set)),
    };
    rig.handle(ask(ticket));
    assert_eq!(rig.current(), (3, 1));
    let ticket = rig.ticket();
    rig.handle(ask(ticket));
    assert_eq!(rig.current(), (3, 1), "asked twice, begun once");
}

/// The tag means the old digest for as long as nobody moves it, and every poll says so.
#[test]
fn what_somebody_started_is_not_undone_by_a_tag_that_did_not_move() {
    let start = |rig: &mut Rig, byte| {
        let ticket = rig.ticket();
        rig.handle(Event::RolloutAsked {
            ticket,
            channel: channel("analytics"),
            candidate: Box::new(candidate(byte, Cause::Start)),
        })
    };
    let mut promoted = rig(Policy::default());
    start(&mut promoted, 2);
    assert_eq!(promoted.push(1), []);
    assert_eq!(promoted.current(), (2, 2));
    start(&mut promoted, 3);
    assert_eq!(promoted.push(1), [], "a second start keeps it in mind");
    // The tag moves to where the channel is, and from there back.
    promoted.push(3);
    promoted.push(1);
    assert_eq!(promoted.current(), (4, 1));

    let mut on_trial = rig(with_canary(Share::First(5)));
    start(&mut on_trial, 2);
    assert_eq!(on_trial.push(1), []);
    assert_eq!(on_trial.phase(), Some(Phase::Canary));
    on_trial.push(3);
    let active = on_trial.fleet.rollout(&channel("analytics")).unwrap();
    assert_eq!(active.to.digest, digest(3), "a push counts");
    // The tag means what is on trial; somebody wants another one.
    start(&mut on_trial, 4);
    on_trial.push(3);
    let active = on_trial.fleet.rollout(&channel("analytics")).unwrap();
    assert_eq!(active.to.digest, digest(4));
}

#[test]
fn a_start_does_not_bring_back_what_was_rolled_back() {
    let mut rig = rig(Policy::default());
    rig.push(2);
    let ticket = rig.ticket();
    rig.handle(Event::RolledBack {
        ticket,
        channel: channel("analytics"),
        to: RollbackTo::Previous,
        reason: String::new(),
        by: String::new(),
    });
    let ticket = rig.ticket();
    rig.handle(Event::RolloutAsked {
        ticket,
        channel: channel("analytics"),
        candidate: Box::new(candidate(4, Cause::Start)),
    });
    assert_eq!(rig.push(2), []);
    assert_eq!(rig.current(), (4, 4));
}
