//! Removes images that this agent pulled and nobody wants any more, when the engine's disk fills up.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use muster_failpoint as failpoint;
use tokio_util::sync::CancellationToken;

use super::{Images, lock, reference_of};
use crate::config::ImageGc;
use crate::disk::Measure;
use crate::host;
use crate::runtime::{EngineError, ImageRemoval, Runtime};

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// An image that was wanted so recently stays: its container may be about to be created.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// Where images are kept, and how full that may be.
pub(crate) struct Shelf<'a> {
    pub path: &'a Path,
    pub marks: ImageGc,
    pub measure: &'a Measure,
}

impl Shelf<'_> {
    /// Hundredths of the disk in use, rounded down; `None` if that can't be told.
    fn used(&self) -> Option<u64> {
        let (free, all) = (self.measure)(self.path)?;
        let used = all.saturating_sub(free);
        (all > 0).then(|| used / (all / 100).max(1))
    }
}

impl<R: Runtime> Images<R> {
    /// Keeps the list of images on disk and, with a shelf, the disk below its mark, until `shutdown`.
    pub(crate) async fn tend(&self, shelf: Option<Shelf<'_>>, shutdown: CancellationToken) {
        let mut turns = tokio::time::interval(failpoint::hurried(PERIOD));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = turns.tick() => {}
            }
            let idle = u64::try_from(failpoint::hurried(IDLE).as_millis()).unwrap_or(u64::MAX);
            if let Some(shelf) = &shelf
                && let Err(error) = self.sweep(shelf, host::now().0.saturating_sub(idle)).await
            {
                tracing::warn!(%error, "unused images can't be removed");
            }
            self.save();
        }
        self.save();
    }

    /// Removes images if the disk is used to the upper mark, until it is used to the lower one only
    /// or nothing is left that may go. Images wanted after `idle_since` stay.
    pub(super) async fn sweep(
        &self,
        shelf: &Shelf<'_>,
        idle_since: u64,
    ) -> Result<(), EngineError> {
        let ImageGc { high, low } = shelf.marks;
        let Some(before) = shelf.used().filter(|used| *used >= u64::from(high)) else {
            return Ok(());
        };
        let removable = self.removable().await?;
        for reference in self.book.spare(idle_since) {
            if shelf.used().is_none_or(|used| used <= u64::from(low)) {
                return Ok(());
            }
            if removable.contains(&reference) {
                self.remove(&reference, idle_since).await?;
            }
        }
        let used = shelf.used().unwrap_or(before);
        if used > u64::from(low) {
            tracing::warn!(used, low, "disk stays full: no other image may be removed");
        }
        Ok(())
    }

    /// What has no other name than the one that this agent pulled it by. A tag, or a second
    /// repository that isn't in the list, is somebody else's wish to keep it.
    async fn removable(&self) -> Result<BTreeSet<String>, EngineError> {
        let images = self.runtime.list_images().await?;
        let only = images.into_iter().filter(|image| image.tags.is_empty());
        let own = only.filter_map(|image| match image.digests.as_slice() {
            [one] => reference_of(one),
            _ => None,
        });
        Ok(own.collect())
    }

    /// Removes one image, unless something is being pulled, or somebody wants it after all.
    async fn remove(&self, reference: &str, idle_since: u64) -> Result<(), EngineError> {
        // The engine may drop layers that a pull under way has found and counts on.
        let Ok(_alone) = self.pulling.try_write() else {
            tracing::debug!("an image is being pulled; none is removed");
            return Ok(());
        };
        if !self.book.is_idle(reference, idle_since) {
            return Ok(());
        }
        lock(&self.known).remove(reference);
        match self.runtime.remove_image(reference).await? {
            ImageRemoval::Removed => {
                tracing::info!(image = reference, "unused image removed");
                self.metrics.images_removed.inc();
            }
            ImageRemoval::InUse => tracing::debug!(image = reference, "image is in use"),
        }
        Ok(())
    }

    fn save(&self) {
        if let Err(error) = self.book.save() {
            tracing::warn!(%error, "list of pulled images can't be written");
        }
    }
}

#[cfg(test)]
mod tests;
