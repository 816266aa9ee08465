//! The largest term this agent has seen, kept over restarts: what a stale coordinator says is not done.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::plan::obeys;

const FILE: &str = "term";
/// Apart from the term, whose file older versions read too.
const CLUSTER_FILE: &str = "cluster";

/// The coordinator is older than one that this agent has obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the coordinator's term is {term}, and this agent has seen {largest}: was its store restored from a \
     backup?"
)]
pub(crate) struct StaleTerm {
    term: u64,
    largest: u64,
}

#[derive(Debug)]
pub(crate) struct SeenTerm {
    path: PathBuf,
    largest: u64,
    /// Whose term that is; empty: unknown.
    cluster: String,
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
        let cluster = match fs::read_to_string(data_dir.join(CLUSTER_FILE)) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            largest,
            cluster,
        })
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(crate) const fn largest(&self) -> u64 {
        self.largest
    }

    /// Whether the term is new; an error if it is stale.
    pub(crate) const fn check(&self, term: u64) -> Result<bool, StaleTerm> {
        if !obeys(self.largest, term) {
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
    pub(crate) async fn store(&mut self, term: u64, cluster: &str) -> io::Result<()> {
        let (path, id) = (self.path.clone(), cluster.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            // The cluster first: a term is never taken for another cluster's.
            write(&path.with_file_name(CLUSTER_FILE), &id)?;
            write(&path, &term.to_string())
        });
        written.await.map_err(io::Error::other)??;
        self.largest = term;
        cluster.clone_into(&mut self.cluster);
        Ok(())
    }
}

/// A whole line or the file as it was, whatever happens.
fn write(path: &Path, line: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
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
        seen.store(41, "c").await.unwrap();

        let seen = SeenTerm::load(dir.path()).unwrap();
        assert_eq!((seen.check(41), seen.cluster()), (Ok(false), "c"));
        let refused = seen.check(37).unwrap_err();
        assert!(refused.to_string().contains("term is 37"));

        fs::write(dir.path().join(FILE), "many").unwrap();
        assert!(SeenTerm::load(dir.path()).is_err());
    }
}
