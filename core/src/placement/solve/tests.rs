use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::agent::Capacity;
use crate::image::Digest;
use crate::placement::problem::{Class, Slot};
use crate::spec::Resources;

fn slot(places: u32) -> Slot {
    let resources = Resources {
        cpu_millis: 64_000,
        memory_bytes: 1 << 40,
        ..Resources::default()
    };
    Slot {
        capacity: Capacity { resources, places },
        ..Slot::default()
    }
}

fn demand(priority: i32, seq: u64, count: u32) -> Demand {
    Demand {
        priority,
        seq,
        count,
        ..Demand::default()
    }
}

fn class(team: usize, agents: usize, demands: Vec<Demand>) -> Class {
    Class {
        team,
        eligible: (0..agents).collect(),
        demands,
        ..Class::default()
    }
}

/// (class, demand) in the order of assignment.
fn order(problem: Problem) -> Vec<(usize, usize)> {
    let Solution { assigned } = solve(problem);
    assigned
        .into_iter()
        .map(|Assigned { class, demand, .. }| (class, demand))
        .collect()
}

#[test]
fn priority_goes_first_then_order_of_submission() {
    let classes = vec![
        class(0, 1, vec![demand(5, 9, 1), demand(0, 2, 1)]),
        class(0, 1, vec![demand(0, 1, 1)]),
    ];
    let problem = Problem {
        agents: vec![slot(3)],
        classes,
        teams: vec![0],
        keys: vec![],
        pulls: vec![],
    };
    assert_eq!(order(problem), [(0, 0), (1, 0), (0, 1)]);
}

#[test]
fn a_team_with_less_goes_before_a_team_with_more() {
    let classes = vec![
        class(0, 1, vec![demand(100, 0, 9)]),
        class(1, 1, vec![demand(0, 1, 9)]),
    ];
    let problem = Problem {
        agents: vec![slot(4)],
        classes,
        teams: vec![2, 0],
        keys: vec![],
        pulls: vec![],
    };
    assert_eq!(order(problem), [(1, 0), (1, 0), (0, 0), (1, 0)]);
}

#[test]
fn an_agent_that_holds_the_image_is_preferred_to_an_emptier_one() {
    let digest = Digest::from_bytes([7; 32]);
    let holder = Slot {
        digests: [digest].into(),
        ..slot(1)
    };
    let wanted = Demand {
        digest: Some(digest),
        ..demand(0, 0, 2)
    };
    let problem = Problem {
        agents: vec![slot(5), holder],
        classes: vec![class(0, 2, vec![wanted])],
        teams: vec![0],
        keys: vec![],
        pulls: vec![],
    };
    let agents: Vec<usize> = solve(problem)
        .assigned
        .iter()
        .map(|one| one.agent)
        .collect();
    assert_eq!(agents, [1, 0]);
}

#[test]
fn an_avoided_agent_is_taken_when_there_is_no_other() {
    let wanted = Demand {
        avoid: vec![0],
        ..demand(0, 0, 2)
    };
    let problem = Problem {
        agents: vec![slot(5), slot(1)],
        classes: vec![class(0, 2, vec![wanted])],
        teams: vec![0],
        keys: vec![],
        pulls: vec![],
    };
    let agents: Vec<usize> = solve(problem)
        .assigned
        .iter()
        .map(|one| one.agent)
        .collect();
    assert_eq!(agents, [1, 0]);
}

#[test]
fn a_key_bounds_all_classes_that_carry_it() {
    let keyed = |seq| Class {
        keys: vec![0],
        ..class(0, 1, vec![demand(0, seq, 5)])
    };
    let problem = Problem {
        agents: vec![slot(9)],
        classes: vec![keyed(0), keyed(1)],
        teams: vec![0],
        keys: vec![3],
        pulls: vec![],
    };
    assert_eq!(order(problem).len(), 3);
}

/// Two images, each held by some agents: of the first, no pull or one may be tried; the second can be pulled.
fn image(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn problems() -> impl Strategy<Value = Problem> {
    let slots = prop::collection::vec((0u32..4, 1u32..5, 0u8..4), 1..5);
    let demands = prop::collection::vec((1u32..6, 0u8..3), 1..4);
    let classes = prop::collection::vec(
        (0usize..3, 0u32..3, any::<u8>(), demands, any::<bool>()),
        0..6,
    );
    let teams = prop::collection::vec(0u32..4, 3);
    (slots, classes, teams, 0u32..9, 0u32..2).prop_map(|(slots, classes, teams, key, pulls)| {
        let agents: Vec<Slot> = slots
            .into_iter()
            .map(|(places, cpus, held)| {
                let mut slot = slot(places);
                slot.capacity.resources.cpu_millis = cpus * 1_000;
                let held = (0..2).filter(|byte| held >> byte & 1 == 1);
                slot.digests = held.map(image).collect();
                slot
            })
            .collect();
        let mut seq = 0;
        let mut wanted = |(count, byte): (u32, u8)| {
            seq += 1;
            Demand {
                digest: (byte < 2).then(|| image(byte)),
                pulls: (byte == 0).then_some(0),
                ..demand(0, seq, count)
            }
        };
        let classes = classes
            .into_iter()
            .map(|(team, cpus, mask, demands, keyed)| Class {
                team,
                needs: Resources {
                    cpu_millis: cpus * 1_000,
                    ..Resources::default()
                },
                eligible: (0..agents.len())
                    .filter(|agent| mask >> agent & 1 == 1)
                    .collect(),
                keys: if keyed { vec![0] } else { vec![] },
                demands: demands.into_iter().map(&mut wanted).collect(),
            })
            .collect();
        Problem {
            agents,
            classes,
            teams,
            keys: vec![key],
            pulls: vec![pulls],
        }
    })
}

/// Whether an agent that the class may use, and that has room, holds the demand's image.
fn somebody_holds(problem: &Problem, class: usize, demand: usize) -> bool {
    let class = &problem.classes[class];
    let mut agents = class.eligible.iter().map(|agent| &problem.agents[*agent]);
    agents.any(|slot| slot.has_room(&class.needs) && holds(slot, &class.demands[demand]))
}

proptest! {
    #[test]
    fn nothing_is_overbooked_and_nothing_that_fits_is_left(problem in problems()) {
        let mut left = problem.clone();
        let mut used: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        let mut tried = 0;
        for Assigned { class, demand, agent } in solve(problem.clone()).assigned {
            let of = &problem.classes[class];
            prop_assert!(left.classes[class].demands[demand].count > 0);
            prop_assert!(of.eligible.contains(&agent));
            let held = holds(&problem.agents[agent], &of.demands[demand]);
            prop_assert!(held || !somebody_holds(&left, class, demand));
            tried += u32::from(!held && of.demands[demand].pulls.is_some());
            prop_assert!(tried <= problem.pulls[0], "no more pulls are tried than may be");
            take(&mut left, class, demand, agent);
            let entry = used.entry(agent).or_default();
            *entry = (entry.0 + 1, entry.1 + of.needs.cpu_millis);
        }
        for (agent, (places, cpu)) in used {
            let capacity = &problem.agents[agent].capacity;
            prop_assert!(places <= capacity.places && cpu <= capacity.resources.cpu_millis);
        }
        for (class, waiting) in left.classes.iter().enumerate() {
            let blocked = waiting.keys.iter().any(|key| left.keys[*key] == 0);
            for (demand, rest) in waiting.demands.iter().enumerate() {
                let fits = choose(&left, class, demand);
                prop_assert!(rest.count == 0 || blocked || fits.is_none());
            }
        }
    }
}
