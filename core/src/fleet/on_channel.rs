//! A channel is set, its tag moved, somebody wants another release, or an earlier one back.
//!
//! Running attempts are never touched: the next attempt runs the new digest.

use super::Fleet;
use super::rollouts::Running;
use crate::agent::{Agent, Link, Schedulable};
use crate::channel::{Candidate, Cause, Channel, ChannelId, Following, Release, Warm};
use crate::effect::{Answer, Effects, Notice, Order, Record, Refusal, WarmOrder};
use crate::event::RollbackTo;
use crate::ids::{AgentId, Ticket};
use crate::image::{Image, Tag};
use crate::rollout::policy::{Newer, Policy};
use crate::rollout::{Command, Conclusion};
use crate::time::Timestamp;

/// Who wants what back.
pub(super) struct Rollback {
    pub(super) to: RollbackTo,
    pub(super) reason: String,
    pub(super) by: String,
}

impl Fleet {
    /// The first digest of a channel is its release at once: there is nothing to go back to.
    pub(super) fn on_channel_set(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: &ChannelId,
        tag: Tag,
        candidate: Candidate,
        out: &mut Effects,
    ) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.repository = candidate.repository.clone();
            channel.tag = tag;
            channel.held_back = None;
            channel.passed_over = None;
            out.record(Record::Channel(Box::new(channel.clone())));
            self.offer_release(now, id, candidate, out);
        } else if let Some(objection) = candidate.facts.objection_on(&self.platforms()) {
            let channel = id.clone();
            let refusal = Refusal::Objection { channel, objection };
            return out.answer(ticket, Answer::Refused(refusal));
        } else {
            let channel = Channel {
                id: id.clone(),
                repository: candidate.repository.clone(),
                tag,
                current: candidate.release(1, now),
                previous: None,
                held_back: None,
                passed_over: None,
                policy: Policy::default(),
                warm: Warm::default(),
                following: Following::default(),
                unpromoted: Vec::new(),
            };
            self.channels.insert(id.clone(), channel);
            self.publish(id, out);
        }
        let channel = self.channels[id].clone();
        out.answer(ticket, Answer::Channel(Box::new(channel)));
    }

    pub(super) fn on_image_resolved(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        tag: &Tag,
        candidate: Candidate,
        out: &mut Effects,
    ) {
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        if channel.repository != candidate.repository || channel.tag != *tag {
            return; // it was set to follow something else in the meantime
        }
        let known = [channel.held_back, channel.passed_over];
        if known.contains(&Some(candidate.digest)) {
            return;
        }
        if channel.passed_over.take().is_some() {
            out.record(Record::Channel(Box::new(channel.clone())));
        }
        if !channel.is_at(&candidate) {
            channel.held_back = None;
        }
        self.offer_release(now, id, candidate, out);
    }

    /// Moves the channel to the candidate by its policy, if it is not there or on its way. Tells why not, if it can't
    /// go there and something else is under way, which it does not disturb.
    fn offer_release(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        candidate: Candidate,
        out: &mut Effects,
    ) -> Option<String> {
        let is_there = self.channels[id].is_at(&candidate);
        let Some(running) = self.rollouts.active.get_mut(id) else {
            if !is_there {
                self.begin_rollout(now, id, candidate, out);
            }
            return None;
        };
        let rollout = &running.rollout;
        if rollout.to.digest == candidate.digest && rollout.to.repository == candidate.repository {
            running.next = None;
            return None;
        }
        match (is_there, rollout.policy.newer) {
            // The tag moved back to what is current.
            (true, _) => self.supersede(now, id, "the current release is wanted again", out),
            (false, Newer::Queue) => running.next = Some(candidate),
            (false, Newer::Supersede) => return self.begin_rollout(now, id, candidate, out),
        }
        None
    }

    /// Asking twice begins nothing twice.
    pub(super) fn on_rollout_asked(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: &ChannelId,
        candidate: Candidate,
        out: &mut Effects,
    ) {
        let active = self.rollouts.active.get(id);
        let followed = active.and_then(Running::followed);
        let Some(channel) = self.channels.get_mut(id) else {
            let channel = id.clone();
            return out.answer(ticket, Answer::Refused(Refusal::NoSuchChannel { channel }));
        };
        if channel.start(candidate.digest, followed) {
            out.record(Record::Channel(Box::new(channel.clone())));
        }
        match self.offer_release(now, id, candidate, out) {
            None => self.answer_channel(ticket, id, out),
            Some(objection) => {
                let channel = id.clone();
                let refusal = Refusal::Objection { channel, objection };
                out.answer(ticket, Answer::Refused(refusal));
            }
        }
    }

    pub(super) fn on_policy_set(
        &mut self,
        ticket: Ticket,
        id: &ChannelId,
        policy: Policy,
        out: &mut Effects,
    ) {
        self.put(ticket, id, |channel| &mut channel.policy, policy, out);
    }

    pub(super) fn on_warm_set(
        &mut self,
        ticket: Ticket,
        id: &ChannelId,
        warm: Warm,
        out: &mut Effects,
    ) {
        if self.put(ticket, id, |channel| &mut channel.warm, warm, out) {
            self.keep_images(id, out);
        }
    }

    pub(super) fn on_following_set(
        &mut self,
        ticket: Ticket,
        id: &ChannelId,
        following: Following,
        out: &mut Effects,
    ) {
        self.put(ticket, id, |channel| &mut channel.following, following, out);
    }

    /// Gives a field of a channel a value, and answers. Tells whether it had another one.
    fn put<T: PartialEq>(
        &mut self,
        ticket: Ticket,
        id: &ChannelId,
        field: fn(&mut Channel) -> &mut T,
        value: T,
        out: &mut Effects,
    ) -> bool {
        let Some(channel) = self.channels.get_mut(id) else {
            let channel = id.clone();
            out.answer(ticket, Answer::Refused(Refusal::NoSuchChannel { channel }));
            return false;
        };
        let is_news = *field(channel) != value;
        if is_news {
            *field(channel) = value;
            out.record(Record::Channel(Box::new(channel.clone())));
        }
        self.answer_channel(ticket, id, out);
        is_news
    }

    pub(super) fn on_rollout_told(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: &ChannelId,
        command: Command,
        by: &str,
        out: &mut Effects,
    ) {
        match self.tell(now, id, command, by, out) {
            Ok(()) => self.answer_channel(ticket, id, out),
            Err(refusal) => out.answer(ticket, Answer::Refused(refusal)),
        }
    }

    fn tell(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        command: Command,
        by: &str,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let channel = || id.clone();
        let Some(mut running) = self.rollouts.active.remove(id) else {
            return Err(Refusal::NoRollout { channel: channel() });
        };
        let told = running.obey(now, &command, by, out);
        match (told, command) {
            (Err(refusal), _) => {
                self.keep(running, out);
                return Err(refusal);
            }
            (Ok(()), Command::Abort { reason }) => {
                let how = if running.rollout.is_promoted() {
                    Conclusion::RolledBack
                } else {
                    Conclusion::Aborted
                };
                self.take_back(now, running, how, with_name(&reason, by), out);
            }
            (Ok(()), Command::Pause | Command::Resume | Command::Promote { .. }) => {
                self.drive(now, running, out);
            }
        }
        Ok(())
    }

    /// Undoes what is under way, and otherwise the last release.
    pub(super) fn on_rolled_back(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: &ChannelId,
        wish: Rollback,
        out: &mut Effects,
    ) {
        if wish.to == RollbackTo::Previous && self.rollouts.active.contains_key(id) {
            let Rollback { to: _, reason, by } = wish;
            let abort = Command::Abort { reason };
            return self.on_rollout_told(now, ticket, id, abort, &by, out);
        }
        match self.roll_back(now, id, wish, out) {
            Err(refusal) => out.answer(ticket, Answer::Refused(refusal)),
            Ok(()) => self.answer_channel(ticket, id, out),
        }
    }

    fn roll_back(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        wish: Rollback,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let Rollback { to, reason, by } = wish;
        let channel = || id.clone();
        let Some(known) = self.channels.get(id) else {
            return Err(Refusal::NoSuchChannel { channel: channel() });
        };
        let release = match (&to, &known.previous) {
            (RollbackTo::Release(release), _) => release,
            (RollbackTo::Previous, Some(previous)) => previous,
            (RollbackTo::Previous, None) => {
                return Err(Refusal::NoPreviousRelease { channel: channel() });
            }
        };
        let back = Candidate {
            repository: release.repository.clone(),
            digest: release.digest,
            facts: release.facts(),
            cause: Cause::Rollback,
            reason,
            by,
        };
        if known.is_at(&back) {
            return Err(Refusal::AlreadyThere { channel: channel() });
        }
        self.supersede(now, id, "somebody went back to an earlier release", out);
        let known = self.channels.get_mut(id).expect("it was just there");
        // What the tag means until it moves again; a second rollback keeps the first one's memory.
        known.held_back = known.held_back.or(Some(known.current.digest));
        self.move_back(now, id, &back, out);
        Ok(())
    }

    /// Makes a release of what the channel was at before. No rollout is under way.
    pub(super) fn move_back(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        back: &Candidate,
        out: &mut Effects,
    ) {
        let channel = self.channels.get_mut(id).expect("the caller found it");
        let release = back.release(channel.newest() + 1, now);
        channel.previous = Some(std::mem::replace(&mut channel.current, release));
        self.publish(id, out);
    }

    /// The images that the channel's next attempts may run: the current one, the way back, and what is on
    /// trial.
    pub(super) fn kept_images(&self, channel: &Channel) -> Vec<Image> {
        let candidate = self.rollout(&channel.id).map(|rollout| rollout.to.image());
        let previous = channel.previous.as_ref().map(Release::image);
        let mut images = vec![channel.current.image()];
        images.extend(previous.into_iter().chain(candidate));
        images.dedup();
        images
    }

    /// Says so to every agent.
    pub(super) fn keep_images(&self, id: &ChannelId, out: &mut Effects) {
        for agent in self.agents.values() {
            if matches!(agent.link, Link::Online { .. }) {
                self.keep_on(agent, &self.channels[id], out);
            }
        }
    }

    /// Says so to one agent, and how many containers wait there.
    pub(super) fn keep_on(&self, agent: &Agent, channel: &Channel, out: &mut Effects) {
        let takes_work = matches!(agent.schedulable, Schedulable::Yes);
        let warm = Some(channel.warm).filter(|warm| takes_work && !warm.is_off());
        let keep = Order::Keep {
            channel: channel.id.clone(),
            images: self.kept_images(channel),
            warm: warm.map(|warm| WarmOrder {
                image: channel.current.image(),
                warm,
            }),
        };
        out.order(&agent.id, keep);
    }

    /// Says it anew to an agent that takes work now, or doesn't any more.
    pub(super) fn warm_on(&self, id: &AgentId, out: &mut Effects) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        if !matches!(agent.link, Link::Online { .. }) {
            return; // it is told when it is
        }
        for channel in self.channels.values() {
            if !channel.warm.is_off() {
                self.keep_on(agent, channel, out);
            }
        }
    }

    /// Records a channel that is at another release than before, which stores the release too, and has it fetched before tasks ask
    /// for it.
    pub(super) fn publish(&mut self, id: &ChannelId, out: &mut Effects) {
        let channel = &self.channels[id];
        out.record(Record::Channel(Box::new(channel.clone())));
        self.placeable = true;
        let release = channel.current.clone();
        let image = release.image();
        for agent in self.agents.values() {
            let online = matches!(agent.link, Link::Online { .. });
            if online && !agent.digests.contains(&image.digest()) {
                out.order(
                    &agent.id,
                    Order::Prefetch {
                        image: image.clone(),
                        at_once: false,
                    },
                );
            }
        }
        out.notify(Notice::Released {
            channel: id.clone(),
            release,
        });
        if !self.channels[id].warm.is_off() {
            self.keep_images(id, out);
        }
    }

    fn answer_channel(&self, ticket: Ticket, id: &ChannelId, out: &mut Effects) {
        let channel = Box::new(self.channels[id].clone());
        out.answer(ticket, Answer::Channel(channel));
    }
}

pub(super) fn with_name(what: &str, by: &str) -> String {
    match (what.is_empty(), by.is_empty()) {
        (_, true) => what.to_owned(),
        (true, false) => format!("by {by}"),
        (false, false) => format!("{what} (by {by})"),
    }
}
