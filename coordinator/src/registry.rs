//! Asks registries what a tag means. The answer is a digest, and only digests are run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_core::image::{BadImage, Digest, Repository, Tag};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

mod credentials;
pub mod fake;

pub use credentials::CredentialError;
use credentials::Credentials;

/// For one connection, name resolution and TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For a whole answer: credentials, a token and the manifest's head.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(20);
/// How long to stay away from a registry that is being asked too often; the client that we use
/// does not hand its `Retry-After` on.
const THROTTLED_WAIT: Duration = Duration::from_secs(60);

/// How registries are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Registries, `HOST` or `HOST:PORT` as in references, that speak plain HTTP. Loopback ones
    /// always do. `MUSTER_COORDINATOR_INSECURE_REGISTRIES`, a comma list, default none.
    pub insecure_registries: Vec<String>,
    /// The directory of docker's `config.json`; absent: `DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<std::path::PathBuf>,
}

/// Where a tag is turned into a digest. One call is one look: nothing is retried and nothing is remembered.
pub trait Registry: Send + Sync + 'static {
    /// The digest that `tag` means now: of the index, if the image is for several platforms.
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>>;
}

/// Why a tag could not be turned into a digest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("{repository} has no tag {tag}")]
    NoSuchTag { repository: Repository, tag: Tag },
    #[error("the registry refused our credentials for {repository}")]
    Denied { repository: Repository },
    #[error("the registry asked us to wait {} s", wait.as_secs())]
    Throttled { wait: Duration },
    // Sources are not in the messages: whoever logs the error prints the chain.
    #[error("the registry did not answer")]
    Unreachable { source: TransportError },
    #[error("the registry's answer is not a digest that muster knows")]
    NotADigest { source: BadImage },
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
            Self::NoSuchTag { .. } | Self::Denied { .. } | Self::NotADigest { .. } => false,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Credentials { .. } => true,
        }
    }

    /// A word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoSuchTag { .. } => "no_such_tag",
            Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
            Self::NotADigest { .. } => "not_a_digest",
            Self::Credentials { .. } => "credentials",
        }
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("nothing within {} s", RESOLVE_DEADLINE.as_secs())]
    TimedOut,
    #[error(transparent)]
    Client(Box<OciDistributionError>),
}

/// Real registries, over HTTPS or, where the configuration says so, HTTP.
#[derive(Debug)]
pub struct OciRegistry {
    credentials: Credentials,
    insecure: Vec<String>,
    /// One client for each registry, with the credentials it was made with: the client caches
    /// tokens and never takes a second password, but helpers give out passwords of an hour.
    clients: Mutex<BTreeMap<String, (RegistryAuth, ClientHandle)>>,
}

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
        } = config;
        Self {
            credentials: Credentials::new(docker_config),
            insecure: insecure_registries,
            clients: Mutex::default(),
        }
    }

    async fn look(&self, repository: &Repository, tag: &Tag) -> Result<Digest, ResolveError> {
        let registry = repository.registry();
        let auth = self.credentials.of(registry).await.map_err(|source| {
            let registry = registry.to_owned();
            ResolveError::Credentials { registry, source }
        })?;
        let client = self
            .client(registry, &auth)
            .map_err(|source| unreachable_by(Box::new(source)))?;
        let reference = Reference::with_tag(
            registry.to_owned(),
            repository.path().to_owned(),
            tag.as_str().to_owned(),
        );
        match client.0.fetch_manifest_digest(&reference, &auth).await {
            Ok(digest) => digest
                .parse()
                .map_err(|source| ResolveError::NotADigest { source }),
            Err(error) => {
                let error = classify(error, repository, tag);
                if matches!(error, ResolveError::Denied { .. }) {
                    // Rights may be given later: the next look begins with a fresh token.
                    self.lock().remove(registry);
                }
                Err(error)
            }
        }
    }

    fn client(
        &self,
        registry: &str,
        auth: &RegistryAuth,
    ) -> Result<ClientHandle, OciDistributionError> {
        let mut clients = self.lock();
        if let Some((made_with, client)) = clients.get(registry)
            && made_with == auth
        {
            return Ok(client.clone());
        }
        let protocol = if self.is_plain(registry) {
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
        clients.insert(registry.to_owned(), (auth.clone(), client.clone()));
        Ok(client)
    }

    fn is_plain(&self, registry: &str) -> bool {
        is_loopback(registry) || self.insecure.iter().any(|listed| listed == registry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (RegistryAuth, ClientHandle)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for OciRegistry {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        Box::pin(async move {
            let look = self.look(repository, tag);
            tokio::time::timeout(RESOLVE_DEADLINE, look)
                .await
                .unwrap_or(Err(ResolveError::Unreachable {
                    source: TransportError::TimedOut,
                }))
        })
    }
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

fn classify(error: OciDistributionError, repository: &Repository, tag: &Tag) -> ResolveError {
    let denied = || ResolveError::Denied {
        repository: repository.clone(),
    };
    let missing = || ResolveError::NoSuchTag {
        repository: repository.clone(),
        tag: tag.clone(),
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
