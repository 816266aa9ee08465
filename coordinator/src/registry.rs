//! Asks registries what a tag means. The answer is a digest, and only digests are run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_core::ids::CredentialsName;
use muster_core::image::{BadImage, Digest, Repository, Tag};
use muster_core::rollout::Facts;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::sync::Semaphore;

mod carried;
mod credentials;
pub mod fake;
mod image;
mod labels;
pub(crate) mod verify;

use carried::Carried;
pub use credentials::CredentialError;
use credentials::Credentials;

/// For one connection, name resolution and TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For a whole answer: credentials, a token and the manifest's head.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(20);
/// For a look through an image's layers.
const LAYERS_DEADLINE: Duration = Duration::from_secs(60);
/// Images whose layers are looked through at the same time.
const LAYERS_PARALLEL: usize = 2;
/// Images of which it is remembered what they carry.
const CARRIED_MAX: usize = 64;
/// How long to stay away from a registry that is being asked too often; the client that we use
/// does not hand its `Retry-After` on.
const THROTTLED_WAIT: Duration = Duration::from_secs(60);

/// How registries are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Registries, `HOST` or `HOST:PORT` as in references, that speak plain HTTP. Loopback ones
    /// always do. `MUSTER_COORDINATOR_INSECURE_REGISTRIES`, a comma list, default none.
    pub insecure_registries: Vec<String>,
    /// Registries, or repositories and what is below them, that channels may follow; empty: any.
    /// `MUSTER_COORDINATOR_ALLOWED_REPOSITORIES`, a comma list, default none.
    pub allowed_repositories: Vec<String>,
    /// A program that decides whether an image may be rolled out. `MUSTER_COORDINATOR_VERIFY_COMMAND`,
    /// default none.
    pub verify_command: Option<std::path::PathBuf>,
    /// The directory of docker's `config.json`; absent: `DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<std::path::PathBuf>,
    /// A directory of files as that `config.json`, which channels can name.
    /// `MUSTER_COORDINATOR_CREDENTIALS_DIR`, default none.
    pub credentials_dir: Option<std::path::PathBuf>,
}

/// A repository, and who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    pub repository: &'a Repository,
    /// `None`: what docker's configuration has.
    pub credentials: Option<&'a CredentialsName>,
}

impl<'a> From<&'a Repository> for Access<'a> {
    fn from(repository: &'a Repository) -> Self {
        Self {
            repository,
            credentials: None,
        }
    }
}

/// Where a tag is turned into a digest. One call is one look: nothing is retried and nothing is remembered.
pub trait Registry: Send + Sync + 'static {
    /// The digest that `tag` means now: of the index, if the image is for several platforms.
    fn resolve<'a>(
        &'a self,
        access: Access<'a>,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>>;

    /// What the image says of itself: its platforms, the labels of its configuration, and what the file says that
    /// one of them names; of an index, those of the image for `linux/amd64`, or of the first one.
    fn facts<'a>(
        &'a self,
        access: Access<'a>,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Facts, ResolveError>>;
}

/// Why a tag could not be turned into a digest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("{repository} has no tag {tag}")]
    NoSuchTag { repository: Repository, tag: Tag },
    #[error("{}", denied(repository, none_in.as_deref()))]
    Denied {
        repository: Repository,
        /// What had no credentials for the registry, if none were shown.
        none_in: Option<String>,
    },
    #[error("the registry asked us to wait {} s", wait.as_secs())]
    Throttled { wait: Duration },
    // Sources are not in the messages: whoever logs the error prints the chain.
    #[error("the registry did not answer")]
    Unreachable { source: TransportError },
    #[error("{repository} has no image {digest}")]
    NoSuchImage {
        repository: Repository,
        digest: Digest,
    },
    #[error("the registry's answer is not a digest that muster knows")]
    NotADigest { source: BadImage },
    #[error("{repository} is not among the repositories that the coordinator allows: {}", allowed.join(", "))]
    NotAllowed {
        repository: Repository,
        allowed: Vec<String>,
    },
    #[error("the verification of {repository}@{digest} gave no verdict: {what}")]
    Unverified {
        repository: Repository,
        digest: Digest,
        what: String,
    },
    #[error("no credentials for {registry} could be read")]
    Credentials {
        registry: String,
        source: CredentialError,
    },
}

impl ResolveError {
    /// Whether looking again later can help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NoSuchTag { .. }
            | Self::NoSuchImage { .. }
            | Self::Denied { .. }
            | Self::NotAllowed { .. }
            | Self::NotADigest { .. } => false,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Unverified { .. } => true,
            Self::Credentials { source, .. } => source.is_transient(),
        }
    }

    /// Whether it is about what is shown to the registry, and not about the repository.
    #[must_use]
    pub const fn is_of_credentials(&self) -> bool {
        matches!(self, Self::Credentials { .. })
    }

    /// A word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoSuchTag { .. } => "no_such_tag",
            Self::NoSuchImage { .. } => "no_such_image",
            Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
            Self::NotADigest { .. } => "not_a_digest",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Unverified { .. } => "unverified",
            Self::Credentials { .. } => "credentials",
        }
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("nothing within {} s", after.as_secs())]
    TimedOut { after: Duration },
    #[error(transparent)]
    Client(Box<OciDistributionError>),
}

/// Real registries, over HTTPS or, where the configuration says so, HTTP.
#[derive(Debug)]
pub struct OciRegistry {
    credentials: Credentials,
    insecure: Vec<String>,
    /// One client for each registry and name of credentials, with the credentials it was made with: the client caches
    /// tokens and never takes a second password, but helpers give out passwords of an hour.
    clients: Mutex<Clients>,
    /// What images carry: the same for ever, and dear to look for.
    carried: Mutex<BTreeMap<Digest, Carried>>,
    looking: Semaphore,
}

type Clients = BTreeMap<(String, Option<CredentialsName>), (RegistryAuth, ClientHandle)>;

#[derive(Clone)]
struct ClientHandle(Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl OciRegistry {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config {
            insecure_registries,
            docker_config,
            credentials_dir,
            // Of what is looked at at all, whoever is asked: see `verify`.
            allowed_repositories: _,
            verify_command: _,
        } = config;
        Self {
            credentials: Credentials::new(docker_config, credentials_dir),
            insecure: insecure_registries,
            clients: Mutex::default(),
            carried: Mutex::default(),
            looking: Semaphore::new(LAYERS_PARALLEL),
        }
    }

    async fn look(&self, access: Access<'_>, tag: &Tag) -> Result<Digest, ResolveError> {
        let (client, auth) = self.client_for(access).await?;
        let repository = access.repository;
        let reference = Reference::with_tag(
            repository.registry().to_owned(),
            repository.path().to_owned(),
            tag.as_str().to_owned(),
        );
        let missing = || ResolveError::NoSuchTag {
            repository: repository.clone(),
            tag: tag.clone(),
        };
        let found = client.0.fetch_manifest_digest(&reference, &auth).await;
        let digest = found.map_err(|error| self.explain(error, access, &auth, missing))?;
        digest
            .parse()
            .map_err(|source| ResolveError::NotADigest { source })
    }

    async fn read_facts(&self, access: Access<'_>, digest: Digest) -> Result<Facts, ResolveError> {
        let (client, auth) = self.client_for(access).await?;
        let repository = access.repository;
        let reference = Reference::with_digest(
            repository.registry().to_owned(),
            repository.path().to_owned(),
            digest.to_string(),
        );
        let missing = || ResolveError::NoSuchImage {
            repository: repository.clone(),
            digest,
        };
        let explain = |error| self.explain(error, access, &auth, missing);
        let find = async {
            let found = image::find(&client.0, &reference, &auth).await;
            found.map_err(explain)
        };
        let image::Found {
            platforms,
            config,
            layers,
        } = in_time(RESOLVE_DEADLINE, find).await?;
        let (mut facts, file) = labels::facts(&config);
        if !platforms.is_empty() {
            facts.platforms = platforms;
        }
        if let Some(file) = file {
            let known = self.carried().get(&digest).cloned();
            let carried = match known {
                Some(known) => known,
                None => {
                    let look = async {
                        let _permit = self.looking.acquire().await.expect("it is never closed");
                        let read = carried::read(&client.0, &reference, &layers, &file);
                        read.await.map_err(explain)
                    };
                    in_time(LAYERS_DEADLINE, look).await?
                }
            };
            self.remember(digest, &carried);
            carried.add_to(&mut facts);
        }
        Ok(facts)
    }

    fn remember(&self, digest: Digest, carried: &Carried) {
        let mut known = self.carried();
        if known.len() >= CARRIED_MAX && !known.contains_key(&digest) {
            known.clear();
        }
        known.insert(digest, carried.clone());
    }

    fn carried(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Carried>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client_for(
        &self,
        access: Access<'_>,
    ) -> Result<(ClientHandle, RegistryAuth), ResolveError> {
        let registry = access.repository.registry();
        let auth = self.credentials.of(registry, access.credentials).await;
        let auth = auth.map_err(|source| {
            let registry = registry.to_owned();
            ResolveError::Credentials { registry, source }
        })?;
        let client = self
            .client(access, &auth)
            .map_err(|source| unreachable_by(Box::new(source)))?;
        Ok((client, auth))
    }

    fn explain(
        &self,
        error: OciDistributionError,
        access: Access<'_>,
        auth: &RegistryAuth,
        missing: impl Fn() -> ResolveError,
    ) -> ResolveError {
        let mut error = classify(error, access.repository, missing);
        if let ResolveError::Denied { none_in, .. } = &mut error {
            if *auth == RegistryAuth::Anonymous {
                *none_in = Some(access.credentials.map_or_else(
                    || "the coordinator's docker configuration".to_owned(),
                    |name| format!("the file of credentials {name}"),
                ));
            }
            // Rights may be given later: the next look begins with a fresh token.
            self.lock().remove(&client_key(access));
        }
        error
    }

    fn client(
        &self,
        access: Access<'_>,
        auth: &RegistryAuth,
    ) -> Result<ClientHandle, OciDistributionError> {
        let key = client_key(access);
        let mut clients = self.lock();
        if let Some((made_with, client)) = clients.get(&key)
            && made_with == auth
        {
            return Ok(client.clone());
        }
        let protocol = if self.is_plain(access.repository.registry()) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        // Not `Client::new`: without a CA bundle that one panics instead of returning an error.
        let client = Client::try_from(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_DEADLINE),
            read_timeout: Some(RESOLVE_DEADLINE),
            user_agent: concat!("muster/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
        .map(ClientHandle)?;
        clients.insert(key, (auth.clone(), client.clone()));
        Ok(client)
    }

    fn is_plain(&self, registry: &str) -> bool {
        is_loopback(registry) || self.insecure.iter().any(|listed| listed == registry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for OciRegistry {
    fn resolve<'a>(
        &'a self,
        access: Access<'a>,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        Box::pin(in_time(RESOLVE_DEADLINE, self.look(access, tag)))
    }

    fn facts<'a>(
        &'a self,
        access: Access<'a>,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Facts, ResolveError>> {
        Box::pin(self.read_facts(access, digest))
    }
}

fn client_key(access: Access<'_>) -> (String, Option<CredentialsName>) {
    let registry = access.repository.registry().to_owned();
    (registry, access.credentials.cloned())
}

async fn in_time<T>(
    after: Duration,
    look: impl Future<Output = Result<T, ResolveError>>,
) -> Result<T, ResolveError> {
    let late = || ResolveError::Unreachable {
        source: TransportError::TimedOut { after },
    };
    let answer = tokio::time::timeout(after, look).await;
    answer.unwrap_or_else(|_| Err(late()))
}

/// Whether the host of `registry` is this machine, by name or by address.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Registries also answer so if there is no such repository.
fn denied(repository: &Repository, none_in: Option<&str>) -> String {
    let Some(source) = none_in else {
        return format!("the registry refused our credentials for {repository}");
    };
    let registry = repository.registry();
    format!(
        "the registry does not show {repository} without credentials, if it has it, and {source} has none for \
         {registry}"
    )
}

fn classify(
    error: OciDistributionError,
    repository: &Repository,
    missing: impl Fn() -> ResolveError,
) -> ResolveError {
    let denied = || ResolveError::Denied {
        repository: repository.clone(),
        none_in: None,
    };
    let throttled = || ResolveError::Throttled {
        wait: THROTTLED_WAIT,
    };
    match error {
        OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::UnauthorizedError { .. } => denied(),
        OciDistributionError::ImageManifestNotFoundError(_) => missing(),
        OciDistributionError::ServerError { code: 429, .. } => throttled(),
        OciDistributionError::ServerError { code: 403, .. } => denied(),
        OciDistributionError::ServerError { code: 404, .. } => missing(),
        OciDistributionError::RegistryError { envelope, url } => {
            match envelope.errors.first().map(|first| &first.code) {
                Some(OciErrorCode::Toomanyrequests) => throttled(),
                Some(OciErrorCode::Denied | OciErrorCode::Unauthorized) => denied(),
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound,
                ) => missing(),
                Some(_) | None => unreachable_by(refusal(envelope, url)),
            }
        }
        other => unreachable_by(Box::new(other)),
    }
}

fn refusal(envelope: OciEnvelope, url: String) -> Box<OciDistributionError> {
    Box::new(OciDistributionError::RegistryError { envelope, url })
}

const fn unreachable_by(error: Box<OciDistributionError>) -> ResolveError {
    ResolveError::Unreachable {
        source: TransportError::Client(error),
    }
}

#[cfg(test)]
mod tests;
