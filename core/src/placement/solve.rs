//! Team with the smallest share first, then priority, then order of submission; on an agent that
//! holds the image if there is one, else on the one with the most free places.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::problem::{Assigned, Demand, Problem, Slot, Solution};

/// Who goes next: live attempts of the team, then priority, then order; the class names the demand.
type Turn = Reverse<(u32, Reverse<i32>, u64, usize)>;

/// Assigns until nothing more fits. Deterministic, and complete: solving what is left over again
/// assigns nothing.
#[must_use]
pub fn solve(mut problem: Problem) -> Solution {
    let mut solution = Solution::default();
    // The first demand of each class that has tasks left.
    let mut heads: Vec<usize> = vec![0; problem.classes.len()];
    let mut turns: BinaryHeap<Turn> = (0..problem.classes.len())
        .filter_map(|class| turn(&problem, &heads, class))
        .collect();
    while let Some(popped) = turns.pop() {
        let class = popped.0.3;
        match turn(&problem, &heads, class) {
            None => continue,
            // The team got something since this turn was queued.
            Some(now) if now != popped => {
                turns.push(now);
                continue;
            }
            Some(_) => {}
        }
        let demand = heads[class];
        let Some(agent) = choose(&problem, class, demand) else {
            // The whole class waits, for its tasks have equal needs, but for those whose image nobody pulls now.
            if problem.classes[class].demands[demand].pulls.is_some() {
                heads[class] += 1;
                turns.extend(turn(&problem, &heads, class));
            }
            continue;
        };
        take(&mut problem, class, demand, agent);
        solution.assigned.push(Assigned {
            class,
            demand,
            agent,
        });
        if problem.classes[class].demands[demand].count == 0 {
            heads[class] += 1;
        }
        turns.extend(turn(&problem, &heads, class));
    }
    solution
}

fn turn(problem: &Problem, heads: &[usize], class: usize) -> Option<Turn> {
    let waiting = &problem.classes[class];
    if waiting.keys.iter().any(|key| problem.keys[*key] == 0) {
        return None;
    }
    let Demand { priority, seq, .. } = waiting.demands.get(heads[class])?;
    Some(Reverse((
        problem.teams[waiting.team],
        Reverse(*priority),
        *seq,
        class,
    )))
}

fn choose(problem: &Problem, class: usize, demand: usize) -> Option<usize> {
    let class = &problem.classes[class];
    let demand = &class.demands[demand];
    let may_pull = demand.pulls.is_none_or(|pulls| problem.pulls[pulls] > 0);
    let fitting = class.eligible.iter().filter(|agent| {
        let slot = &problem.agents[**agent];
        slot.has_room(&class.needs) && (may_pull || holds(slot, demand))
    });
    fitting.copied().max_by_key(|agent| {
        let slot = &problem.agents[*agent];
        (
            Reverse(demand.avoid.iter().position(|other| other == agent)),
            slot.trial,
            holds(slot, demand),
            slot.free_places(),
            Reverse(*agent),
        )
    })
}

fn holds(slot: &Slot, demand: &Demand) -> bool {
    let digest = demand.digest;
    digest.is_some_and(|digest| slot.digests.contains(&digest))
}

fn take(problem: &mut Problem, class: usize, demand: usize, agent: usize) {
    let class = &mut problem.classes[class];
    let demand = &mut class.demands[demand];
    demand.count -= 1;
    if let Some(pulls) = demand.pulls
        && !holds(&problem.agents[agent], demand)
    {
        problem.pulls[pulls] -= 1;
    }
    problem.agents[agent].reserve(&class.needs);
    problem.teams[class.team] += 1;
    for key in &class.keys {
        problem.keys[*key] -= 1;
    }
}

#[cfg(test)]
mod tests;
