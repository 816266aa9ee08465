//! How a rollout gets from step to step.

use super::{Asked, Running};
use crate::agent::Link;
use crate::effect::{Effects, Order};
use crate::fleet::Fleet;
use crate::fleet::timers::Timer;
use crate::ids::{AgentId, JobName};
use crate::image::Digest;
use crate::rollout::gate::{self, Gate, Reading};
use crate::rollout::plan::Step;
use crate::rollout::policy::AfterPatience;
use crate::rollout::{Conclusion, State};
use crate::task::{Stop, StopReason};
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long an agent may take to fetch an image before another one gets its turn too, and it is told again.
const FETCH_PATIENCE: Millis = Millis::from_secs(120);
/// How long one that failed is left alone the first time; each time twice as long, up to `FETCH_PATIENCE`.
const FETCH_RETRY: Millis = Millis::from_secs(5);

/// What a look at a step says.
pub(super) enum Verdict {
    /// Not yet; look again at that time, or when something happens.
    Wait(Option<Timestamp>),
    /// It is over, and that is how it went.
    Pass(String),
    Fail(String),
}

impl Fleet {
    /// Takes the rollout as far as it can go.
    pub(in crate::fleet) fn drive(
        &mut self,
        now: Timestamp,
        mut running: Running,
        out: &mut Effects,
    ) {
        while let State::Active {
            step,
            since,
            paused: None,
        } = running.rollout.state
        {
            let Some(current) = running.rollout.plan.steps.get(step).cloned() else {
                running.end(now, Conclusion::Promoted, String::new(), out);
                return self.let_go(now, running, out);
            };
            let phase = current.phase();
            match self.look_at_step(now, since, &current, &mut running, out) {
                Verdict::Wait(until) => {
                    if let Some(until) = until {
                        let id = running.rollout.channel.clone();
                        self.timers.set(until, Timer::Rollout(id));
                    }
                    break;
                }
                Verdict::Pass(how) => {
                    running.note(now, phase, how, out);
                    running.rollout.state = State::Active {
                        step: step + 1,
                        since: now,
                        paused: None,
                    };
                }
                Verdict::Fail(why) => {
                    return self.take_back(now, running, Conclusion::RolledBack, why, out);
                }
            }
        }
        self.keep(running, out);
    }

    fn look_at_step(
        &mut self,
        now: Timestamp,
        since: Timestamp,
        step: &Step,
        running: &mut Running,
        out: &mut Effects,
    ) -> Verdict {
        match step {
            Step::Prefetch {
                agents,
                enough,
                at_a_time,
                patience,
            } => {
                let wave = Wave {
                    agents,
                    enough: *enough,
                    at_a_time: *at_a_time,
                    until: since + *patience,
                };
                self.prefetch_step(now, &wave, running, out)
            }
            Step::Validate { .. } => self.validate_step(now, step, running, out),
            Step::Canary {
                share: _,
                jobs: _,
                sample,
                patience,
                after_patience,
            } => canary_step(now, since + *patience, *sample, *after_patience, running),
            Step::Promote => {
                self.promote(running, out);
                Verdict::Pass(format!(
                    "new attempts use release {}; what runs on release {} may finish",
                    running.rollout.to.number, running.rollout.from.number
                ))
            }
            Step::Restart {
                jobs,
                healthy_after,
                patience,
            } => self.restart_step(now, jobs, *healthy_after, since + *patience, running, out),
            Step::Bake { lasts } => bake_step(now, since + *lasts, running),
        }
    }

    fn prefetch_step(
        &self,
        now: Timestamp,
        wave: &Wave<'_>,
        running: &mut Running,
        out: &mut Effects,
    ) -> Verdict {
        let image = running.rollout.to.image();
        let (all, ready) = (wave.agents.len(), self.holders(wave.agents, image.digest()));
        if ready.len() >= wave.enough {
            return Verdict::Pass(format!("{} of {all} agents hold the image", ready.len()));
        }
        if now >= wave.until {
            return Verdict::Fail(format!(
                "after all the time there was, {} of {all} agents hold the image, and {} are needed",
                ready.len(),
                wave.enough
            ));
        }
        for agent in running.turns(now, wave, &ready, |agent| self.is_online(agent)) {
            running.ask(now, &agent);
            let prefetch = Order::Prefetch {
                image: image.clone(),
                at_once: true,
            };
            out.order(&agent, prefetch);
        }
        let turns = running.asked.iter();
        let turns = turns.filter(|(agent, _)| !ready.contains(*agent));
        let next = turns.map(|(agent, asked)| running.again(agent, *asked));
        let next = next.filter(|turn| *turn > now).min();
        Verdict::Wait(Some(next.map_or(wave.until, |next| next.min(wave.until))))
    }

    pub(in crate::fleet) fn is_online(&self, agent: &AgentId) -> bool {
        let agent = self.agents.get(agent);
        agent.is_some_and(|agent| matches!(agent.link, Link::Online { .. }))
    }

    fn holders(&self, agents: &BTreeSet<AgentId>, digest: Digest) -> BTreeSet<AgentId> {
        let holds = |id: &AgentId| {
            let agent = self.agents.get(id);
            agent.is_some_and(|agent| agent.digests.contains(&digest))
        };
        agents.iter().filter(|id| holds(id)).cloned().collect()
    }

    /// Stops what runs on older releases, and waits until what takes its place has run for a while.
    fn restart_step(
        &mut self,
        now: Timestamp,
        jobs: &BTreeSet<JobName>,
        healthy_after: Millis,
        until: Timestamp,
        running: &Running,
        out: &mut Effects,
    ) -> Verdict {
        if let Some(why) = broken_gate(now, running) {
            return Verdict::Fail(why);
        }
        let rollout = &running.rollout;
        let old = self.attempts_on_other_releases(&rollout.channel, rollout.to.number, jobs);
        for attempt in &old {
            let not_told = self
                .holds(*attempt)
                .is_some_and(|(place, _)| place.stop.is_none());
            if not_told {
                let stop = Stop {
                    reason: StopReason::Preempted,
                    now: false,
                };
                self.order_stop(*attempt, stop, out);
            }
        }
        let concerned = |name: &JobName| jobs.is_empty() || jobs.contains(name);
        let new = running
            .trials
            .values()
            .filter(|trial| concerned(&trial.name));
        let healthy = new.map(|trial| trial.started.map(|started| started + healthy_after));
        let healthy: Vec<Option<Timestamp>> = healthy.collect();
        let waits = healthy.iter().filter(|at| at.is_none_or(|at| at > now));
        let waits = waits.count();
        if old.is_empty() && waits == 0 && !self.waits_after_restart(&rollout.channel, jobs) {
            return Verdict::Pass(format!("{} new attempts are healthy", healthy.len()));
        }
        if now >= until {
            return Verdict::Fail(format!(
                "after all the time there was, {} old attempts have not stopped and {waits} new ones \
                 are not healthy",
                old.len()
            ));
        }
        let next = healthy.into_iter().flatten().filter(|at| *at > now).min();
        Verdict::Wait(Some(next.map_or(until, |next| next.min(until))))
    }
}

impl Running {
    /// The agents that are to be told to fetch the image now: first those that never were, then those whose turn
    /// is the longest ago.
    fn turns(
        &self,
        now: Timestamp,
        wave: &Wave<'_>,
        ready: &BTreeSet<AgentId>,
        is_online: impl Fn(&AgentId) -> bool,
    ) -> Vec<AgentId> {
        let waits = |(agent, asked): &(&AgentId, &Asked)| {
            !ready.contains(*agent) && !self.failed(agent) && asked.at + FETCH_PATIENCE > now
        };
        let open = self.asked.iter().filter(waits).count();
        let lack = || wave.agents.difference(ready).filter(|id| is_online(id));
        let due = lack().filter(|id| {
            let asked = self.asked.get(*id);
            asked.is_none_or(|asked| self.again(id, *asked) <= now)
        });
        let mut due: Vec<AgentId> = due.cloned().collect();
        due.sort_by_key(|id| self.asked.get(id).map(|asked| asked.at));
        due.truncate(wave.at_a_time.saturating_sub(open));
        due
    }

    fn ask(&mut self, now: Timestamp, agent: &AgentId) {
        let before = self.asked.get(agent).map_or(0, |asked| asked.times);
        let times = before.saturating_add(1);
        self.asked.insert(agent.clone(), Asked { at: now, times });
        self.fetches.remove(agent);
    }

    fn failed(&self, agent: &AgentId) -> bool {
        let fetch = self.fetches.get(agent);
        fetch.is_some_and(|fetch| !fetch.problem.is_empty())
    }

    /// When an agent that does not hold the image then is told again.
    fn again(&self, agent: &AgentId, Asked { at, times }: Asked) -> Timestamp {
        if !self.failed(agent) {
            return at + FETCH_PATIENCE;
        }
        let doublings = times.saturating_sub(1).min(10);
        let wait = Millis(FETCH_RETRY.0 << doublings);
        at + wait.min(FETCH_PATIENCE)
    }
}

/// What a prefetch is to reach.
struct Wave<'a> {
    agents: &'a BTreeSet<AgentId>,
    enough: usize,
    at_a_time: usize,
    until: Timestamp,
}

fn canary_step(
    now: Timestamp,
    until: Timestamp,
    sample: u32,
    after_patience: AfterPatience,
    running: &Running,
) -> Verdict {
    if let Some(why) = broken_gate(now, running) {
        return Verdict::Fail(why);
    }
    let judged = running.rollout.tally.judged();
    if judged >= sample {
        return Verdict::Pass(format!("{judged} attempts judged, all gates hold"));
    }
    if now < until {
        return Verdict::Wait(Some(next_look(now, until, running)));
    }
    let few = format!("only {judged} of {sample} attempts were judged in time");
    match after_patience {
        AfterPatience::Promote => Verdict::Pass(format!("{few}, and all gates hold")),
        AfterPatience::RollBack => Verdict::Fail(few),
    }
}

fn bake_step(now: Timestamp, until: Timestamp, running: &Running) -> Verdict {
    if let Some(why) = broken_gate(now, running) {
        return Verdict::Fail(why);
    }
    if now >= until {
        let judged = running.rollout.tally.judged();
        return Verdict::Pass(format!("{judged} attempts judged, all gates hold"));
    }
    Verdict::Wait(Some(next_look(now, until, running)))
}

/// The first broken gate, in words.
fn broken_gate(now: Timestamp, running: &Running) -> Option<String> {
    let mut late: BTreeMap<JobName, u32> = BTreeMap::new();
    for attempt in running.overdue(now) {
        *late
            .entry(running.trials[&attempt].name.clone())
            .or_default() += 1;
    }
    let readings = gate::read(&running.rollout.tally, &running.rollout.policy.gates, &late);
    let broken = readings.iter().find(|reading| reading.broken)?;
    Some(words(broken))
}

/// When the next attempt would be overdue, and `until` at the latest.
fn next_look(now: Timestamp, until: Timestamp, running: &Running) -> Timestamp {
    let limits = running.trials.keys().filter_map(|id| running.limit(*id));
    let next = limits.filter(|limit| *limit > now).min();
    next.map_or(until, |next| next.min(until))
}

fn words(reading: &Reading) -> String {
    let Reading {
        gate,
        name,
        value,
        before,
        limit,
        broken: _,
    } = reading;
    let of = name
        .as_ref()
        .map_or_else(String::new, |name| format!(" of {name}"));
    let tenths = |n: &u64| format!("{}.{} %", n / 10, n % 10);
    let mebibytes = |n: &u64| format!("{} MiB", n >> 20);
    match gate {
        Gate::Failures => format!(
            "{} of the attempts failed, {} did before, and at most {} may",
            tenths(value),
            tenths(before),
            tenths(limit)
        ),
        Gate::Duration => format!(
            "attempts{of} take {}, {} before, and at most {} is allowed (95th percentile)",
            Millis(*value),
            Millis(*before),
            Millis(*limit)
        ),
        Gate::Memory => format!(
            "attempts{of} use {}, {} before, and at most {} is allowed (95th percentile)",
            mebibytes(value),
            mebibytes(before),
            mebibytes(limit)
        ),
    }
}
