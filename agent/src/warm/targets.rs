//! How many containers are parked of what. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_core::image::Image;
use tokio::time::Instant;

use super::Want;
use super::wish::{DEFAULT_LIMITS, Wish};
use crate::runtime::Limits;

/// So many containers as tasks came in so long are wanted.
const WINDOW: Duration = Duration::from_secs(60);
/// A wish that nobody had for so long is forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// Different wishes of a channel's tasks that are kept in mind.
const WISHES_MAX: usize = 8;
/// Tasks of one wish that are counted.
const TIMES_MAX: usize = 1024;

/// What is to be done next.
#[derive(Debug)]
pub(super) struct Step {
    /// The containers' names.
    pub remove: Vec<String>,
    pub park: Option<(Asked, Limits)>,
}

/// What one parked container is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub channel: String,
    pub image: Image,
    pub wish: Wish,
}

/// A channel that wants containers parked, and what its tasks were like.
#[derive(Debug, Default)]
pub(super) struct Channel {
    want: Option<Want>,
    /// The one that was seen last is the last.
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    wish: Wish,
    limits: Limits,
    times: VecDeque<Instant>,
}

impl Channel {
    pub(super) fn want(&mut self, want: Want) {
        self.want = Some(want);
    }

    pub(super) fn is_at(&self, image: &Image) -> bool {
        self.want.as_ref().is_some_and(|want| want.image == *image)
    }

    /// A task came that wishes for this.
    pub(super) fn ask(&mut self, wish: &Wish, limits: Limits, now: Instant) {
        let place = self.seen.iter().position(|seen| seen.wish == *wish);
        let mut seen = match place {
            Some(place) => self.seen.remove(place),
            None => Seen {
                wish: wish.clone(),
                limits,
                times: VecDeque::new(),
            },
        };
        seen.limits = limits;
        if seen.times.len() == TIMES_MAX {
            seen.times.pop_front();
        }
        seen.times.push_back(now);
        let is_old = |seen: &Seen| seen.times.back().is_none_or(|at| *at + FORGET < now);
        self.seen.retain(|seen| !is_old(seen));
        if self.seen.len() == WISHES_MAX {
            self.seen.remove(0);
        }
        self.seen.push(seen);
    }

    /// What the last task with this wish had.
    pub(super) fn limits(&self, wish: &Wish) -> Limits {
        let seen = self.seen.iter().find(|seen| seen.wish == *wish);
        seen.map_or(DEFAULT_LIMITS, |seen| seen.limits)
    }

    /// How many are to be parked for each wish, and how many of these in any case.
    fn targets(&self, now: Instant) -> Vec<(Wish, u32)> {
        let Some(want) = &self.want else {
            return Vec::new();
        };
        let recent = |seen: &Seen| {
            let recent = seen.times.iter().filter(|at| **at + WINDOW >= now);
            u32::try_from(recent.count()).unwrap_or(u32::MAX)
        };
        // The newest first, which is also who gets what is over.
        let mut asked: Vec<(Wish, u32)> = self
            .seen
            .iter()
            .rev()
            .map(|seen| (seen.wish.clone(), recent(seen)))
            .collect();
        if asked.is_empty() {
            asked.push((Wish::default(), 0));
        }
        let sum = asked
            .iter()
            .fold(0, |sum: u32, (_, n)| sum.saturating_add(*n));
        let mut left = sum.clamp(want.min, want.max);
        let mut given: Vec<u32> = vec![0; asked.len()];
        while left > 0 {
            // Of equals the first, which is the newest.
            let unmet = |place: usize| asked[place].1.saturating_sub(given[place]);
            let most = (0..asked.len()).rev().max_by_key(|place| unmet(*place));
            let place = most.expect("there is at least one wish");
            given[place] += 1;
            left -= 1;
        }
        let wishes = asked.into_iter().map(|(wish, _)| wish);
        wishes.zip(given).filter(|(_, n)| *n > 0).collect()
    }
}

/// How many of what are to be parked on a host that may have `budget`. If that is less than all channels
/// want together, each gets one in turn.
pub(super) fn targets(
    channels: &BTreeMap<String, Channel>,
    budget: u32,
    now: Instant,
) -> Vec<(Asked, u32)> {
    let mut wanted = Vec::new();
    for (name, channel) in channels {
        let Some(want) = &channel.want else {
            continue;
        };
        for (wish, count) in channel.targets(now) {
            let asked = Asked {
                channel: name.clone(),
                image: want.image.clone(),
                wish,
            };
            wanted.push((asked, count));
        }
    }
    let mut given: Vec<u32> = vec![0; wanted.len()];
    let mut left = budget;
    loop {
        let before = left;
        for (given, (_, wanted)) in given.iter_mut().zip(&wanted) {
            if left > 0 && *given < *wanted {
                *given += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    let asked = wanted.into_iter().map(|(asked, _)| asked);
    asked.zip(given).collect()
}

#[cfg(test)]
mod tests;
