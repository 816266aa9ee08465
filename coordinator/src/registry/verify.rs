//! Whether an image may be rolled out at all: its repository has to be allowed, and a program of the operator
//! has to take it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_core::image::{Digest, Repository, Tag};
use muster_core::rollout::Facts;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::{Access, Config, Registry, ResolveError};

/// For one run of the program.
const DEADLINE: Duration = Duration::from_secs(30);
/// Runs at the same time.
const PARALLEL: usize = 4;
/// How much of its output is kept, in bytes.
const OUTPUT_MAX: u64 = 512;

/// A registry that only answers about what may be rolled out.
pub(crate) struct Verified {
    inner: Arc<dyn Registry>,
    allowed: Vec<String>,
    command: Option<PathBuf>,
    runs: Semaphore,
}

impl Verified {
    pub(crate) fn new(inner: Arc<dyn Registry>, config: &Config) -> Self {
        Self {
            inner,
            allowed: config.allowed_repositories.clone(),
            command: config.verify_command.clone(),
            runs: Semaphore::new(PARALLEL),
        }
    }

    fn check(&self, repository: &Repository) -> Result<(), ResolveError> {
        let name = repository.to_string();
        let covers = |allowed: &String| {
            let rest = name.strip_prefix(allowed.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.allowed.is_empty() || self.allowed.iter().any(covers) {
            return Ok(());
        }
        Err(ResolveError::NotAllowed {
            repository: repository.clone(),
            allowed: self.allowed.clone(),
        })
    }

    /// Asks the program; an error is no verdict at all.
    async fn verify(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Verdict, ResolveError> {
        let Some(command) = &self.command else {
            return Ok(Verdict::Accepted(String::new()));
        };
        let unverified = |what: String| ResolveError::Unverified {
            repository: repository.clone(),
            digest,
            what,
        };
        let name = command.display();
        let run = async {
            let _permit = self.runs.acquire().await.expect("it is never closed");
            run(command, repository, digest).await
        };
        let ended = tokio::time::timeout(DEADLINE, run).await;
        let (status, said) = ended
            .map_err(|_| unverified(format!("{name} took longer than {} s", DEADLINE.as_secs())))?
            .map_err(|error| unverified(format!("{name} could not be run: {error}")))?;
        match status.code() {
            Some(0) => Ok(Verdict::Accepted(said)),
            Some(code) if said.is_empty() => Ok(Verdict::Refused(format!(
                "{name} refused it with exit code {code}"
            ))),
            Some(_) => Ok(Verdict::Refused(said)),
            None => Err(unverified(format!("{name} was ended by a signal"))),
        }
    }
}

/// What the program decided, in its own words.
enum Verdict {
    Accepted(String),
    Refused(String),
}

/// The program, and whatever it started: they are killed if nobody waits for it any more.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Only known as long as it has not been waited for: until then nobody else has its number.
        let number = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = number.and_then(rustix::process::Pid::from_raw) {
            // There is nothing to do about a failure: they are gone, or they are somebody else's by now.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Runs the program.
async fn run(
    command: &PathBuf,
    repository: &Repository,
    digest: Digest,
) -> std::io::Result<(std::process::ExitStatus, String)> {
    let reference = format!("{repository}@{digest}");
    let child = Command::new(command)
        .arg(&reference)
        .arg(digest.to_string())
        .env("MUSTER_IMAGE", &reference)
        .env("MUSTER_REPOSITORY", repository.to_string())
        .env("MUSTER_DIGEST", digest.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child);
    let (out, err) = (group.0.stdout.take(), group.0.stderr.take());
    let (out, err) = tokio::join!(head(out), head(err));
    let status = group.0.wait().await?;
    let said = if out.is_empty() { err } else { out };
    Ok((status, said))
}

/// The first words of a stream, in one line; the rest is read and dropped, so that nobody waits for room.
async fn head(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut bytes = Vec::new();
    // What could be read until then is good enough.
    let _ = (&mut stream).take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

impl Registry for Verified {
    fn resolve<'a>(
        &'a self,
        access: Access<'a>,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        Box::pin(async move {
            self.check(access.repository)?;
            self.inner.resolve(access, tag).await
        })
    }

    fn facts<'a>(
        &'a self,
        access: Access<'a>,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Facts, ResolveError>> {
        Box::pin(async move {
            self.check(access.repository)?;
            // Nothing of an image is read that nobody has taken.
            match self.verify(access.repository, digest).await? {
                Verdict::Refused(why) => Ok(Facts {
                    objection: Some(why),
                    ..Facts::default()
                }),
                Verdict::Accepted(said) => {
                    let facts = self.inner.facts(access, digest).await?;
                    Ok(Facts {
                        accepted: said,
                        ..facts
                    })
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
