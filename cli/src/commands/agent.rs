//! `muster agent list|get|cordon|uncordon|drain|confirm-lost`.

use std::time::Duration;

use muster_proto::v1;

use super::Context;
use crate::args::agent::{AgentVerb, DrainArgs};
use crate::exit::{Exit, Failure};
use crate::quantity::{count_text, cpus_text, size_text};
use crate::render::json::AgentJson;
use crate::render::table::{Table, properties};
use crate::render::{self, View, span, words};
use crate::submit::duration;

/// How often `drain --wait` looks. The wire has no stream of agents.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const AGENTS: View<v1::Agent> = View {
    name: "agents",
    id: |agent| agent.id.clone(),
    table: agents_table,
};

pub(crate) async fn run(context: &mut Context, verb: AgentVerb) -> Result<Exit, Failure> {
    match verb {
        AgentVerb::List { pool } => {
            let v1::ListAgentsResponse {
                agents,
                suspects_itself_since,
            } = list(context, &pool).await?;
            if let Some(since) = suspicion(suspects_itself_since, jiff::Timestamp::now()) {
                context.console.note(&since);
            }
            render::list::<_, AgentJson>(&mut context.console, &AGENTS, agents, "")?;
        }
        AgentVerb::Get { agent } => {
            let agent = find(context, &agent).await?;
            show(context, agent)?;
        }
        AgentVerb::Cordon { agent, reason } => {
            let request = v1::CordonRequest { agent, reason };
            let agent = context.client.agents().cordon(request).await?.into_inner();
            changed(context, agent, |agent| {
                format!(
                    "{} takes no new tasks. {}. back: muster agent uncordon {}",
                    agent.id,
                    running(agent.running),
                    agent.id
                )
            })?;
        }
        AgentVerb::Uncordon { agent } => {
            let request = v1::UncordonRequest { agent };
            let agent = context
                .client
                .agents()
                .uncordon(request)
                .await?
                .into_inner();
            changed(context, agent, |agent| {
                format!("{} takes new tasks", agent.id)
            })?;
        }
        AgentVerb::ConfirmLost => confirm_lost(context).await?,
        AgentVerb::Drain(flags) => return drain(context, flags).await,
    }
    Ok(Exit::DONE)
}

async fn list(context: &Context, pool: &str) -> Result<v1::ListAgentsResponse, Failure> {
    let request = v1::ListAgentsRequest {
        pool: pool.to_owned(),
    };
    let reply = context.client.agents().list(request).await?;
    Ok(reply.into_inner())
}

/// Why silent agents are not given up, for people.
fn suspicion(since: Option<prost_types::Timestamp>, now: jiff::Timestamp) -> Option<String> {
    since?;
    Some(format!(
        "most agents went out of sight at once ({}): the coordinator suspects that it is cut off, and gives \
         up nothing until half are back. If they are gone: muster agent confirm-lost",
        span::ago(since, now)
    ))
}

async fn confirm_lost(context: &mut Context) -> Result<(), Failure> {
    let request = v1::ConfirmLostRequest {};
    let reply = context.client.agents().confirm_lost(request).await?;
    let v1::ConfirmLostResponse { agents } = reply.into_inner();
    let said = match agents.as_slice() {
        [] => "no agent is out of sight".to_owned(),
        agents => format!(
            "{}: their attempts are given up when they were silent for long enough",
            agents.join(", ")
        ),
    };
    context.console.note(&said);
    Ok(())
}

async fn find(context: &Context, name: &str) -> Result<v1::Agent, Failure> {
    let agents = list(context, "").await?.agents;
    let found = agents.into_iter().find(|agent| agent.id == name);
    found.ok_or_else(|| Failure::NoAgent {
        name: name.to_owned(),
    })
}

/// The agent as JSON, or a sentence.
fn changed(
    context: &mut Context,
    agent: v1::Agent,
    sentence: impl Fn(&v1::Agent) -> String,
) -> Result<(), Failure> {
    let text = sentence(&agent);
    let agent = AgentJson::from(agent);
    let id = agent.id.clone();
    render::one(&mut context.console, &agent, &id, |console| {
        console.fit(&text)
    })
}

async fn drain(context: &mut Context, flags: DrainArgs) -> Result<Exit, Failure> {
    let request = v1::DrainRequest {
        agent: flags.agent.clone(),
        reason: flags.reason,
        deadline: flags.deadline.map(duration),
    };
    let agent = context.client.agents().drain(request).await?.into_inner();
    if !flags.wait {
        changed(context, agent, drain_sentence)?;
        return Ok(Exit::DONE);
    }
    context.console.note(&drain_sentence(&agent));
    let mut latest = agent;
    let mut told = left(&latest);
    let mut look = tokio::time::interval(LOOK_EVERY);
    while let Some(before) = told {
        tokio::select! {
            _ = look.tick() => {}
            _ = context.signals.next() => return Ok(Exit::INTERRUPTED),
        }
        latest = find(context, &flags.agent).await?;
        told = left(&latest);
        if let Some(now) = &told
            && *now != before
        {
            context.console.note(now);
        }
    }
    changed(context, latest, |agent| {
        format!(
            "{} is empty. back: muster agent uncordon {}",
            agent.id, agent.id
        )
    })?;
    Ok(Exit::DONE)
}

/// What keeps the host from being taken away. `None`: nothing.
fn left(agent: &v1::Agent) -> Option<String> {
    if agent.running > 0 {
        return Some(format!("{} left", agent.running));
    }
    // The output of an agent out of sight comes when it is back, if it comes back.
    let online = agent.state() == v1::AgentState::Online;
    let unfinished = agent.load.is_none_or(|load| load.unfinished_logs > 0);
    (online && unfinished).then(|| "output is on its way".to_owned())
}

fn drain_sentence(agent: &v1::Agent) -> String {
    let (they_have, they) = match agent.running {
        1 => ("it has", "it"),
        _ => ("they have", "they"),
    };
    let until = match (agent.running, span::rfc3339(agent.drain_deadline)) {
        (0, _) => String::new(),
        (_, Some(deadline)) => format!("; {they_have} until {deadline}"),
        (_, None) => format!("; {they} may finish"),
    };
    let running = running(agent.running);
    format!("{} takes no new tasks. {running}{until}", agent.id)
}

fn running(attempts: u32) -> String {
    match attempts {
        0 => "nothing is running".to_owned(),
        1 => "1 attempt is running".to_owned(),
        attempts => format!("{attempts} attempts are running"),
    }
}

fn show(context: &mut Context, agent: v1::Agent) -> Result<(), Failure> {
    let shown = agent.clone();
    let json = AgentJson::from(agent);
    let id = json.id.clone();
    render::one(&mut context.console, &json, &id, |console| {
        console.fit(&agent_text(&shown))
    })
}

fn agent_text(agent: &v1::Agent) -> String {
    let now = jiff::Timestamp::now();
    let capacity = agent.capacity.clone().unwrap_or_default();
    let reserved = agent.reserved.clone().unwrap_or_default();
    let load = agent.load.unwrap_or_default();
    let mut text = properties(&[
        ("agent", agent.id.clone()),
        ("pool", agent.pool.clone()),
        ("labels", labels(agent)),
        ("state", words::agent_state(agent.state()).to_owned()),
        ("schedulable", schedulable(agent)),
        (
            "running",
            format!("{} of {} places", agent.running, capacity.places),
        ),
        (
            "cpus",
            format!(
                "{} of {} reserved",
                cpus_text(reserved.cpu_millis),
                cpus_text(capacity.cpu_millis)
            ),
        ),
        (
            "memory",
            format!(
                "{} of {} reserved",
                size_text(reserved.memory_bytes),
                size_text(capacity.memory_bytes)
            ),
        ),
        (
            "load",
            format!(
                "{:.2}, {} memory available, {} disk free",
                load.load1,
                size_text(load.memory_available_bytes),
                size_text(load.disk_free_bytes)
            ),
        ),
        ("version", agent.version.clone()),
        ("engine", agent.engine.clone()),
        ("last contact", span::ago(agent.last_contact, now)),
        (
            "images",
            count_text(u64::try_from(agent.images.len()).unwrap_or(u64::MAX)),
        ),
    ]);
    for image in &agent.images {
        let names = if image.tags.is_empty() {
            &image.digests
        } else {
            &image.tags
        };
        text.push_str(&format!(
            "  {}  {}\n",
            image.id.get(..19).unwrap_or(&image.id),
            names.join(" ")
        ));
    }
    text
}

fn agents_table(agents: &[v1::Agent], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let narrow = [
        "AGENT",
        "POOL",
        "STATE",
        "SCHEDULABLE",
        "RUNNING",
        "CPUS",
        "MEMORY",
        "LOAD",
        "IMAGES",
        "VERSION",
        "LAST CONTACT",
    ];
    let more = [
        "AGENT",
        "POOL",
        "STATE",
        "SCHEDULABLE",
        "RUNNING",
        "CPUS",
        "MEMORY",
        "LOAD",
        "IMAGES",
        "VERSION",
        "LAST CONTACT",
        "ENGINE",
        "DISK FREE",
        "LABELS",
    ];
    let mut table = Table::new(if wide { &more } else { &narrow });
    for agent in agents {
        let capacity = agent.capacity.clone().unwrap_or_default();
        let reserved = agent.reserved.clone().unwrap_or_default();
        let load = agent.load.unwrap_or_default();
        let mut cells = vec![
            agent.id.clone(),
            agent.pool.clone(),
            words::agent_state(agent.state()).to_owned(),
            schedulable(agent),
            format!("{}/{}", agent.running, capacity.places),
            format!(
                "{}/{}",
                cpus_text(reserved.cpu_millis),
                cpus_text(capacity.cpu_millis)
            ),
            format!(
                "{}/{}",
                size_text(reserved.memory_bytes),
                size_text(capacity.memory_bytes)
            ),
            format!("{:.2}", load.load1),
            agent.images.len().to_string(),
            agent.version.clone(),
            span::ago(agent.last_contact, now),
        ];
        if wide {
            cells.push(agent.engine.clone());
            cells.push(size_text(load.disk_free_bytes));
            cells.push(labels(agent));
        }
        table.row(cells);
    }
    table
}

/// `cordoned (disk swap)`, `draining (until 2026-…)`.
fn schedulable(agent: &v1::Agent) -> String {
    let word = words::schedulable(agent.schedulable());
    match (span::rfc3339(agent.drain_deadline), agent.reason.as_str()) {
        (Some(deadline), _) => format!("{word} (until {deadline})"),
        (None, "") => word.to_owned(),
        (None, reason) => format!("{word} ({reason})"),
    }
}

fn labels(agent: &v1::Agent) -> String {
    let labels: Vec<String> = agent
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_counts_what_runs_on() {
        let sentence = |running, drain_deadline| {
            drain_sentence(&v1::Agent {
                id: "etl-1".to_owned(),
                running,
                drain_deadline,
                ..v1::Agent::default()
            })
        };
        let deadline = crate::mock::at(0);
        for (running, until, said) in [
            (0, None, "nothing is running"),
            (0, deadline, "nothing is running"),
            (1, None, "1 attempt is running; it may finish"),
            (
                1,
                deadline,
                "1 attempt is running; it has until 1970-01-01T00:00:00.000Z",
            ),
            (2, None, "2 attempts are running; they may finish"),
            (
                2,
                deadline,
                "2 attempts are running; they have until 1970-01-01T00:00:00.000Z",
            ),
        ] {
            assert_eq!(
                sentence(running, until),
                format!("etl-1 takes no new tasks. {said}")
            );
        }
    }
}
