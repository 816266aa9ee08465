//! Policies that images carry: they come and go with their release.

use super::*;
use crate::channel::PolicyFrom;
use crate::rollout::Phase::{Bake as Baking, Ended, Resolve};

/// An image that wants the rollouts after its own to bake for a minute.
fn careful() -> Facts {
    Facts {
        policy: Some(Box::new(baking())),
        ..Facts::default()
    }
}

fn baking() -> Policy {
    Policy {
        bake: Some(Bake {
            lasts: Millis::from_secs(60),
        }),
        ..Policy::default()
    }
}

fn policy_from(rig: &Rig) -> PolicyFrom {
    let known = rig.fleet.channel(&channel("analytics")).unwrap();
    known.policy_in_effect().1
}

#[test]
fn it_counts_from_the_promotion_on_and_goes_with_its_release() {
    let mut rig = rig(Policy::default());
    let effects = rig.push_with(2, careful());
    let rollout = stored(&effects).unwrap();
    assert_eq!(rollout.phase(), Ended, "its own rollout goes by none");
    let told = rollout.timeline.iter().any(|moment| {
        moment.phase == Resolve
            && moment.what == "the image carries a policy, which counts after it is promoted"
    });
    assert!(told, "{:?}", rollout.timeline);
    assert_eq!(policy_from(&rig), PolicyFrom::Image);

    rig.push(3);
    assert_eq!(rig.phase(), Some(Baking));
    assert_eq!(rig.current(), (3, 3));
    assert_eq!(
        policy_from(&rig),
        PolicyFrom::Nowhere,
        "promoted: 3 has none"
    );
    let abort = Command::Abort {
        reason: "it looks odd".into(),
    };
    rig.tell(abort);
    assert_eq!(rig.current(), (4, 2));
    assert_eq!(policy_from(&rig), PolicyFrom::Image, "rolled back with 2");

    let ticket = rig.ticket();
    rig.handle(Event::RolledBack {
        ticket,
        channel: channel("analytics"),
        to: RollbackTo::Release(Box::new(
            candidate(1, Cause::Set).release(1, Timestamp::default()),
        )),
        reason: String::new(),
        by: String::new(),
    });
    assert_eq!(rig.current(), (5, 1));
    assert_eq!(policy_from(&rig), PolicyFrom::Nowhere);
}

#[test]
fn one_that_is_never_promoted_never_counts() {
    let mut rig = rig(Policy::default());
    let refused = Facts {
        objection: Some("no signature".into()),
        ..careful()
    };
    rig.push_with(2, refused);
    assert_eq!(rig.current(), (1, 1));
    assert_eq!(policy_from(&rig), PolicyFrom::Nowhere);
}

/// An image can't loosen what somebody asks of its channel's images.
#[test]
fn what_somebody_set_counts_whatever_images_carry() {
    let strict = Policy {
        canary: Some(canary(Share::First(5))),
        ..Policy::default()
    };
    let mut rig = rig(Policy::default());
    rig.push_with(2, careful());
    rig.policy(strict.clone());
    assert_eq!(policy_from(&rig), PolicyFrom::Set);
    let effects = rig.push_with(3, careful());
    let rollout = stored(&effects).unwrap();
    assert_eq!(rollout.policy, strict);
    let told = rollout.timeline.iter().any(|moment| {
        moment.what
            == "the image carries a policy, which does not count: somebody set the channel's"
    });
    assert!(told, "{:?}", rollout.timeline);
    rig.tell(Command::Promote { now: true });
    assert_eq!(rig.current(), (3, 3));
    assert_eq!(policy_from(&rig), PolicyFrom::Set);
    rig.policy(Policy::default());
    assert_eq!(
        policy_from(&rig),
        PolicyFrom::Image,
        "nobody sets one any more"
    );
}
