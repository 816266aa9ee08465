//! Carries the script out.

use muster_core::channel::Cause;
use muster_core::event::{Event, RollbackTo};
use muster_core::image::{Digest, Tag};
use muster_core::rollout::Command;
use muster_core::time::Millis;
use muster_tests::sample;

use crate::client::channel;
use crate::fault::Fault;
use crate::release::candidate;
use crate::script::Action;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn act(&mut self, action: Action) {
        self.trace.note(self.now, format_args!("action {action:?}"));
        match action {
            Action::Submit { draw } => self.submit(draw),
            Action::SubmitAgain { draw, changed } => self.submit_again(draw, changed),
            Action::Cancel {
                draw,
                some_tasks,
                now,
            } => self.cancel(draw, some_tasks, now),
            Action::Push => self.push(),
            Action::SetChannel => self.set_channel(),
            Action::RollBack => self.roll_back(),
            Action::SetPolicy { draw } => self.set_policy(draw),
            Action::SetWarm { draw } => self.set_warm(draw),
            Action::TellRollout { draw } => self.tell_rollout(draw),
            Action::Cordon { host } => self.cordon(host),
            Action::Uncordon { host } => self.uncordon(host),
            Action::Drain { host, deadline } => self.drain(host, deadline),
            Action::CrashCoordinator { down } => self.crash_coordinator(down),
            Action::CrashAgent { host, down } => self.crash_agent(self.host(host), down),
            Action::LoseJournals { host, down } => self.lose_journals(self.host(host), down),
            Action::CutStream { host } => self.cut_stream(self.host(host)),
            Action::HalfOpen { host, deaf } => self.half_open(self.host(host), deaf),
            Action::PauseAgent {
                host,
                lasts,
                at_beat,
            } if at_beat => {
                let host = self.host(host);
                self.hosts[host].pause_next = Some(lasts);
            }
            Action::PauseAgent { host, lasts, .. } => self.pause_agent(self.host(host), lasts),
            Action::PauseCoordinator { lasts } => self.pause_coordinator(lasts),
            Action::Partition { host, lasts } => self.partition(self.host(host), lasts),
            Action::RestartEngine {
                host,
                gracefully,
                down,
                unseen,
            } => {
                let host = self.host(host);
                if unseen && self.hosts[host].engine.up {
                    self.hit(Fault::EngineGoneUnseen);
                    self.pause_agent(host, Millis(down.0 + 5_000));
                }
                self.restart_engine(host, gracefully, down);
            }
            Action::Reboot { host, down } => self.reboot(self.host(host), down),
            Action::DestroyHost { host } => {
                let host = self.host(host);
                self.hit(Fault::HostDestroyed);
                self.power_off(host);
                self.hosts[host].destroyed = true;
            }
            Action::KillContainer { host, draw } => self.kill_from_outside(self.host(host), draw),
            Action::BreakStarts { host, lasts } => {
                self.hit(Fault::HostStartsNothing);
                let (host, until) = (self.host(host), self.now + lasts);
                self.hosts[host].broken_until = until;
            }
            Action::SetClock { host, to } => {
                self.hit(Fault::HostClockSet);
                let host = self.host(host);
                self.hosts[host].set_forward = to;
            }
            Action::StaleCoordinator { host } => self.meet_stale_coordinator(self.host(host)),
            Action::Heal => self.heal(),
        }
    }

    fn cut_stream(&mut self, host: usize) {
        let notice = Millis(self.rng.network.below(40_000));
        self.cut(host, notice);
    }

    fn reboot(&mut self, host: usize, down: Millis) {
        if self.hosts[host].powered {
            self.power_off(host);
            self.after(down, Happening::HostStarts { host });
        }
    }

    fn host(&self, draw: u64) -> usize {
        let count = u64::try_from(self.hosts.len()).expect("a handful");
        usize::try_from(draw % count).expect("a handful")
    }

    pub(crate) fn soon(&mut self, event: Event) {
        let arrives = self.now + Millis(self.rng.client.between(1, 50));
        self.tell(arrives, event);
    }

    /// The news of a push are the digest that the tag has when it is resolved.
    fn push(&mut self) {
        let digest = self.pushed();
        let event = Event::ImageResolved {
            channel: channel(),
            tag: Tag::parse("latest").expect("it is a tag"),
            candidate: Box::new(candidate(digest, Cause::Webhook)),
        };
        self.soon(event);
    }

    fn pushed(&mut self) -> Digest {
        let byte = u8::try_from(self.rng.client.between(1, 120)).expect("it is small");
        sample::digest(byte)
    }

    fn set_channel(&mut self) {
        let ticket = self.client.ticket();
        let digest = self.pushed();
        let event = Event::ChannelSet {
            ticket,
            channel: channel(),
            tag: Tag::parse("latest").expect("it is a tag"),
            candidate: Box::new(candidate(digest, Cause::Set)),
        };
        self.soon(event);
    }

    fn roll_back(&mut self) {
        let event = Event::RolledBack {
            ticket: self.client.ticket(),
            channel: channel(),
            to: RollbackTo::Previous,
            reason: "bad numbers".into(),
            by: String::new(),
        };
        self.soon(event);
    }

    fn cordon(&mut self, host: u64) {
        let event = Event::AgentCordoned {
            ticket: self.client.ticket(),
            agent: self.hosts[self.host(host)].id.clone(),
            reason: "a disk is loud".into(),
        };
        self.soon(event);
    }

    fn uncordon(&mut self, host: u64) {
        let event = Event::AgentUncordoned {
            ticket: self.client.ticket(),
            agent: self.hosts[self.host(host)].id.clone(),
        };
        self.soon(event);
    }

    fn drain(&mut self, host: u64, deadline: Option<Millis>) {
        let event = Event::AgentDrained {
            ticket: self.client.ticket(),
            agent: self.hosts[self.host(host)].id.clone(),
            reason: "a new kernel".into(),
            deadline: deadline.map(|span| self.coordinator.clock(self.now) + span),
        };
        self.soon(event);
    }

    fn partition(&mut self, host: usize, lasts: Millis) {
        self.hit(Fault::Partition);
        self.hosts[host].reachable = false;
        let notice = Millis(self.rng.network.below(40_000));
        self.cut(host, notice);
        self.after(lasts, Happening::Reachable { host });
    }

    /// Everything that can come back does, and stays.
    fn heal(&mut self) {
        self.calm = true;
        self.keep_coordinator_up();
        for at in 0..self.hosts.len() {
            self.hosts[at].reachable = true;
            self.hosts[at].asleep_until = None;
            self.hosts[at].pause_next = None;
            self.hosts[at].broken_until = self.now;
            if self.hosts[at].destroyed {
                continue;
            }
            self.start_host(at);
            if !self.hosts[at].engine.up {
                self.start_engine(at, self.hosts[at].boot);
            }
            self.start_agent(at);
            // Once all agents are known again, by operators who know that they are.
            for minutes in [1, 5] {
                let event = Event::AgentUncordoned {
                    ticket: self.client.ticket(),
                    agent: self.hosts[at].id.clone(),
                };
                self.tell(self.now + Millis::from_secs(60 * minutes), event);
            }
        }
        // Somebody remembers what was paused.
        for minutes in [1, 10, 60] {
            let event = self.told(Command::Resume);
            self.tell(self.now + Millis::from_secs(60 * minutes), event);
        }
        // What was quarantined before, and what the last silences put there.
        for minutes in [10, 60, 120, 240] {
            let event = Event::Requeued {
                ticket: self.client.ticket(),
                team: sample::team(),
                task: None,
            };
            self.tell(self.now + Millis::from_secs(60 * minutes), event);
        }
    }
}
