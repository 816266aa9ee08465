//! When each channel's tag is looked at without a hint.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::channel::ChannelId;
use tokio::time::Instant;

use super::FollowedChannel;

/// How often the channels are listed, at least: another interval of a channel counts within this time.
const LIST: Duration = Duration::from_secs(10);

pub(super) struct Pace {
    /// Of channels that say nothing else.
    interval: Duration,
    /// `None`: nothing was looked at yet.
    polled: Option<BTreeMap<ChannelId, Polled>>,
}

#[derive(Clone, Copy)]
struct Polled {
    at: Instant,
    /// Of the interval, until the next time.
    share: f64,
}

impl Pace {
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            polled: None,
        }
    }

    /// The channels whose turn it is, and when to ask again. At first it is everybody's; who comes later was
    /// looked at when it was made.
    pub(super) fn due(
        &mut self,
        now: Instant,
        channels: Vec<FollowedChannel>,
    ) -> (Vec<FollowedChannel>, Instant) {
        let known = self.polled.take();
        let mut polled = BTreeMap::new();
        let mut due = Vec::new();
        let mut next = now + LIST;
        for channel in channels {
            let own = channel.following.poll;
            let interval = own.map_or(self.interval, |own| Duration::from_millis(own.span().0));
            let begun = Polled {
                at: now,
                share: share(),
            };
            let before = known.as_ref().map(|known| known.get(&channel.id));
            let before = before.map(|last| last.copied().unwrap_or(begun));
            let waiting = before.filter(|last| last.at + interval.mul_f64(last.share) > now);
            let last = waiting.unwrap_or(begun);
            next = next.min(last.at + interval.mul_f64(last.share));
            polled.insert(channel.id.clone(), last);
            if waiting.is_none() {
                due.push(channel);
            }
        }
        self.polled = Some(polled);
        (due, next)
    }
}

/// Between 0.9 and 1.1, so that coordinators do not ask a registry in step.
fn share() -> f64 {
    let mut byte = [128];
    // Without randomness the poll is merely punctual.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    0.9 + 0.2 * f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use muster_core::channel::{Following, PollInterval};
    use muster_core::ids::{ChannelName, TeamName};
    use muster_core::image::Tag;
    use muster_core::time::Millis;

    use super::*;

    fn channel(name: &str, seconds: Option<u64>) -> FollowedChannel {
        let interval = |seconds| PollInterval::new(Millis::from_secs(seconds)).unwrap();
        FollowedChannel {
            id: ChannelId {
                team: TeamName::parse("default").unwrap(),
                name: ChannelName::parse(name).unwrap(),
            },
            repository: "reg.example/etl".parse().unwrap(),
            tag: Tag::parse("main").unwrap(),
            current: None,
            following: Following {
                poll: seconds.map(interval),
                credentials: None,
            },
        }
    }

    #[test]
    fn an_interval_is_a_tenth_shorter_to_a_tenth_longer() {
        for _ in 0..100 {
            let share = share();
            assert!((0.899..=1.101).contains(&share), "{share}");
        }
    }

    #[test]
    fn each_channel_has_an_interval_of_its_own() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(300));
        let ask = |pace: &mut Pace, seconds, channels: &[FollowedChannel]| {
            let now = start + Duration::from_secs(seconds);
            let (due, next) = pace.due(now, channels.to_vec());
            assert!(next > now && next <= now + LIST);
            let names = due.iter().map(|channel| channel.id.name.to_string());
            names.collect::<Vec<_>>()
        };
        let both = [channel("often", Some(60)), channel("usual", None)];
        assert_eq!(ask(&mut pace, 0, &both), ["often", "usual"], "at the start");
        assert!(ask(&mut pace, 50, &both).is_empty());
        assert_eq!(ask(&mut pace, 67, &both), ["often"]);
        assert!(ask(&mut pace, 68, &both).is_empty());
        // One that is new was looked at when it was made.
        let three = [both[0].clone(), both[1].clone(), channel("late", None)];
        assert!(ask(&mut pace, 100, &three).is_empty());
        assert_eq!(ask(&mut pace, 331, &three), ["often", "usual"]);
        // Another interval counts from the last look on.
        let hasty = [channel("usual", Some(10))];
        assert_eq!(ask(&mut pace, 343, &hasty), ["usual"]);
    }
}
