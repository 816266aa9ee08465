//! The images on this host: pulling what is missing, and telling what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use muster_core::image::{Image, Repository, split_tag};
use muster_core::time::Millis;
use muster_proto::v1 as pb;
use tokio::sync::{OnceCell, RwLock, Semaphore};

use crate::metrics::AgentMetrics;
use crate::runtime::{Credentials, EngineError, ImageFacts, ListedImage, PullError, Runtime};

mod book;
mod sweep;

use book::Book;
pub(crate) use sweep::Shelf;

/// Most images that are told of, newest first.
const HELD_MAX: usize = 200;
/// A credential helper may ask a cloud.
const HELPER: Duration = Duration::from_secs(30);

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

/// One pull that everybody who wants the image waits for.
type Pull = Arc<OnceCell<Result<Ready, ImageFailure>>>;

pub(crate) struct Images<R> {
    runtime: R,
    metrics: Arc<AgentMetrics>,
    permits: Semaphore,
    /// Facts of images that were there when last asked, by reference.
    known: Mutex<BTreeMap<String, ImageFacts>>,
    pulls: Mutex<BTreeMap<String, Pull>>,
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
        let ready = self.ensure(image, true).await;
        self.book.prefetched(&image.to_string());
        ready
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
        let credentials = credentials(registry).await;
        let result = self.runtime.pull(reference, credentials).await;
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

/// What this host's docker config and its helpers have for a registry; asked for each pull, because
/// the clouds' tokens live for hours only.
async fn credentials(registry: String) -> Option<Credentials> {
    use docker_credential::DockerCredential;
    // The default registry is listed under the address of its first version.
    let server = match registry.as_str() {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        _ => registry,
    };
    let asked = tokio::task::spawn_blocking(move || docker_credential::get_credential(&server));
    match tokio::time::timeout(HELPER, asked).await {
        Ok(Ok(Ok(DockerCredential::UsernamePassword(user, password)))) => {
            Some(Credentials::Password { user, password })
        }
        Ok(Ok(Ok(DockerCredential::IdentityToken(token)))) => Some(Credentials::Token(token)),
        Ok(Ok(Err(
            docker_credential::CredentialRetrievalError::ConfigNotFound
            | docker_credential::CredentialRetrievalError::NoCredentialConfigured,
        ))) => None,
        // Not the error's text: it may hold what the helper printed.
        Ok(_) => {
            tracing::warn!("registry credentials can't be read");
            None
        }
        Err(_) => {
            tracing::warn!("credential helper does not answer");
            None
        }
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
