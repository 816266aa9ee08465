//! What goes wrong while the tasks run: one fault for every hundred starts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_agent::runtime::fake::StartFault;
use muster_tests::random::Rng;

use crate::fleet::Fleet;
use crate::proxy::Proxy;

/// Starts for each fault.
const STARTS: u64 = 100;
/// Longer than an agent needs to call its engine degraded.
const ILLNESS: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A start whose caller sees an error; it runs.
    StartUnknown,
    /// A start whose caller sees an error; nothing runs.
    StartFailed,
    /// An agent's connection breaks.
    Cut,
    /// An agent's process ends and comes back.
    AgentRestart,
    /// Somebody removes a running container by force.
    Removed,
    /// An engine answers no ping for a minute, so its agent refuses offers.
    Ill,
}

const WEIGHTS: [(u64, Fault); 6] = [
    (35, Fault::StartUnknown),
    (15, Fault::StartFailed),
    (20, Fault::Cut),
    (15, Fault::AgentRestart),
    (10, Fault::Removed),
    (5, Fault::Ill),
];

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::StartUnknown => "start_unknown",
            Self::StartFailed => "start_failed",
            Self::Cut => "stream_cut",
            Self::AgentRestart => "agent_restart",
            Self::Removed => "container_removed",
            Self::Ill => "engine_ill",
        }
    }
}

pub(crate) struct Faults {
    random: Rng,
    /// Starts that have not had their fault yet.
    starts: u64,
    ill: Vec<(usize, Instant)>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Rng::new(seed, "faults"),
            starts: 0,
            ill: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// So many more containers were started; does what is due.
    pub(crate) async fn after(&mut self, starts: u64, fleet: &mut Fleet, proxy: &Proxy) {
        let now = Instant::now();
        self.heal(fleet, |since| now.duration_since(since) > ILLNESS);
        self.starts += starts;
        while self.starts >= STARTS {
            self.starts -= STARTS;
            let fault = self.random.weighted(&WEIGHTS);
            if self.inject(fault, fleet, proxy).await {
                *self.counts.entry(fault.name()).or_default() += 1;
            }
        }
    }

    /// Ends what would not end by itself.
    pub(crate) fn heal_all(&mut self, fleet: &Fleet) {
        self.heal(fleet, |_| true);
    }

    fn heal(&mut self, fleet: &Fleet, over: impl Fn(Instant) -> bool) {
        self.ill.retain(|(host, since)| {
            let over = over(*since);
            if over {
                fleet.hosts[*host].engine.set_ill(false);
            }
            !over
        });
    }

    /// False: there was nothing to hurt.
    async fn inject(&mut self, fault: Fault, fleet: &mut Fleet, proxy: &Proxy) -> bool {
        let place = self.random.index(fleet.hosts.len());
        let most_ill = fleet.hosts.len().div_ceil(20);
        let host = &mut fleet.hosts[place];
        match fault {
            Fault::StartUnknown => host.engine.fail_next_start(StartFault::HangUpAfterStarting),
            Fault::StartFailed => host
                .engine
                .fail_next_start(StartFault::HangUpBeforeStarting),
            Fault::Cut => return proxy.cut_one(&mut self.random),
            Fault::AgentRestart => {
                host.stop().await;
                host.start();
            }
            Fault::Removed => {
                let names = host.engine.names();
                if names.is_empty() {
                    return false;
                }
                let place = self.random.index(names.len());
                host.engine.remove_from_outside(&names[place]);
            }
            Fault::Ill => {
                if self.ill.len() >= most_ill || self.ill.iter().any(|(ill, _)| *ill == place) {
                    return false;
                }
                host.engine.set_ill(true);
                self.ill.push((place, Instant::now()));
            }
        }
        true
    }
}
