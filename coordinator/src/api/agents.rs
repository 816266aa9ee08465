//! `AgentService`.

use std::sync::Arc;

use muster_core::agent::Agent;
use muster_core::effect::Answer;
use muster_core::event::Event;
use muster_core::ids::{AgentId, Ticket};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_service_server::AgentService;
use tonic::{Request, Response, Status};

use super::convert::agents::agent_to_wire;
use super::convert::duration::{millis_from_wire, time_to_wire};
use super::{Shared, invalid, mismatched, refused, stopping};
use crate::driver::Clock;
use crate::store::Store;

#[derive(Debug)]
pub struct Agents<S>(pub Arc<Shared<S>>);

#[tonic::async_trait]
impl<S: Store> AgentService for Agents<S> {
    async fn list(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let pb::ListAgentsRequest { pool } = request.into_inner();
        let (agents, suspects) = self
            .0
            .driver
            .look(move |fleet, _| {
                let wanted =
                    |agent: &&Agent| pool.is_empty() || agent.profile.pool.as_str() == pool;
                let agents: Vec<Agent> = fleet.agents().filter(wanted).cloned().collect();
                let since = fleet.suspicion().map(|suspicion| suspicion.since);
                (agents, since)
            })
            .await
            .map_err(stopping)?;
        let agents = agents.iter().map(|agent| self.show(agent)).collect();
        Ok(Response::new(pb::ListAgentsResponse {
            agents,
            suspects_itself_since: suspects.map(time_to_wire),
        }))
    }

    async fn cordon(
        &self,
        request: Request<pb::CordonRequest>,
    ) -> Result<Response<pb::Agent>, Status> {
        let pb::CordonRequest { agent, reason } = request.into_inner();
        let agent = agent_id(&agent)?;
        self.change(move |ticket| Event::AgentCordoned {
            ticket,
            agent,
            reason,
        })
        .await
    }

    async fn uncordon(
        &self,
        request: Request<pb::UncordonRequest>,
    ) -> Result<Response<pb::Agent>, Status> {
        let agent = agent_id(&request.into_inner().agent)?;
        self.change(move |ticket| Event::AgentUncordoned { ticket, agent })
            .await
    }

    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::Agent>, Status> {
        let pb::DrainRequest {
            agent,
            reason,
            deadline,
        } = request.into_inner();
        let agent = agent_id(&agent)?;
        let deadline = match deadline {
            None => None,
            Some(span) => {
                let bad = || invalid("deadline", "is not a duration of zero or more");
                Some(Clock::new().now() + millis_from_wire(&span).ok_or_else(bad)?)
            }
        };
        self.change(move |ticket| Event::AgentDrained {
            ticket,
            agent,
            reason,
            deadline,
        })
        .await
    }

    async fn confirm_lost(
        &self,
        request: Request<pb::ConfirmLostRequest>,
    ) -> Result<Response<pb::ConfirmLostResponse>, Status> {
        let pb::ConfirmLostRequest {} = request.into_inner();
        let asked = |ticket| Event::LossesConfirmed { ticket };
        match self.0.driver.ask(asked).await.map_err(stopping)? {
            Answer::LossesConfirmed { agents } => {
                let agents = agents.iter().map(ToString::to_string).collect();
                Ok(Response::new(pb::ConfirmLostResponse { agents }))
            }
            other @ (Answer::Submitted(_)
            | Answer::CancelRequested { .. }
            | Answer::Released { .. }
            | Answer::Adopted(_)
            | Answer::Agent(_)
            | Answer::Channel(_)
            | Answer::Refused(_)) => Err(mismatched(&other)),
        }
    }
}

impl<S: Store> Agents<S> {
    fn show(&self, agent: &Agent) -> pb::Agent {
        agent_to_wire(agent, self.0.loads.of(&agent.id))
    }

    async fn change(
        &self,
        event: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Response<pb::Agent>, Status> {
        match self.0.driver.ask(event).await.map_err(stopping)? {
            Answer::Agent(agent) => Ok(Response::new(self.show(&agent))),
            Answer::Refused(refusal) => Err(refused(&refusal)),
            other @ (Answer::Submitted(_)
            | Answer::CancelRequested { .. }
            | Answer::Released { .. }
            | Answer::Adopted(_)
            | Answer::LossesConfirmed { .. }
            | Answer::Channel(_)) => Err(mismatched(&other)),
        }
    }
}

fn agent_id(text: &str) -> Result<AgentId, Status> {
    AgentId::parse(text).map_err(|error| invalid("agent", format!("{text:?} {error}")))
}
