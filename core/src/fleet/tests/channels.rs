use super::rig::*;
use super::rollouts::fetches;
use crate::channel::Cause;
use crate::effect::{Answer, Effect, Refusal};
use crate::event::{Event, RollbackTo};
use crate::image::Tag;
use crate::spec::Pin;

fn roll_back(rig: &mut Rig) -> Vec<Effect> {
    let ticket = rig.ticket();
    let channel = channel("analytics");
    let reason = "wrong tax table".to_owned();
    rig.handle(Event::RolledBack {
        ticket,
        channel,
        to: RollbackTo::Previous,
        reason,
        by: String::new(),
    })
}

#[test]
fn the_next_attempt_runs_the_new_digest_and_running_ones_are_not_touched() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    rig.set_channel(1);
    let (job, effects) = rig.submit(on_channel(Pin::Task), 2);
    assert_eq!(offers(&effects)[0].2, digest(1));
    rig.start("a1", attempt(job, 0, 1));

    let effects = rig.push(2);
    assert_eq!(fetches(&effects), ["a1"]);
    assert_eq!((offers(&effects), stops(&effects)), (vec![], vec![]));

    let effects = rig.end("a1", attempt(job, 0, 1), succeeded());
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 1, 1), digest(2))]
    );
}

#[test]
fn the_same_digest_again_is_no_release() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    assert_eq!(rig.push(1), []);
    assert_eq!(
        rig.fleet
            .channel(&channel("analytics"))
            .unwrap()
            .current
            .number,
        1
    );
}

#[test]
fn a_rollback_is_a_new_release_and_the_tag_is_not_followed_back() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    rig.push(2);
    let effects = roll_back(&mut rig);
    let [Answer::Channel(now)] = answers(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((now.current.number, now.current.digest), (3, digest(1)));

    assert_eq!(rig.push(2), [], "the poll still sees what was rolled back");
    rig.push(3);
    let channel = rig.fleet.channel(&channel("analytics")).unwrap();
    assert_eq!(
        (channel.current.number, channel.current.digest),
        (4, digest(3))
    );
}

#[test]
fn there_is_nothing_to_roll_back_to_at_first() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    let effects = roll_back(&mut rig);
    let refusal = Refusal::NoPreviousRelease {
        channel: channel("analytics"),
    };
    assert_eq!(answers(&effects), [&Answer::Refused(refusal)]);
}

#[test]
fn an_agent_that_joins_later_is_told_what_to_fetch() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    assert_eq!(fetches(&rig.hello("late", 1)), ["late"]);
}

#[test]
fn news_of_a_tag_that_is_no_longer_followed_does_not_count() {
    let mut rig = Rig::new();
    rig.set_channel(1);
    let effects = rig.handle(Event::ImageResolved {
        channel: channel("analytics"),
        tag: Tag::parse("old").unwrap(),
        candidate: Box::new(candidate(9, Cause::Poll)),
    });
    assert_eq!(effects, []);
}
