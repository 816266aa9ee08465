//! Which images this agent pulled, and when each was last wanted: a small file in the data directory.
//!
//! What is not in the book is never removed. So a lost or unreadable book costs disk, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::host;

const FILE: &str = "images.json";
const NEW: &str = "images.json.new";
/// Of each repository, also before the coordinator has said what to keep: what runs now and what ran before.
const KEPT: usize = 2;
/// Channels that images are kept for; beyond that only the newest of each repository are.
const CHANNELS_MAX: usize = 10_000;

/// One image that this agent pulled. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Page {
    /// A task needed it, or it was pulled.
    pub used: u64,
    /// The coordinator ordered it ahead of its tasks, as it does for a channel's releases; 0: never.
    pub prefetched: u64,
}

#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By reference, `registry/repository@sha256:…`.
    pages: BTreeMap<String, Page>,
    unsaved: bool,
    /// By channel. Not saved: the coordinator says it again when the agent has found it.
    kept: BTreeMap<String, Vec<String>>,
}

impl Book {
    pub(super) fn open(data_dir: &Path) -> Self {
        let pages = read(&data_dir.join(FILE)).unwrap_or_else(|error| {
            tracing::warn!(%error, "list of pulled images can't be read; what was pulled before now is never removed");
            BTreeMap::new()
        });
        let inner = Inner {
            pages,
            unsaved: false,
            kept: BTreeMap::new(),
        };
        Self {
            path: data_dir.join(FILE),
            inner: Mutex::new(inner),
        }
    }

    /// This agent pulled it just now.
    pub(super) fn pulled(&self, reference: &str) {
        let mut inner = self.lock();
        inner.pages.entry(reference.to_owned()).or_default().used = host::now().0;
        inner.unsaved = true;
    }

    /// A task needs it. Nothing is noted of an image that this agent did not pull.
    pub(super) fn used(&self, reference: &str) {
        self.note(reference, |page| page.used = host::now().0);
    }

    pub(super) fn prefetched(&self, reference: &str) {
        self.note(reference, |page| page.prefetched = host::now().0);
    }

    /// Tasks of the channel may run these next.
    pub(super) fn keep(&self, channel: String, images: Vec<String>) {
        let mut inner = self.lock();
        if inner.kept.len() < CHANNELS_MAX || inner.kept.contains_key(&channel) {
            inner.kept.insert(channel, images);
        }
    }

    fn note(&self, reference: &str, change: impl FnOnce(&mut Page)) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(page) = inner.pages.get_mut(reference) {
            change(page);
            inner.unsaved = true;
        }
    }

    /// Strikes out what the engine doesn't hold any more: if it comes back, somebody else wanted it.
    pub(super) fn retain(&self, held: &BTreeSet<String>) {
        let mut inner = self.lock();
        let before = inner.pages.len();
        inner.pages.retain(|reference, _| held.contains(reference));
        inner.unsaved |= inner.pages.len() != before;
    }

    /// What may be removed, least recently used first: not what channels may run next, not the newest of each
    /// repository, and nothing
    /// that was wanted after `idle_since`.
    pub(super) fn spare(&self, idle_since: u64) -> Vec<String> {
        let inner = self.lock();
        let mut kept = kept(&inner.pages);
        kept.extend(inner.kept.values().flatten().map(String::as_str));
        let mut spare: Vec<_> = inner
            .pages
            .iter()
            .filter(|(reference, page)| {
                !kept.contains(reference.as_str()) && page.last() < idle_since
            })
            .map(|(reference, page)| (page.last(), reference.clone()))
            .collect();
        spare.sort();
        spare.into_iter().map(|(_, reference)| reference).collect()
    }

    /// Whether nobody wanted it after `idle_since`.
    pub(super) fn is_idle(&self, reference: &str, idle_since: u64) -> bool {
        let inner = self.lock();
        let page = inner.pages.get(reference);
        page.is_some_and(|page| page.last() < idle_since)
    }

    /// Writes the book down if it changed. Blocks.
    ///
    /// # Errors
    /// If the disk does not take it; what is on disk is then as it was.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.unsaved {
            return Ok(());
        }
        let text = serde_json::to_vec(&inner.pages)?;
        let new = self.path.with_file_name(NEW);
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.path)?;
        inner.unsaved = false;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the lock panics")
    }
}

impl Page {
    fn last(self) -> u64 {
        self.used.max(self.prefetched)
    }
}

/// Of each repository the last used and the last ordered ahead.
fn kept(pages: &BTreeMap<String, Page>) -> BTreeSet<&str> {
    let mut repositories: BTreeMap<&str, Vec<(&str, Page)>> = BTreeMap::new();
    for (reference, page) in pages {
        let repository = reference.split('@').next().unwrap_or(reference);
        let images = repositories.entry(repository).or_default();
        images.push((reference, *page));
    }
    let mut kept = BTreeSet::new();
    for mut images in repositories.into_values() {
        images.sort_by_key(|(_, page)| std::cmp::Reverse(page.used));
        kept.extend(images.iter().take(KEPT).map(|(reference, _)| *reference));
        images.retain(|(_, page)| page.prefetched > 0);
        images.sort_by_key(|(_, page)| std::cmp::Reverse(page.prefetched));
        kept.extend(images.iter().take(KEPT).map(|(reference, _)| *reference));
    }
    kept
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Page>> {
    match std::fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(used: u64, prefetched: u64) -> Page {
        Page { used, prefetched }
    }

    fn book(dir: &Path, pages: &[(&str, Page)]) -> Book {
        let book = Book::open(dir);
        let pages = pages.iter().map(|(name, page)| ((*name).to_owned(), *page));
        book.lock().pages = pages.collect();
        book.lock().unsaved = true;
        book
    }

    #[test]
    fn the_newest_and_the_ordered_of_each_repository_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pages = [
            ("r/a@1", page(10, 0)),
            ("r/a@2", page(20, 5)),
            ("r/a@3", page(30, 0)),
            ("r/a@4", page(40, 0)),
            ("r/a@5", page(15, 0)),
            ("r/b@1", page(1, 0)),
        ];
        let book = book(dir.path(), &pages);
        assert_eq!(book.spare(100), ["r/a@1", "r/a@5"]);
        assert_eq!(book.spare(12), ["r/a@1"]);
        assert!(book.is_idle("r/a@1", 12) && !book.is_idle("r/a@1", 10));
    }

    #[test]
    fn what_channels_may_run_next_is_kept_until_they_move_on() {
        let dir = tempfile::tempdir().unwrap();
        let pages = [1, 2, 3, 4, 5].map(|used| (format!("r/a@{used}"), page(used * 10, 0)));
        let pages = pages.each_ref().map(|(name, page)| (name.as_str(), *page));
        let book = book(dir.path(), &pages);
        book.keep("default/a".into(), vec!["r/a@1".into(), "r/a@2".into()]);
        assert_eq!(book.spare(100), ["r/a@3"]);
        book.keep("default/a".into(), vec!["r/a@5".into()]);
        assert_eq!(book.spare(100), ["r/a@1", "r/a@2", "r/a@3"]);
    }

    #[test]
    fn a_book_is_read_again_and_a_torn_one_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = book(dir.path(), &[("r/a@1", page(10, 2))]);
        first.used("r/a@9"); // not pulled by this agent
        first.save().unwrap();
        let again = Book::open(dir.path());
        assert_eq!(again.lock().pages["r/a@1"], page(10, 2));
        assert_eq!(again.lock().pages.len(), 1);
        again.retain(&BTreeSet::new());
        again.save().unwrap();
        assert!(Book::open(dir.path()).lock().pages.is_empty());
        std::fs::write(dir.path().join(FILE), "{\"r/a").unwrap();
        assert!(Book::open(dir.path()).lock().pages.is_empty());
    }
}
