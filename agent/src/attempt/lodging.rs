//! Where a container's network is: in a namespace of its own, or in one that was made ahead.

use super::{Ending, Life};
use crate::namespaces::JOINED;
use crate::outcome::InitWord;
use crate::output::spool::{LogFile, Spool};
use crate::plan::{Action, Seen};
use crate::policy::is_root;
use crate::runtime::{Container, NewContainer, Runtime};
use crate::starts::Kind;
use std::sync::Arc;

impl<R: Runtime> Life<R> {
    /// Has the container join a namespace that was made ahead on its network, if one is there. A task that
    /// could write what is shared with it gets its own: the files `/etc/hosts` and `/etc/resolv.conf` are the
    /// parked container's. So does one whose start was refused once.
    pub(super) async fn lodge(&mut self, new: &mut NewContainer) {
        let Some(network) = new.network.clone() else {
            return;
        };
        if new.writable_root || is_root(&new.user) || self.intent.is_some() {
            return;
        }
        if self.lease.is_none() {
            self.lease = self.shared.namespaces.lend(&self.cluster, &network).await;
        }
        if let Some(lease) = &self.lease {
            let parked = lease.container().to_owned();
            new.network = Some(format!("container:{parked}"));
            new.labels.insert(JOINED.to_owned(), parked);
        }
    }

    pub(super) const fn kind_of_start(&self) -> Kind {
        match (&self.lease, self.task.bridge) {
            (Some(_), _) => Kind::LentNamespace,
            (None, true) => Kind::OwnNamespace,
            (None, false) => Kind::NoNetwork,
        }
    }

    /// Whether a container was created in a namespace that was lent to an earlier life, and may be gone.
    pub(super) fn is_homeless(&self, container: &Container) -> bool {
        let joined = container.labels.get(JOINED).map(String::as_str);
        let lent = self.lease.as_ref().map(crate::namespaces::Lease::container);
        container.seen == Seen::Created && joined.is_some() && joined != lent
    }

    /// Whether the engine refused to start a container because the one whose namespace it was to join doesn't
    /// run. Nothing ran then.
    async fn is_evicted(&self, container: &Container) -> bool {
        let Some(parked) = container.labels.get(JOINED) else {
            return false;
        };
        if container.seen != Seen::StartFailed {
            return false;
        }
        match self.init_word().await {
            InitWord::Absent | InitWord::Silent { ran: false } | InitWord::Unproven { .. } => {}
            InitWord::Silent { ran: true } | InitWord::Record(_) => return false,
        }
        let parked = self.shared.runtime.inspect(parked).await;
        parked.is_ok_and(|found| found.is_none_or(|holder| holder.seen != Seen::Running))
    }

    /// Whether, instead of what the table says, a container is to be made anew because its namespace is gone.
    pub(super) async fn needs_rehousing(&self, action: Action, container: &Container) -> bool {
        match action {
            Action::Start => self.is_homeless(container),
            Action::Harvest => self.is_evicted(container).await,
            Action::Prepare
            | Action::AwaitStart
            | Action::Attach
            | Action::Unpause
            | Action::ReportGone
            | Action::Deliver
            | Action::Leave
            | Action::Forget => false,
        }
    }

    /// Makes a container anew that never ran and has no namespace any more.
    pub(super) async fn rehouse(&mut self, spool: Spool) -> (Ending, Arc<LogFile>) {
        self.lease = None;
        // Without force, so one that runs after all stays.
        if let Err(error) = self.shared.runtime.remove(&self.name).await {
            tracing::warn!(%error, "unstarted container not removed");
            let log = spool.log();
            spool.finish().await;
            let end = super::infra(&format!("an earlier container can't be removed: {error}"));
            return (Ending::never_ran(end), log);
        }
        self.prepare_and_run(spool).await
    }

    /// Gives the namespace back after the container's end. When that can't be told, nobody gets it again.
    pub(super) async fn vacate(&mut self, ending: &Ending) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let container = ending.container.as_ref();
        if container.is_some_and(|found| found.seen == Seen::Exited) {
            self.shared.namespaces.give_back(lease).await;
        }
    }
}
