//! Taking up a container whose journal was lost: the journal is written anew, from what the engine shows, as
//! one that was asked to start. So it is followed or awaited, and never started. One that has ended was not asked
//! to by this life: who ended it is lost with the journal.

use std::sync::Arc;

use muster_proto::v1 as pb;

use super::{Control, Home, Life, Shared, WARM_LABEL};
use crate::host;
use crate::journal::{self, Entry, Intent, Journal};
use crate::offer::Task;
use crate::plan::Seen;
use crate::runtime::Runtime;

pub(super) async fn adopt<R: Runtime>(
    shared: Arc<Shared<R>>,
    task: Task,
    home: Home,
    offer: &pb::Offer,
    control: Control,
    traceparent: String,
) {
    let dir = shared.attempt_dir(task.id);
    let mut found = match shared.runtime.inspect(&home.name).await {
        Ok(found) => found,
        // The next stream names it again.
        Err(error) => return tracing::warn!(%error, "container to be taken up can't be inspected"),
    };
    let over = found.as_ref().map(|found| found.seen) == Some(Seen::Exited);
    let warm = found
        .as_mut()
        .and_then(|found| found.labels.remove(WARM_LABEL));
    let written = async {
        let journal = Journal::create(dir.clone(), home.accepted(offer)).await?;
        if !over {
            let intent = Entry::StartIntent(intent(&shared.boot_id, warm));
            journal.append_durably(intent).await?;
        }
        Ok::<Journal, std::io::Error>(journal)
    };
    let journal = match written.await {
        Ok(journal) => journal,
        // The next stream names it again.
        Err(error) => {
            return tracing::error!(%error, "container not taken up: the journal can't be written");
        }
    };
    match journal::read(&dir) {
        Ok(history) => {
            shared.orphans.taken_up(task.id);
            shared.metrics.orphans_adopted.inc();
            tracing::warn!(
                container = home.name,
                "container without a journal taken up again"
            );
            let life = Life::new(shared, task, home, journal, control, traceparent);
            life.again(history).await;
        }
        Err(error) => tracing::error!(%error, "journal can't be used"),
    }
}

/// As if the start had been asked for now. The limit of time counts anew with it, because no clock was read
/// at the real start; the coordinator's own limit does not. Which engine was asked is not known any more.
fn intent(boot_id: &str, warm: Option<String>) -> Intent {
    Intent {
        at: host::now().0,
        boot_id: boot_id.to_owned(),
        engine_ticks: None,
        boot_clock: host::boot_clock(),
        warm,
    }
}
