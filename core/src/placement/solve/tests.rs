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
        avoid: Some(0),
        ..demand(0, 0, 2)
    };
    let problem = Problem {
        agents: vec![slot(5), slot(1)],
        classes: vec![class(0, 2, vec![wanted])],
        teams: vec![0],
        keys: vec![],
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
    };
    assert_eq!(order(problem).len(), 3);
}

fn problems() -> impl Strategy<Value = Problem> {
    let slots = prop::collection::vec((0u32..4, 1u32..5), 1..5);
    let classes = prop::collection::vec(
        (0usize..3, 0u32..3, any::<u8>(), 1u32..6, any::<bool>()),
        0..6,
    );
    (slots, classes, prop::collection::vec(0u32..4, 3), 0u32..5).prop_map(
        |(slots, classes, teams, key)| {
            let agents: Vec<Slot> = slots
                .into_iter()
                .map(|(places, cpus)| {
                    let mut slot = slot(places);
                    slot.capacity.resources.cpu_millis = cpus * 1_000;
                    slot
                })
                .collect();
            let classes = classes
                .into_iter()
                .zip(0..)
                .map(|((team, cpus, mask, count, keyed), seq)| Class {
                    team,
                    needs: Resources {
                        cpu_millis: cpus * 1_000,
                        ..Resources::default()
                    },
                    eligible: (0..agents.len())
                        .filter(|agent| mask >> agent & 1 == 1)
                        .collect(),
                    keys: if keyed { vec![0] } else { vec![] },
                    demands: vec![demand(0, seq, count)],
                })
                .collect();
            Problem {
                agents,
                classes,
                teams,
                keys: vec![key],
            }
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_overbooked_and_nothing_that_fits_is_left(problem in problems()) {
        let mut left = problem.clone();
        let mut used: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        for Assigned { class, demand, agent } in solve(problem.clone()).assigned {
            prop_assert!(left.classes[class].demands[demand].count > 0);
            prop_assert!(left.classes[class].eligible.contains(&agent));
            take(&mut left, class, demand, agent);
            let entry = used.entry(agent).or_default();
            *entry = (entry.0 + 1, entry.1 + problem.classes[class].needs.cpu_millis);
        }
        for (agent, (places, cpu)) in used {
            let capacity = &problem.agents[agent].capacity;
            prop_assert!(places <= capacity.places && cpu <= capacity.resources.cpu_millis);
        }
        for class in &mut left.classes {
            class.demands.retain(|demand| demand.count > 0);
        }
        prop_assert_eq!(solve(left), Solution::default());
    }
}
