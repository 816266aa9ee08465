//! What this host's docker configuration and its helpers have for a registry.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use crate::runtime::Credentials;

/// A helper may ask a cloud.
const HELPER: Duration = Duration::from_secs(30);
/// How helpers say that they have nothing.
const NONE: &str = "credentials not found";

/// There may be some, and they can't be read. Says no more: the error's text may hold what a helper printed.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// Asked for each pull, because the clouds' tokens live for hours only. `None`: there are none, and most registries need
/// none; or they can't be had, and the log says so.
pub(super) async fn of(registry: String) -> Option<Credentials> {
    let file = file()?;
    let asked = tokio::task::spawn_blocking(move || read(&file, &registry));
    match tokio::time::timeout(HELPER, asked).await {
        Ok(Ok(Ok(found))) => found,
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

/// Where docker has it.
fn file() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let directory = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    Some(directory.or_else(home)?.join("config.json"))
}

fn read(file: &Path, registry: &str) -> Result<Option<Credentials>, Unreadable> {
    // The default registry is listed under the address of its first version.
    let server = match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(Unreadable),
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credentials::Password { user, password }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credentials::Token(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains(NONE) || stderr.contains(NONE) =>
        {
            Ok(None)
        }
        Err(_) => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_configuration_has_no_credentials_and_nothing_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        let read = || read(&file, "registry.example").map(|found| found.is_some());
        assert_eq!(read(), Ok(false));
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(read(), Ok(false));
        std::fs::write(
            &file,
            r#"{"auths": {"registry.example": {"auth": "Ym9iOnB3"}}}"#,
        )
        .unwrap();
        assert_eq!(read(), Ok(true));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(read(), Err(Unreadable));
    }
}
