//! Which agents are told to have containers wait for a channel's tasks.

use super::rig::{Rig, agent, channel, digest};
use crate::channel::{BadWarm, Warm};
use crate::effect::{Effect, Order};
use crate::event::Event;
use crate::image::Digest;

fn warm(min: u32, max: u32) -> Warm {
    Warm::new(min, max).unwrap()
}

impl Rig {
    fn set_warm(&mut self, warm: Warm) -> Vec<Effect> {
        let ticket = self.ticket();
        let channel = channel("analytics");
        self.handle(Event::WarmSet {
            ticket,
            channel,
            warm,
        })
    }
}

/// What each agent is told: its name, the digest, and the bounds; or that none are to wait.
fn told(effects: &[Effect]) -> Vec<(String, Option<(Digest, Warm)>)> {
    let keep = |effect: &Effect| match effect {
        Effect::Order {
            agent,
            order: Order::Keep { warm, .. },
        } => {
            let warm = warm.as_ref();
            let said = warm.map(|order| (order.image.digest(), order.warm));
            Some((agent.to_string(), said))
        }
        _ => None,
    };
    effects.iter().filter_map(keep).collect()
}

#[test]
fn agents_that_take_work_are_told_and_follow_the_channel() {
    let mut rig = Rig::new();
    rig.hello("a1", 2);
    rig.set_channel(1);
    assert_eq!(
        told(&rig.set_warm(warm(1, 4))),
        [("a1".to_owned(), Some((digest(1), warm(1, 4))))]
    );
    // Nothing new is nothing to tell.
    assert_eq!(told(&rig.set_warm(warm(1, 4))), []);
    let moved = rig.push(2);
    assert_eq!(
        told(&moved).last(),
        Some(&("a1".to_owned(), Some((digest(2), warm(1, 4)))))
    );
    let came = rig.hello("a2", 2);
    assert_eq!(
        told(&came),
        [("a2".to_owned(), Some((digest(2), warm(1, 4))))]
    );

    let ticket = rig.ticket();
    let drained = rig.handle(Event::AgentDrained {
        ticket,
        agent: agent("a1"),
        reason: "new disk".to_owned(),
        deadline: None,
    });
    assert_eq!(told(&drained), [("a1".to_owned(), None)]);
    let ticket = rig.ticket();
    let back = rig.handle(Event::AgentUncordoned {
        ticket,
        agent: agent("a1"),
    });
    assert_eq!(
        told(&back),
        [("a1".to_owned(), Some((digest(2), warm(1, 4))))]
    );
    let off = told(&rig.set_warm(Warm::default()));
    assert_eq!(off, [("a1".to_owned(), None), ("a2".to_owned(), None)]);
}

#[test]
fn bounds_that_mean_nothing_are_refused() {
    let bad = BadWarm::Order { min: 2, max: 1 };
    assert_eq!(Warm::new(2, 1), Err(bad));
    assert_eq!(bad.to_string(), "min is 2, which is more than max, 1");
    assert_eq!(Warm::new(0, 1_001), Err(BadWarm::Most { max: 1_001 }));
    assert!(Warm::new(0, 0).unwrap().is_off());
}
