//! Agents for clients, and what agents say of themselves.

use muster_core::agent::{Agent, Capacity, HeldImage, Link, Schedulable};
use muster_core::event::Fetch;
use muster_core::spec::Resources;
use muster_core::time::Timestamp;
use muster_proto::v1 as pb;

use super::duration::time_to_wire;

/// Images of an agent in one reply.
const IMAGES_SHOWN: usize = 200;
/// Longest reason of a failed fetch that is kept, in bytes.
const PROBLEM_MAX: usize = 512;

/// Why, and if the fleet did it until when.
fn cordon(reason: &str, until: Option<Timestamp>) -> String {
    let until = until
        .and_then(|at| i64::try_from(at.0).ok())
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    until.map_or_else(
        || reason.to_owned(),
        |at| {
            let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("{reason}; tried again with one attempt from {at}")
        },
    )
}

pub(crate) fn agent_to_wire(agent: &Agent, load: Option<pb::HostLoad>) -> pb::Agent {
    let Agent {
        id,
        profile,
        link,
        schedulable,
        last_contact,
        live,
        reserved,
        held,
        digests: _,
    } = agent;
    let (schedulable, reason, drain_deadline) = match schedulable {
        Schedulable::Yes => (pb::Schedulable::Yes, String::new(), None),
        Schedulable::Cordoned { reason, until } => {
            (pb::Schedulable::Cordoned, cordon(reason, *until), None)
        }
        Schedulable::Draining { reason, deadline } => {
            (pb::Schedulable::Draining, reason.clone(), *deadline)
        }
    };
    let state = match link {
        Link::Online { .. } => pb::AgentState::Online,
        Link::Unreachable { .. } => pb::AgentState::Unreachable,
        Link::Lost { .. } => pb::AgentState::Lost,
    };
    pb::Agent {
        id: id.to_string(),
        pool: profile.pool.to_string(),
        labels: profile.labels.clone(),
        state: state.into(),
        schedulable: schedulable.into(),
        reason,
        drain_deadline: drain_deadline.map(time_to_wire),
        capacity: Some(capacity_to_wire(&profile.capacity)),
        reserved: Some(capacity_to_wire(reserved)),
        running: u32::try_from(live.len()).unwrap_or(u32::MAX),
        version: profile.version.clone(),
        engine: profile.engine.clone(),
        last_contact: Some(time_to_wire(*last_contact)),
        load,
        images: held.iter().take(IMAGES_SHOWN).map(held_to_wire).collect(),
    }
}

fn capacity_to_wire(capacity: &Capacity) -> pb::Capacity {
    let Capacity { resources, places } = capacity;
    let Resources {
        cpu_millis,
        memory_bytes,
        pids: _,
        gpus,
        custom,
    } = resources;
    pb::Capacity {
        cpu_millis: *cpu_millis,
        memory_bytes: *memory_bytes,
        places: *places,
        gpus: *gpus,
        custom: custom.clone(),
    }
}

pub(crate) fn capacity_from_wire(wire: pb::Capacity) -> Capacity {
    let pb::Capacity {
        cpu_millis,
        memory_bytes,
        places,
        gpus,
        custom,
    } = wire;
    Capacity {
        resources: Resources {
            cpu_millis,
            memory_bytes,
            pids: 0,
            gpus,
            custom,
        },
        places,
    }
}

fn held_to_wire(held: &HeldImage) -> pb::HeldImage {
    let HeldImage { id, images, tags } = held;
    pb::HeldImage {
        id: id.to_string(),
        digests: images.iter().map(ToString::to_string).collect(),
        tags: tags.clone(),
    }
}

/// Images whose names muster can't read are left out: nobody can ask for them either.
pub(crate) fn held_from_wire(wire: Vec<pb::HeldImage>) -> Vec<HeldImage> {
    let read = |wire: pb::HeldImage| {
        let pb::HeldImage { id, digests, tags } = wire;
        let images = digests
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        Some(HeldImage {
            id: id.parse().ok()?,
            images,
            tags,
        })
    };
    wire.into_iter().filter_map(read).collect()
}

/// `None` if it names no image.
pub(crate) fn fetch_from_wire(wire: pb::Fetch) -> Option<Fetch> {
    let pb::Fetch {
        image,
        done_bytes,
        total_bytes,
        problem,
    } = wire;
    let mut problem = problem;
    let end = (0..=PROBLEM_MAX.min(problem.len())).rev();
    let end = end.into_iter().find(|at| problem.is_char_boundary(*at));
    problem.truncate(end.unwrap_or(0));
    Some(Fetch {
        image: image.parse().ok()?,
        done_bytes,
        total_bytes,
        problem,
    })
}
