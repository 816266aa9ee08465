//! Why a task waits, in types; the words are made from them in one place.

use std::fmt;

use super::Fleet;
use super::place::matches;
use crate::agent::{Agent, Link, Schedulable};
use crate::ids::{AgentId, JobId, PoolName, TeamName};
use crate::job::LiveJob;
use crate::safe_mode::SafeMode;
use crate::spec::Requirements;
use crate::task::TaskState;
use crate::time::{Millis, Timestamp};

/// How a live job or task stands, as far as only the fleet knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub waiting: Option<Waiting>,
    /// The agent that runs the task is out of sight since then.
    pub out_of_sight: Option<(AgentId, Timestamp)>,
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
    ConcurrencyKey {
        key: String,
        live: u32,
        limit: u32,
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
            Self::ConcurrencyKey { .. } => "concurrency_key",
            Self::NoAgentInPool { .. } => "no_agent_in_pool",
            Self::NoSuchAgent { .. } => "no_such_agent",
            Self::NoAgentWithLabels { .. } => "no_agent_with_labels",
            Self::ImageNotHeld { .. } => "image_not_held",
            Self::TooLarge { .. } => "too_large",
            Self::NobodyInService { .. } => "nobody_in_service",
            Self::Full { .. } => "full",
            Self::NextInLine => "next_in_line",
        }
    }
}

const TASKS_QUARANTINED: &str = "of its tasks are quarantined; see: muster quarantine list";

fn poisoned(f: &mut fmt::Formatter<'_>, deaths: u32) -> fmt::Result {
    write!(
        f,
        "it is quarantined: {deaths} attempts were running when their host, engine or agent went away; muster quarantine requeue or drop decides"
    )
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SafeMode(why) => write!(f, "{why}"),
            Self::Quarantined { deaths } => poisoned(f, *deaths),
            Self::TasksQuarantined { tasks } => write!(f, "{tasks} {TASKS_QUARANTINED}"),
            Self::RetryDelay { left } => write!(f, "its next attempt starts in {left}"),
            Self::ConcurrencyKey { key, live, limit } => {
                write!(
                    f,
                    "{live} of {limit} attempts with concurrency key {key:?} are live"
                )
            }
            Self::NoAgentInPool { pool, agents } => {
                write!(f, "no agent is in pool {pool} (0 of {agents} agents)")
            }
            Self::NoSuchAgent { agent } => write!(f, "agent {agent} has never called"),
            Self::NoAgentWithLabels {
                pool,
                agents,
                labels,
            } => {
                write!(
                    f,
                    "no agent in pool {pool} has {} (0 of {agents} agents)",
                    labels.join(", ")
                )
            }
            Self::ImageNotHeld { image, agents } => {
                write!(
                    f,
                    "no agent that fits holds {image} (0 of {agents} agents); push it to a registry, or load it there"
                )
            }
            Self::TooLarge {
                what,
                wanted,
                most,
                agents,
            } => {
                write!(
                    f,
                    "it wants {wanted} {what}; the largest of the {agents} agents that match has {most}"
                )
            }
            Self::NobodyInService {
                agents,
                unreachable,
                cordoned,
                resting,
            } => {
                write!(
                    f,
                    "of the {agents} agents that match, {unreachable} are out of sight, {cordoned} out of service and \
                     {resting} refused the last offer because of their own state"
                )
            }
            Self::Full {
                pool,
                agents,
                busy_places,
                places,
            } => {
                write!(
                    f,
                    "pool {pool} is full: {busy_places} of {places} places on {agents} agents are taken"
                )
            }
            Self::NextInLine => f.write_str("it is next in line"),
        }
    }
}

impl Fleet {
    /// How a live job, or one of its tasks, stands. `None` if the job has ended or is not known.
    #[must_use]
    pub fn explain(&self, now: Timestamp, id: JobId, index: Option<u32>) -> Option<Explanation> {
        let live = self.jobs.get(&id)?;
        let task = index.and_then(|index| live.tasks.get(&index));
        match task.map(|task| &task.state) {
            Some(TaskState::Held { place, .. }) => {
                let agent = self.agents.get(&place.agent);
                let out_of_sight = agent.and_then(|agent| match agent.link {
                    Link::Unreachable { since, .. } | Link::Lost { since } => {
                        Some((agent.id.clone(), since))
                    }
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
            Some(TaskState::Pending { .. }) => Some(self.explain_waiting(live)),
            None if live.assignable() > 0 => Some(self.explain_waiting(live)),
            None => {
                let held = live.tasks.values().filter(|task| task.is_quarantined());
                let tasks = held.count();
                if index.is_none() && tasks > 0 {
                    return Some(waits_for(Blocker::TasksQuarantined { tasks }));
                }
                Some(Explanation {
                    waiting: None,
                    out_of_sight: None,
                })
            }
        }
    }

    fn explain_waiting(&self, live: &LiveJob) -> Explanation {
        let ahead = self.queue.ahead_of(live);
        let waiting = Some(Waiting {
            blockers: self.blockers(live),
            ahead,
        });
        Explanation {
            waiting,
            out_of_sight: None,
        }
    }

    fn blockers(&self, live: &LiveJob) -> Vec<Blocker> {
        let needs = &live.job.spec.requirements;
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
        found.extend(self.no_agent(needs));
        if found.is_empty() {
            found.push(Blocker::NextInLine);
        }
        found
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
        let fitting: Vec<&Agent> = named
            .iter()
            .copied()
            .filter(|a| matches(a, needs))
            .collect();
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
