//! Why a task waits, in types; the words are made from them in one place.

mod words;

use super::Fleet;
use super::place::matches;
use crate::agent::{Agent, Link, Schedulable};
use crate::ids::{AgentId, JobId, PoolName, TeamName};
use crate::image::Image;
use crate::job::LiveJob;
use crate::safe_mode::SafeMode;
use crate::spec::Requirements;
use crate::task::TaskState;
use crate::time::{Millis, Timestamp};

/// How a live job or task stands, as far as only the fleet knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub waiting: Option<Waiting>,
    pub out_of_sight: Option<OutOfSight>,
}

/// The agent that runs the task is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfSight {
    pub agent: AgentId,
    pub since: Timestamp,
    /// The task is stopped there by itself, and counts as stopped after this.
    pub stops_in: Option<Millis>,
}

/// Why tasks are not assigned now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The first is the reason; the rest come into play when it is gone.
    pub blockers: Vec<Blocker>,
    /// Jobs that wait for the same and go first.
    pub ahead: usize,
}

/// What keeps a task from being assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// The store was restored from a backup, or is an old copy: nothing is started until somebody has
    /// looked.
    SafeMode(SafeMode),
    /// So many of its attempts died that a person has to decide.
    Quarantined {
        deaths: u32,
    },
    /// Tasks of the job that wait for a person.
    TasksQuarantined {
        tasks: usize,
    },
    /// The delay before its next attempt.
    RetryDelay {
        left: Millis,
    },
    /// The team's retries go at a pace, and others are before it.
    RetriesPaced {
        ahead: usize,
        per_minute: u32,
    },
    ConcurrencyKey {
        key: String,
        live: u32,
        limit: u32,
    },
    /// On an agent attempts did not start, and nothing of the job has started anywhere yet: so many of its
    /// attempts may.
    StartsInDoubt {
        preparing: usize,
    },
    /// A pull of its image failed: agents that don't hold it try one at a time, the next one then.
    PullFails {
        image: String,
        left: Millis,
        message: String,
    },
    /// No agent of that pool has ever called.
    NoAgentInPool {
        pool: PoolName,
        agents: usize,
    },
    NoSuchAgent {
        agent: AgentId,
    },
    /// None of the pool's agents has the labels.
    NoAgentWithLabels {
        pool: PoolName,
        agents: usize,
        labels: Vec<String>,
    },
    /// None of the agents that match could stop its tasks when it is cut off.
    NoLease {
        agents: usize,
    },
    /// None of the agents that match holds the image, and pulling was ruled out.
    ImageNotHeld {
        image: String,
        agents: usize,
    },
    /// Larger than the largest agent that matches.
    TooLarge {
        what: &'static str,
        wanted: u64,
        most: u64,
        agents: usize,
    },
    /// Those that match are away or out of service.
    NobodyInService {
        agents: usize,
        unreachable: usize,
        cordoned: usize,
        /// They refused offers because of their own state, and are asked again soon.
        resting: usize,
    },
    /// Those that match and are in service have no room now.
    Full {
        pool: PoolName,
        agents: usize,
        busy_places: u32,
        places: u32,
    },
    /// Nothing: it is assigned in a moment.
    NextInLine,
}

impl Blocker {
    /// The stable word for tools.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SafeMode(_) => "safe_mode",
            Self::Quarantined { .. } => "quarantined",
            Self::TasksQuarantined { .. } => "tasks_quarantined",
            Self::RetryDelay { .. } => "retry_delay",
            Self::RetriesPaced { .. } => "retries_paced",
            Self::ConcurrencyKey { .. } => "concurrency_key",
            Self::StartsInDoubt { .. } => "starts_in_doubt",
            Self::PullFails { .. } => "pull_fails",
            Self::NoAgentInPool { .. } => "no_agent_in_pool",
            Self::NoSuchAgent { .. } => "no_such_agent",
            Self::NoAgentWithLabels { .. } => "no_agent_with_labels",
            Self::NoLease { .. } => "no_lease",
            Self::ImageNotHeld { .. } => "image_not_held",
            Self::TooLarge { .. } => "too_large",
            Self::NobodyInService { .. } => "nobody_in_service",
            Self::Full { .. } => "full",
            Self::NextInLine => "next_in_line",
        }
    }
}

impl Fleet {
    /// How a live job, or one of its tasks, stands. `None` if the job has ended or is not known.
    #[must_use]
    pub fn explain(&self, now: Timestamp, id: JobId, index: Option<u32>) -> Option<Explanation> {
        let live = self.jobs.get(id)?;
        let task = index.and_then(|index| live.tasks.get(&index));
        match task.map(|task| &task.state) {
            Some(TaskState::Held { place, .. }) => {
                let agent = self.agents.get(&place.agent);
                let out_of_sight = agent.and_then(|agent| match agent.link {
                    Link::Unreachable { since, .. } | Link::Lost { since } => Some(OutOfSight {
                        agent: agent.id.clone(),
                        since,
                        stops_in: self
                            .stopped_at(&live.job, &agent.id)
                            .map(|at| at.since(now)),
                    }),
                    Link::Online { .. } => None,
                });
                Some(Explanation {
                    waiting: None,
                    out_of_sight,
                })
            }
            Some(TaskState::Pending {
                quarantined: true, ..
            }) => {
                let deaths = task.map_or(0, |task| task.spent.deaths);
                Some(waits_for(Blocker::Quarantined { deaths }))
            }
            Some(TaskState::Pending { not_before, .. }) if *not_before > now => {
                let left = not_before.since(now);
                Some(waits_for(Blocker::RetryDelay { left }))
            }
            Some(TaskState::Pending { .. }) => {
                let paced = self.explain_paced(&live, index);
                let memory = task.map_or(0, |task| task.spent.memory);
                Some(paced.unwrap_or_else(|| self.explain_waiting(now, &live, memory)))
            }
            None if live.assignable() > 0 => {
                let memory = live.sizes().first().copied().unwrap_or(0);
                Some(self.explain_waiting(now, &live, memory))
            }
            None => {
                let held = live.tasks.values().filter(|task| task.is_quarantined());
                let tasks = held.count();
                if index.is_none() && tasks > 0 {
                    return Some(waits_for(Blocker::TasksQuarantined { tasks }));
                }
                let nothing = Explanation {
                    waiting: None,
                    out_of_sight: None,
                };
                Some(self.explain_paced(&live, index).unwrap_or(nothing))
            }
        }
    }

    fn explain_paced(&self, live: &LiveJob, index: Option<u32>) -> Option<Explanation> {
        let ahead = self.place_in_line(&live.job.team, live.job.id, index)?;
        let per_minute = self.limits.retries_per_minute;
        Some(waits_for(Blocker::RetriesPaced { ahead, per_minute }))
    }

    fn explain_waiting(&self, now: Timestamp, live: &LiveJob, memory: u64) -> Explanation {
        let ahead = self.queue.ahead_of(live, memory);
        let waiting = Some(Waiting {
            blockers: self.blockers(now, live, &live.job.needs(memory)),
            ahead,
        });
        Explanation {
            waiting,
            out_of_sight: None,
        }
    }

    fn blockers(&self, now: Timestamp, live: &LiveJob, needs: &Requirements) -> Vec<Blocker> {
        let team = &live.job.team;
        let mut found: Vec<Blocker> = self
            .safe_mode()
            .cloned()
            .map(Blocker::SafeMode)
            .into_iter()
            .collect();
        let keys = needs
            .concurrency
            .keys()
            .map(|key| {
                let (live, limit) = (self.live_with(team, key), self.smallest_limit(team, key));
                (key.clone(), live, limit)
            })
            .filter(|(_, live, limit)| live >= limit)
            .map(|(key, live, limit)| Blocker::ConcurrencyKey { key, live, limit });
        found.extend(keys);
        let preparing = self.starts_in_doubt(live);
        found.extend(preparing.map(|preparing| Blocker::StartsInDoubt { preparing }));
        let image = self.image_of(&live.job);
        found.extend(image.and_then(|(image, _)| self.explain_pull(now, &image)));
        found.extend(self.no_agent(needs));
        if found.is_empty() {
            found.push(Blocker::NextInLine);
        }
        found
    }

    fn explain_pull(&self, now: Timestamp, image: &Image) -> Option<Blocker> {
        self.may_pull(now, image.digest())?;
        let failing = self.pulls.get(&image.digest())?;
        Some(Blocker::PullFails {
            image: image.to_string(),
            left: failing.until.since(now),
            message: failing.message.clone(),
        })
    }

    /// Jobs may disagree about a key's limit: placement keeps the smallest of those that wait.
    fn smallest_limit(&self, team: &TeamName, key: &str) -> u32 {
        let classes = self.queue.classes().map(|(class, _)| class);
        let limits = classes
            .filter(|(of, _)| of == team)
            .filter_map(|(_, needs)| needs.concurrency.get(key));
        limits.copied().min().unwrap_or(u32::MAX)
    }

    /// Why no agent takes it, from what can't change to what changes by itself.
    fn no_agent(&self, needs: &Requirements) -> Option<Blocker> {
        let all: Vec<&Agent> = self.agents.values().collect();
        if let Some(id) = &needs.agent
            && !self.agents.contains_key(id)
        {
            return Some(Blocker::NoSuchAgent { agent: id.clone() });
        }
        let pool: Vec<&Agent> = all
            .iter()
            .copied()
            .filter(|agent| agent.profile.pool == needs.pool)
            .collect();
        if pool.is_empty() {
            return Some(Blocker::NoAgentInPool {
                pool: needs.pool.clone(),
                agents: all.len(),
            });
        }
        let unheld = Requirements {
            held: None,
            lease: false,
            ..needs.clone()
        };
        let named: Vec<&Agent> = pool
            .iter()
            .copied()
            .filter(|a| matches(a, &unheld))
            .collect();
        if named.is_empty() {
            let labels = needs
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let labels = labels.chain(needs.agent.as_ref().map(|id| format!("the name {id}")));
            return Some(Blocker::NoAgentWithLabels {
                pool: needs.pool.clone(),
                agents: pool.len(),
                labels: labels.collect(),
            });
        }
        let stoppable = named.iter().copied();
        let stoppable = stoppable.filter(|agent| agent.profile.leases || !needs.lease);
        let fitting: Vec<&Agent> = stoppable.clone().filter(|a| matches(a, needs)).collect();
        if stoppable.count() == 0 {
            let agents = named.len();
            return Some(Blocker::NoLease { agents });
        }
        if fitting.is_empty() {
            let image = needs
                .held
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            return Some(Blocker::ImageNotHeld {
                image,
                agents: named.len(),
            });
        }
        too_large(needs, &fitting).or_else(|| self.busy(needs, &fitting))
    }
}

fn waits_for(blocker: Blocker) -> Explanation {
    let waiting = Some(Waiting {
        blockers: vec![blocker],
        ahead: 0,
    });
    Explanation {
        waiting,
        out_of_sight: None,
    }
}

fn too_large(needs: &Requirements, fitting: &[&Agent]) -> Option<Blocker> {
    if fitting
        .iter()
        .any(|agent| agent.could_ever_fit(&needs.resources))
    {
        return None;
    }
    let most =
        |amount: fn(&Agent) -> u64| fitting.iter().map(|agent| amount(agent)).max().unwrap_or(0);
    let wanted = &needs.resources;
    let rows: [(&'static str, u64, u64); 3] = [
        (
            "bytes of memory",
            wanted.memory_bytes,
            most(|agent| agent.profile.capacity.resources.memory_bytes),
        ),
        (
            "thousandths of a CPU",
            wanted.cpu_millis.into(),
            most(|agent| agent.profile.capacity.resources.cpu_millis.into()),
        ),
        (
            "GPUs",
            wanted.gpus.into(),
            most(|agent| agent.profile.capacity.resources.gpus.into()),
        ),
    ];
    let largest = rows.into_iter().find(|(_, wanted, most)| wanted > most);
    let (what, wanted, most) = largest.unwrap_or(("of its resources together", 1, 0));
    Some(Blocker::TooLarge {
        what,
        wanted,
        most,
        agents: fitting.len(),
    })
}

impl Fleet {
    fn busy(&self, needs: &Requirements, fitting: &[&Agent]) -> Option<Blocker> {
        let in_service: Vec<&&Agent> = fitting
            .iter()
            .filter(|agent| self.takes_work(agent))
            .collect();
        if in_service.is_empty() {
            let online = |agent: &&&Agent| matches!(agent.link, Link::Online { .. });
            let unreachable = fitting.iter().filter(|agent| !online(agent)).count();
            let out = fitting
                .iter()
                .filter(|agent| agent.schedulable != Schedulable::Yes);
            let agents = fitting.len();
            return Some(Blocker::NobodyInService {
                agents,
                unreachable,
                cordoned: out.count(),
                resting: fitting.iter().filter(|agent| self.rests(&agent.id)).count(),
            });
        }
        let has_room = |agent: &&&Agent| {
            let used = agent.reserved.resources.plus(&needs.resources);
            agent.reserved.places < agent.profile.capacity.places
                && used.fits_in(&agent.profile.capacity.resources)
        };
        if in_service.iter().any(has_room) {
            return None;
        }
        Some(Blocker::Full {
            pool: needs.pool.clone(),
            agents: in_service.len(),
            busy_places: in_service.iter().map(|agent| agent.reserved.places).sum(),
            places: in_service
                .iter()
                .map(|agent| agent.profile.capacity.places)
                .sum(),
        })
    }
}
