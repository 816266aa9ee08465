//! The largest term this agent has seen, kept over restarts: what a stale coordinator says is not done.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "term";

/// The coordinator is older than one that this agent has obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the coordinator's term is {term}, and this agent has seen {largest}: is its store an old copy?"
)]
pub(crate) struct StaleTerm {
    term: u64,
    largest: u64,
}

#[derive(Debug)]
pub(crate) struct SeenTerm {
    path: PathBuf,
    largest: u64,
}

impl SeenTerm {
    /// Reads what an earlier life stored.
    ///
    /// # Errors
    /// If the file can't be read or holds no number: guessing zero would obey anybody.
    pub(crate) fn load(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let largest = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, largest })
    }

    pub(crate) const fn largest(&self) -> u64 {
        self.largest
    }

    /// Whether the term is new; an error if it is stale.
    pub(crate) const fn check(&self, term: u64) -> Result<bool, StaleTerm> {
        if term < self.largest {
            return Err(StaleTerm {
                term,
                largest: self.largest,
            });
        }
        Ok(term > self.largest)
    }

    /// On disk when this returns.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(crate) async fn store(&mut self, term: u64) -> io::Result<()> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            writeln!(file, "{term}")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            match path.parent() {
                Some(dir) => File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        });
        written.await.map_err(io::Error::other)??;
        self.largest = term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_smaller_term_is_refused_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = SeenTerm::load(dir.path()).unwrap();
        assert_eq!(seen.check(0), Ok(false));
        assert_eq!(seen.check(41), Ok(true));
        seen.store(41).await.unwrap();

        let seen = SeenTerm::load(dir.path()).unwrap();
        assert_eq!(seen.check(41), Ok(false));
        let refused = seen.check(37).unwrap_err();
        assert!(refused.to_string().contains("term is 37"));

        fs::write(dir.path().join(FILE), "many").unwrap();
        assert!(SeenTerm::load(dir.path()).is_err());
    }
}
