//! How the rest of the coordinator talks to the driver.

use std::sync::Arc;

use muster_core::effect::Answer;
use muster_core::event::Event;
use muster_core::fleet::Fleet;
use muster_core::ids::{AgentId, SessionNo, Ticket};
use muster_core::job::Job;
use muster_core::time::Timestamp;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{ORDERS, Orders, SUBMISSIONS};

/// Reads the fleet after a commit.
pub(super) type Look = Box<dyn FnOnce(&Fleet, Timestamp) + Send>;
/// An event that is complete once the driver has given it a ticket.
type Request = Box<dyn FnOnce(Ticket) -> Event + Send>;

#[expect(clippy::large_enum_variant, reason = "events are most inputs")]
pub(super) enum Input {
    Tell(Event),
    Ask {
        event: Request,
        answer: oneshot::Sender<Answer>,
    },
    Attach {
        agent: AgentId,
        session: SessionNo,
        orders: mpsc::Sender<Orders>,
    },
    Look(Look),
}

/// Jobs of one request. They line up apart from everything else; see [`super::Driver`].
pub(super) struct Submission {
    pub jobs: Vec<Arc<Job>>,
    pub answer: oneshot::Sender<Answer>,
}

/// The driver has stopped, and with it the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping")]
pub struct DriverGone;

/// Why jobs were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSubmitted {
    #[error("{SUBMISSIONS} submissions wait already; make the same call again in a moment")]
    Busy,
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// A way to the driver; cheap to clone. Every call but a submission waits while the driver's queue is full.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    inputs: mpsc::Sender<Input>,
    submissions: mpsc::Sender<Submission>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input")
    }
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Submission")
    }
}

impl DriverHandle {
    pub(super) const fn new(
        inputs: mpsc::Sender<Input>,
        submissions: mpsc::Sender<Submission>,
    ) -> Self {
        Self {
            inputs,
            submissions,
        }
    }

    /// News that nobody waits for.
    ///
    /// # Errors
    /// If the driver has stopped.
    pub async fn tell(&self, event: Event) -> Result<(), DriverGone> {
        self.inputs
            .send(Input::Tell(event))
            .await
            .map_err(|_| DriverGone)
    }

    /// A request; the answer comes when everything about it is durable.
    ///
    /// # Errors
    /// If the driver has stopped. Whether the request was carried out is then unknown.
    pub async fn ask(
        &self,
        event: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Answer, DriverGone> {
        let (answer, answered) = oneshot::channel();
        let input = Input::Ask {
            event: Box::new(event),
            answer,
        };
        self.inputs.send(input).await.map_err(|_| DriverGone)?;
        answered.await.map_err(|_| DriverGone)
    }

    /// Whether a submission has a place in the line now. Without one there is no use in reading it.
    ///
    /// # Errors
    /// If it has none, or the driver has stopped.
    pub fn has_room(&self) -> Result<(), NotSubmitted> {
        match self.submissions.capacity() {
            _ if self.submissions.is_closed() => Err(DriverGone.into()),
            0 => Err(NotSubmitted::Busy),
            _ => Ok(()),
        }
    }

    /// Submits jobs; all of them are taken or none.
    ///
    /// # Errors
    /// At once if too many submissions wait already. If the driver has stopped; whether the jobs are stored is then
    /// unknown.
    pub async fn submit(&self, jobs: Vec<Arc<Job>>) -> Result<Answer, NotSubmitted> {
        let (answer, answered) = oneshot::channel();
        let submission = Submission { jobs, answer };
        self.submissions
            .try_send(submission)
            .map_err(|error| match error {
                TrySendError::Full(_) => NotSubmitted::Busy,
                TrySendError::Closed(_) => DriverGone.into(),
            })?;
        Ok(answered.await.map_err(|_| DriverGone)?)
    }

    /// Looks at the fleet when what it shows is durable.
    ///
    /// # Errors
    /// If the driver has stopped.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet, Timestamp) -> T + Send + 'static,
    ) -> Result<T, DriverGone> {
        let (found, seen) = oneshot::channel();
        let look: Look = Box::new(move |fleet, now| {
            // A caller that went away does not need it.
            let _ = found.send(look(fleet, now));
        });
        self.inputs
            .send(Input::Look(look))
            .await
            .map_err(|_| DriverGone)?;
        seen.await.map_err(|_| DriverGone)
    }

    /// Returns when the driver has stopped, and with it everything that clients could wait for.
    pub async fn stopped(&self) {
        self.inputs.closed().await;
    }

    /// Opens the way for an agent's orders. It ends when a newer stream of the agent takes over, or
    /// when the agent does not keep up.
    ///
    /// # Errors
    /// If the driver has stopped.
    pub(crate) async fn attach(
        &self,
        agent: AgentId,
        session: SessionNo,
    ) -> Result<mpsc::Receiver<Orders>, DriverGone> {
        let (orders, received) = mpsc::channel(ORDERS);
        let input = Input::Attach {
            agent,
            session,
            orders,
        };
        self.inputs.send(input).await.map_err(|_| DriverGone)?;
        Ok(received)
    }
}
