//! Passwords for registries, from docker's configuration file and its credential helpers.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use muster_core::ids::CredentialsName;
use oci_client::secrets::RegistryAuth;
use tokio::sync::Semaphore;

/// For the file and the helper program together.
const DEADLINE: Duration = Duration::from_secs(10);
/// A helper can hang for ever, and a blocked thread cannot be ended: this many may.
const PARALLEL: usize = 4;
/// The helpers' protocol has no other sign for "I have none for that registry".
const NONE: &str = "credentials not found";
/// What helpers and old files know Docker Hub as.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// A token that a registry gave instead of a password goes with this name; Azure's registry documents it.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// Why docker's configuration gave no answer. What a helper printed is left out: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("{} could not be read", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a docker configuration", path.display())]
    Malformed { path: PathBuf },
    #[error("the credential helper failed")]
    Helper,
    #[error("the credential helper gave no answer within {} s", DEADLINE.as_secs())]
    TimedOut,
    #[error(
        "credentials {name} are named, and the coordinator has no --credentials-dir to look in"
    )]
    NoDirectory { name: CredentialsName },
    #[error("credentials {name} are not there: {} does not exist", path.display())]
    Unknown {
        name: CredentialsName,
        path: PathBuf,
    },
}

impl CredentialError {
    /// Whether looking again later can help without anybody changing anything.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::NoDirectory { .. } | Self::Unknown { .. } => false,
            Self::Unreadable { .. } | Self::Malformed { .. } | Self::Helper | Self::TimedOut => {
                true
            }
        }
    }
}

/// Reads the file anew for each question: helpers hand out passwords that live for an hour.
#[derive(Debug)]
pub(crate) struct Credentials {
    file: Option<PathBuf>,
    /// Where what has a name is.
    named: Option<PathBuf>,
    threads: Arc<Semaphore>,
}

impl Credentials {
    pub(crate) fn new(directory: Option<PathBuf>, named: Option<PathBuf>) -> Self {
        let directory = directory
            .or_else(|| std::env::var_os("DOCKER_CONFIG").map(PathBuf::from))
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")));
        Self {
            file: directory.map(|directory| directory.join("config.json")),
            named,
            threads: Arc::new(Semaphore::new(PARALLEL)),
        }
    }

    /// What to show to `registry`: nothing if none is configured for it. A file that is named has to be there.
    pub(crate) async fn of(
        &self,
        registry: &str,
        name: Option<&CredentialsName>,
    ) -> Result<RegistryAuth, CredentialError> {
        let Some(file) = self.file_of(name)? else {
            return Ok(RegistryAuth::Anonymous);
        };
        let name = name.cloned();
        let server = match registry {
            "docker.io" => DOCKER_HUB.to_owned(),
            other => other.to_owned(),
        };
        let threads = Arc::clone(&self.threads);
        let answer = async move {
            let Ok(permit) = threads.acquire_owned().await else {
                return Err(CredentialError::TimedOut);
            };
            let read = tokio::task::spawn_blocking(move || {
                let _held_until_the_helper_ends = permit;
                read(&file, &server, name)
            });
            read.await.unwrap_or(Err(CredentialError::Helper))
        };
        tokio::time::timeout(DEADLINE, answer)
            .await
            .unwrap_or(Err(CredentialError::TimedOut))
    }

    fn file_of(&self, name: Option<&CredentialsName>) -> Result<Option<PathBuf>, CredentialError> {
        let Some(name) = name else {
            return Ok(self.file.clone());
        };
        let missing = || CredentialError::NoDirectory { name: name.clone() };
        let directory = self.named.as_ref().ok_or_else(missing)?;
        // A name has no slash and does not begin with a dot: it can't lead out of the directory.
        Ok(Some(directory.join(format!("{name}.json"))))
    }
}

fn read(
    path: &Path,
    server: &str,
    name: Option<CredentialsName>,
) -> Result<RegistryAuth, CredentialError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = path.to_owned();
            return match name {
                None => Ok(RegistryAuth::Anonymous),
                Some(name) => Err(CredentialError::Unknown { name, path }),
            };
        }
        Err(source) => {
            let path = path.to_owned();
            return Err(CredentialError::Unreadable { path, source });
        }
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(RegistryAuth::Basic(TOKEN_USER.to_owned(), token))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains(NONE) || stderr.contains(NONE) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(
            CredentialRetrievalError::HelperFailure { .. }
            | CredentialRetrievalError::HelperCommunicationError
            | CredentialRetrievalError::MalformedHelperResponse,
        ) => Err(CredentialError::Helper),
        Err(
            CredentialRetrievalError::CredentialDecodingError
            | CredentialRetrievalError::CredentialMismatchError
            | CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError,
        ) => Err(CredentialError::Malformed {
            path: path.to_owned(),
        }),
    }
}
