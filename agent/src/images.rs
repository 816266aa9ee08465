//! The images on this host: pulling what is missing, and telling what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use muster_core::image::{Image, Repository, split_tag};
use muster_core::time::Millis;
use muster_proto::v1 as pb;
use tokio::sync::{OnceCell, RwLock, Semaphore};

use crate::metrics::AgentMetrics;
use crate::runtime::{EngineError, ImageFacts, ListedImage, PullError, PullProgress, Runtime};

mod book;
mod credentials;
mod sweep;

use book::Book;
pub(crate) use sweep::Shelf;

/// Most images that are told of, newest first.
const HELD_MAX: usize = 200;
/// Most fetches that are told of.
const FETCHES_MAX: usize = 16;

/// Why an image can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ImageFailure {
    #[error("{message}")]
    NoSuchImage { message: String },
    #[error("{message}")]
    PullFailed { message: String },
    #[error("{message}")]
    Engine { message: String },
}

/// What became of making sure of an image.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub facts: ImageFacts,
    /// How long the pull took; `None`: it was there.
    pub pull: Option<Millis>,
}

/// An image that was ordered ahead of its tasks.
#[derive(Debug, Clone, Default)]
struct Fetch {
    progress: Arc<PullProgress>,
    /// Why it failed; empty: it is under way.
    problem: String,
}

/// One pull that everybody who wants the image waits for.
type Pull = Arc<OnceCell<Result<Ready, ImageFailure>>>;

pub(crate) struct Images<R> {
    runtime: R,
    metrics: Arc<AgentMetrics>,
    permits: Semaphore,
    /// Facts of images that were there when last asked, by reference.
    known: Mutex<BTreeMap<String, ImageFacts>>,
    pulls: Mutex<BTreeMap<String, Pull>>,
    /// What was ordered ahead and is not there, by reference.
    fetches: Mutex<BTreeMap<String, Fetch>>,
    /// Shared by pulls; whoever removes an image has it alone.
    pulling: RwLock<()>,
    book: Book,
}

impl<R: Runtime> Images<R> {
    pub(crate) fn new(
        runtime: R,
        parallel: u32,
        metrics: Arc<AgentMetrics>,
        data_dir: &Path,
    ) -> Self {
        let permits = usize::try_from(parallel).unwrap_or(1);
        Self {
            runtime,
            metrics,
            permits: Semaphore::new(permits),
            known: Mutex::default(),
            pulls: Mutex::default(),
            fetches: Mutex::default(),
            pulling: RwLock::new(()),
            book: Book::open(data_dir),
        }
    }

    /// Makes sure that the engine holds the image. Whoever wants the same image meanwhile waits for
    /// the same pull.
    pub(crate) async fn ensure(
        &self,
        image: &Image,
        may_pull: bool,
    ) -> Result<Ready, ImageFailure> {
        let reference = image.to_string();
        self.book.used(&reference);
        if let Some(facts) = lock(&self.known).get(&reference).cloned() {
            return Ok(Ready { facts, pull: None });
        }
        if let Some(facts) = self.look(&reference).await? {
            return Ok(Ready { facts, pull: None });
        }
        if matches!(image, Image::Local { .. }) || !may_pull {
            return Err(ImageFailure::NoSuchImage {
                message: format!("this host does not hold {reference}, and it is not to be pulled"),
            });
        }
        let pull = Arc::clone(lock(&self.pulls).entry(reference.clone()).or_default());
        let result = pull.get_or_init(|| self.pull(&reference)).await.clone();
        let mut pulls = lock(&self.pulls);
        if pulls
            .get(&reference)
            .is_some_and(|same| Arc::ptr_eq(same, &pull))
        {
            pulls.remove(&reference); // the next one may try again
        }
        result
    }

    /// Makes sure of an image that the coordinator expects tasks of.
    pub(crate) async fn prefetch(&self, image: &Image) -> Result<Ready, ImageFailure> {
        let reference = image.to_string();
        let begun = Fetch::default();
        self.note_fetch(&reference, begun);
        let ready = self.ensure(image, true).await;
        self.book.prefetched(&reference);
        match &ready {
            Ok(_) => {
                lock(&self.fetches).remove(&reference);
            }
            Err(failure) => {
                let problem = failure.to_string();
                let progress = Arc::default();
                self.note_fetch(&reference, Fetch { problem, progress });
            }
        }
        ready
    }

    /// It was ordered ahead, and this host will not have it.
    pub(crate) fn refuse_fetch(&self, image: &Image, problem: String) {
        let progress = Arc::default();
        self.note_fetch(&image.to_string(), Fetch { problem, progress });
    }

    fn note_fetch(&self, reference: &str, fetch: Fetch) {
        let mut fetches = lock(&self.fetches);
        if fetches.len() >= FETCHES_MAX && !fetches.contains_key(reference) {
            // Old failures tell nobody anything.
            fetches.retain(|_, fetch| fetch.problem.is_empty());
        }
        if fetches.len() < FETCHES_MAX {
            fetches.insert(reference.to_owned(), fetch);
        }
    }

    /// How far everything is that was ordered ahead and is not there.
    pub(crate) fn fetches(&self) -> Vec<pb::Fetch> {
        let fetches = lock(&self.fetches);
        let told = fetches.iter().map(|(image, fetch)| {
            let Fetch { progress, problem } = fetch;
            pb::Fetch {
                image: image.clone(),
                done_bytes: progress.done.load(Ordering::Relaxed),
                total_bytes: progress.total.load(Ordering::Relaxed),
                problem: problem.clone(),
            }
        });
        told.collect()
    }

    /// What the coordinator says that tasks of the channel may run next.
    pub(crate) fn keep(&self, channel: String, images: Vec<String>) {
        self.book.keep(channel, images);
    }

    /// To be called when the engine says that an image is gone.
    pub(crate) fn forget(&self, image: &Image) {
        lock(&self.known).remove(&image.to_string());
    }

    async fn look(&self, reference: &str) -> Result<Option<ImageFacts>, ImageFailure> {
        let found = self.runtime.inspect_image(reference).await;
        let found = found.map_err(|error| ImageFailure::Engine {
            message: error.to_string(),
        })?;
        if let Some(facts) = &found {
            lock(&self.known).insert(reference.to_owned(), facts.clone());
        }
        Ok(found)
    }

    #[tracing::instrument(name = "agent.pull", skip_all, fields(image = reference))]
    async fn pull(&self, reference: &str) -> Result<Ready, ImageFailure> {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let _together = self.pulling.read().await;
        let begin = Instant::now();
        let registry = reference.split('/').next().unwrap_or("").to_owned();
        let credentials = credentials::of(registry).await;
        let fetch = lock(&self.fetches).get(reference).cloned();
        let progress = fetch.unwrap_or_default().progress;
        let result = self.runtime.pull(reference, credentials, &progress).await;
        let took = begin.elapsed();
        self.metrics.pulled(result.is_ok(), took);
        match result {
            Ok(()) => self.book.pulled(reference),
            Err(PullError::NoSuchImage { message }) => {
                return Err(ImageFailure::NoSuchImage { message });
            }
            Err(PullError::Failed { message }) => {
                return Err(ImageFailure::PullFailed { message });
            }
            Err(PullError::Engine(error)) => {
                let message = error.to_string();
                return Err(ImageFailure::PullFailed { message });
            }
        }
        let gone = || ImageFailure::PullFailed {
            message: "the engine pulled the image and does not hold it".to_owned(),
        };
        let facts = self.look(reference).await?.ok_or_else(gone)?;
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(duration_ms = millis, "image pulled");
        Ok(Ready {
            facts,
            pull: Some(Millis(millis)),
        })
    }

    /// Everything the engine holds, newest first.
    pub(crate) async fn held(&self) -> Result<Vec<pb::HeldImage>, EngineError> {
        let mut images = self.runtime.list_images().await?;
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        // Something may have been removed behind our back.
        lock(&self.known).clear();
        let digests = images.iter().flat_map(|image| &image.digests);
        let all: BTreeSet<_> = digests.filter_map(|text| reference_of(text)).collect();
        self.book.retain(&all);
        Ok(images.into_iter().take(HELD_MAX).map(held).collect())
    }
}

/// `repository@digest` as the engine writes it, with its registry.
fn reference_of(text: &str) -> Option<String> {
    text.parse::<Image>().ok().map(|image| image.to_string())
}

/// Writes names out with their registry, as the coordinator compares them.
fn held(image: ListedImage) -> pb::HeldImage {
    let ListedImage {
        id, digests, tags, ..
    } = image;
    let tag = |text: &String| {
        let (repository, tag) = split_tag(text);
        let repository: Repository = repository.parse().ok()?;
        Some(format!("{repository}:{}", tag?))
    };
    pb::HeldImage {
        id: id.to_string(),
        digests: digests
            .iter()
            .filter_map(|text| reference_of(text))
            .collect(),
        tags: tags.iter().filter_map(tag).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_out() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let image = ListedImage {
            id: digest.parse().unwrap(),
            digests: vec![format!("busybox@{digest}"), "odd".into()],
            tags: vec!["busybox:1".into(), "localhost:5000/a/b:latest".into()],
            created: 0,
        };
        let held = held(image);
        assert_eq!(
            held.digests,
            [format!("docker.io/library/busybox@{digest}")]
        );
        assert_eq!(
            held.tags,
            ["docker.io/library/busybox:1", "localhost:5000/a/b:latest"]
        );
    }
}
