//! Containers that are parked before there is a task for them: made beside the work, and gone when nobody wants them.
//! What stays and goes is the agent's own `plan::parked`.

use std::collections::{BTreeMap, BTreeSet};

use muster_agent::plan::Seen;
use muster_agent::plan::parked::{AtStart, Nobodys, Sorted, at_start, nobodys, sort_out};
use muster_core::channel::Warm as Bounds;
use muster_core::effect::WarmOrder;
use muster_core::event::Event;
use muster_core::image::Digest;
use muster_core::time::{Millis, Timestamp};
use muster_tests::random::Rng;

use crate::bug::Bug;
use crate::client::channel;
use crate::fault::Fault;
use crate::host::{Host, Journal};
use crate::orphans::GRACE;
use crate::world::{Happening, World};

/// What a container was made for. A task that asks for the same can be started in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) digest: Digest,
    /// It sees the lease.
    pub(crate) leased: bool,
}

/// A container under a name of its own: no task was given it, or nobody can say any more which.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) shape: Shape,
    pub(crate) runs: bool,
}

/// What an agent knows of them. All of it is gone with its process.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// What the channel's tasks run, and how many may wait for them.
    pub(crate) want: Option<(Digest, u32)>,
    /// Those that wait.
    pub(crate) parked: Vec<(u64, Shape)>,
    /// The one that is being made.
    making: Option<u64>,
    /// Those that the engine has not removed yet.
    pub(crate) doomed: Vec<u64>,
    /// When those without a directory were first seen.
    first_seen: BTreeMap<u64, Timestamp>,
}

impl Host {
    /// A parked container that no agent would ever remove.
    pub(crate) fn stray(&self) -> Option<u64> {
        let pool = self.agent.as_ref().map(|agent| &agent.pool);
        let known = |name: &u64, parked: &Parked| {
            pool.is_some_and(|pool| {
                let wanted = pool
                    .want
                    .is_some_and(|(digest, _)| digest == parked.shape.digest);
                pool.making == Some(*name) || wanted && pool.parked.iter().any(|(of, _)| of == name)
            })
        };
        let mut all = self.engine.parked.iter();
        let stray = all.find(|(name, parked)| !known(name, parked));
        stray.map(|(name, _)| *name)
    }

    /// Parked containers without a directory.
    fn nobodys(&self) -> Vec<u64> {
        let names = self.engine.parked.keys().copied();
        names
            .filter(|name| !self.homes.contains_key(name))
            .collect()
    }
}

impl World {
    pub(crate) fn set_warm(&mut self, draw: u64) {
        let max = u32::try_from(Rng::new(draw, "warm").below(4)).expect("it is small");
        let event = Event::WarmSet {
            ticket: self.client.ticket(),
            channel: channel(),
            warm: Bounds::new(0, max).expect("it is in order"),
        };
        self.soon(event);
    }

    pub(crate) fn on_keep(&mut self, at: usize, order: Option<WarmOrder>) {
        let agent = self.hosts[at].agent.as_mut().expect("the caller looked");
        agent.pool.want = order.map(|order| (order.image.digest(), order.warm.max()));
        self.tend_soon(at, Millis(1));
    }

    pub(crate) fn tend_soon(&mut self, at: usize, pause: Millis) {
        let life = self.hosts[at].life;
        self.after(pause, Happening::Tend { host: at, life });
    }

    /// Removes what nobody wants, and begins to make what is missing.
    pub(crate) fn tend(&mut self, at: usize, life: u64) {
        let leases = self.leases;
        let keeps_old = self.bug == Some(Bug::KeepParked);
        let host = &mut self.hosts[at];
        let Some(agent) = host.agent.as_mut().filter(|_| host.life == life) else {
            return;
        };
        if !host.engine.up {
            return; // it is looked at again when it is up
        }
        let pool = &mut agent.pool;
        let (alive, dead): (Vec<_>, Vec<_>) = std::mem::take(&mut pool.parked)
            .into_iter()
            .partition(|(name, _)| {
                host.engine
                    .parked
                    .get(name)
                    .is_some_and(|parked| parked.runs)
            });
        let mut wanted = Vec::new();
        if let Some((digest, max)) = pool.want {
            for leased in [false, true].into_iter().take(1 + usize::from(leases)) {
                wanted.push((Shape { digest, leased }, max));
            }
        }
        if keeps_old {
            wanted.extend(alive.iter().map(|(_, shape)| (*shape, u32::MAX)));
        }
        let Sorted { stay, go, short } = sort_out(alive, |(_, shape)| shape, wanted);
        if !go.is_empty() {
            self.coverage.hit(Fault::ParkedDropped);
        }
        pool.parked = stay;
        let gone = dead.into_iter().chain(go).map(|(name, _)| name);
        for name in gone.chain(std::mem::take(&mut pool.doomed)) {
            host.engine.parked.remove(&name);
            host.homes.remove(&name);
        }
        if let Some((shape, _)) = short.first() {
            self.park(at, *shape);
        }
    }

    fn park(&mut self, at: usize, shape: Shape) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let pool = &mut host.agent.as_mut().expect("the caller looked").pool;
        let held = host.engine.images.contains(&shape.digest);
        if pool.making.is_some() || !held || now < host.broken_until {
            return;
        }
        host.named += 1;
        let (name, life) = (host.named, host.life);
        pool.making = Some(name);
        host.homes.insert(name, false);
        host.engine
            .parked
            .insert(name, Parked { shape, runs: true });
        let takes = Millis(self.rng.warm.between(100, 1_500));
        self.after(
            takes,
            Happening::Parked {
                host: at,
                life,
                name,
            },
        );
    }

    /// Its init process was heard.
    pub(crate) fn parked(&mut self, at: usize, life: u64, name: u64) {
        let host = &mut self.hosts[at];
        let Some(agent) = host.agent.as_mut().filter(|_| host.life == life) else {
            return;
        };
        agent.pool.making = None;
        if let Some(parked) = host.engine.parked.get(&name) {
            agent.pool.parked.push((name, parked.shape));
        }
        self.tend_soon(at, Millis(1));
    }

    /// Whatever stops all containers of a host stops these too.
    pub(crate) fn stop_parked(&mut self, at: usize) {
        for parked in self.hosts[at].engine.parked.values_mut() {
            parked.runs = false;
        }
    }

    /// What an earlier life left.
    pub(crate) fn clear_parked(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let named: BTreeSet<u64> = host.disk.values().filter_map(Journal::parked).collect();
        let mut doomed = Vec::new();
        for (name, given) in host.homes.clone() {
            match at_start(named.contains(&name), given) {
                AtStart::Leave => {}
                AtStart::Destroy => doomed.push(name),
                AtStart::RemoveIfOver => {
                    let over = |parked: &Parked| !parked.runs;
                    if host.engine.up && host.engine.parked.get(&name).is_some_and(over) {
                        host.engine.parked.remove(&name);
                    }
                    host.homes.remove(&name);
                }
            }
        }
        let agent = host.agent.as_mut().expect("it just started");
        agent.pool.doomed = doomed;
        self.tend_soon(at, Millis(20));
    }

    /// Those without a directory go after a while. True: there are some.
    pub(crate) fn look_at_nobodys(&mut self, at: usize) -> bool {
        let now = self.now;
        let host = &mut self.hosts[at];
        let left = host.nobodys();
        let agent = host.agent.as_mut().expect("the caller looked");
        for name in &left {
            let first = *agent.pool.first_seen.entry(*name).or_insert(now);
            let parked = host.engine.parked.get_mut(name);
            let parked = parked.expect("it was just listed");
            let seen = if parked.runs {
                Seen::Running
            } else {
                Seen::Exited
            };
            match nobodys(seen, now.since(first) >= GRACE) {
                Nobodys::Leave => {}
                Nobodys::Stop => parked.runs = false,
                Nobodys::Remove => {
                    host.engine.parked.remove(name);
                }
            }
        }
        !left.is_empty()
    }
}
