//! A channel is set, its tag moved, or somebody wants an earlier release back.
//!
//! Running attempts are never touched: the next attempt runs the new digest.

use super::Fleet;
use crate::agent::Link;
use crate::channel::{Cause, Channel, ChannelId, Release};
use crate::effect::{Answer, Effects, Notice, Order, Record, Refusal};
use crate::event::RollbackTo;
use crate::ids::Ticket;
use crate::image::{Digest, Repository, Tag};
use crate::time::Timestamp;

/// What a channel shall follow, and what its tag means now.
pub(super) struct Target {
    pub(super) repository: Repository,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
}

impl Fleet {
    pub(super) fn on_channel_set(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: ChannelId,
        target: Target,
        out: &mut Effects,
    ) {
        let Target {
            repository,
            tag,
            digest,
        } = target;
        let old = self.channels.remove(&id);
        let release = |number| Release {
            number,
            repository: repository.clone(),
            digest,
            at: now,
            cause: Cause::Set,
            reason: String::new(),
        };
        let (current, previous) = match old {
            None => (release(1), None),
            Some(old) if old.current.digest == digest && old.current.repository == repository => {
                (old.current, old.previous)
            }
            Some(old) => (release(old.current.number + 1), Some(old.current)),
        };
        let is_new = current.at == now && current.cause == Cause::Set;
        let channel = Channel {
            id: id.clone(),
            repository,
            tag,
            current,
            previous,
            held_back: None,
        };
        self.channels.insert(id.clone(), channel);
        self.publish(&id, is_new, out);
        out.answer(
            ticket,
            Answer::Channel(Box::new(self.channels[&id].clone())),
        );
    }

    pub(super) fn on_image_resolved(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        found: &Target,
        cause: Cause,
        out: &mut Effects,
    ) {
        let Target {
            repository,
            tag,
            digest,
        } = found;
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        if channel.repository != *repository || channel.tag != *tag {
            return; // it was set to follow something else in the meantime
        }
        if channel.current.digest == *digest || channel.held_back == Some(*digest) {
            return;
        }
        channel.held_back = None;
        channel.move_to(now, repository.clone(), *digest, cause, String::new());
        self.publish(id, true, out);
    }

    pub(super) fn on_rolled_back(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: &ChannelId,
        to: RollbackTo,
        reason: String,
        out: &mut Effects,
    ) {
        match self.roll_back(now, id, to, reason) {
            Err(refusal) => out.answer(ticket, Answer::Refused(refusal)),
            Ok(channel) => {
                self.publish(id, true, out);
                out.answer(ticket, Answer::Channel(Box::new(channel)));
            }
        }
    }

    fn roll_back(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        to: RollbackTo,
        reason: String,
    ) -> Result<Channel, Refusal> {
        let no_channel = || Refusal::NoSuchChannel {
            channel: id.clone(),
        };
        let channel = self.channels.get_mut(id).ok_or_else(no_channel)?;
        let target = match to {
            RollbackTo::Release { digest, .. } => digest,
            RollbackTo::Previous => match &channel.previous {
                Some(previous) => previous.digest,
                None => {
                    return Err(Refusal::NoPreviousRelease {
                        channel: id.clone(),
                    });
                }
            },
        };
        if target == channel.current.digest {
            return Err(Refusal::AlreadyThere {
                channel: id.clone(),
            });
        }
        // What the tag means until it moves again; a second rollback keeps the first one's memory.
        channel.held_back = channel.held_back.or(Some(channel.current.digest));
        let repository = channel.current.repository.clone();
        channel.move_to(now, repository, target, Cause::Rollback, reason);
        Ok(channel.clone())
    }

    /// Records a channel as it stands, and has a new release fetched before tasks ask for it.
    fn publish(&mut self, id: &ChannelId, is_new: bool, out: &mut Effects) {
        let channel = &self.channels[id];
        out.record(Record::Channel(channel.clone()));
        self.placeable = true;
        if !is_new {
            return;
        }
        let release = channel.current.clone();
        out.record(Record::Released {
            channel: id.clone(),
            release: release.clone(),
        });
        let image = release.image();
        for agent in self.agents.values() {
            let online = matches!(agent.link, Link::Online { .. });
            if online && !agent.digests.contains(&image.digest()) {
                out.order(
                    &agent.id,
                    Order::Prefetch {
                        image: image.clone(),
                    },
                );
            }
        }
        out.notify(Notice::Released {
            channel: id.clone(),
            release,
        });
    }
}

impl Channel {
    fn move_to(
        &mut self,
        at: Timestamp,
        repository: Repository,
        digest: Digest,
        cause: Cause,
        reason: String,
    ) {
        let number = self.current.number + 1;
        let release = Release {
            number,
            repository,
            digest,
            at,
            cause,
            reason,
        };
        self.previous = Some(std::mem::replace(&mut self.current, release));
    }
}
