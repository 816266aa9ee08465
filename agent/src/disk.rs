//! Whether the host's disks have room for another task.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::config::DiskReserve;
use crate::host;

/// A disk that refused tasks takes them again when a quarter more is free than it refuses below.
const EASE: u64 = 4;

/// How a disk is measured: bytes free and in all.
pub(crate) type Measure = Box<dyn Fn(&Path) -> Option<(u64, u64)> + Send + Sync>;

/// The disks that fill up when tasks run: the agent's own and the engine's.
pub(crate) struct Disks {
    reserve: DiskReserve,
    measure: Measure,
    places: Mutex<Vec<Place>>,
}

struct Place {
    path: PathBuf,
    full: bool,
}

/// A disk without room for another task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the disk of {} has {free} bytes free; it takes tasks from {least} on", path.display())]
pub(crate) struct DiskFull {
    pub path: PathBuf,
    pub free: u64,
    /// From so many free bytes on it takes tasks.
    pub least: u64,
}

impl Disks {
    /// `engine` is the engine's directory, if that is on this host.
    pub(crate) fn new(reserve: DiskReserve, data_dir: &Path, engine: Option<&Path>) -> Self {
        let measure = Box::new(|path: &Path| host::disk(path));
        Self::measured(reserve, [Some(data_dir), engine], measure)
    }

    pub(crate) fn measured<const N: usize>(
        reserve: DiskReserve,
        places: [Option<&Path>; N],
        measure: Measure,
    ) -> Self {
        let place = |path: &Path| Place {
            path: path.to_owned(),
            full: false,
        };
        Self {
            reserve,
            measure,
            places: Mutex::new(places.into_iter().flatten().map(place).collect()),
        }
    }

    /// Measures anew. A disk that can't be measured stops nothing.
    ///
    /// # Errors
    /// The first disk that is full.
    pub(crate) fn check(&self) -> Result<(), DiskFull> {
        let mut found = Ok(());
        for place in self.lock().iter_mut() {
            let Some((free, all)) = (self.measure)(&place.path) else {
                continue;
            };
            let least = least(self.reserve, all, place.full);
            let full = free < least;
            if full && !place.full {
                tracing::warn!(path = %place.path.display(), free, least, "disk full, offers are refused");
            } else if place.full && !full {
                tracing::info!(path = %place.path.display(), free, "disk has room again");
            }
            place.full = full;
            if full && found.is_ok() {
                found = Err(DiskFull {
                    path: place.path.clone(),
                    free,
                    least,
                });
            }
        }
        found
    }

    /// Bytes free on the disk with the least; 0 if none can be measured.
    pub(crate) fn free(&self) -> u64 {
        let places = self.lock();
        let free = places
            .iter()
            .filter_map(|place| (self.measure)(&place.path));
        free.map(|(free, _)| free).min().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().expect("no holder of the lock panics")
    }
}

/// How many bytes must be free on a disk of `all` bytes.
pub(crate) fn least(reserve: DiskReserve, all: u64, full: bool) -> u64 {
    let DiskReserve { bytes, percent } = reserve;
    let least = bytes.max(all / 100 * u64::from(percent));
    if full {
        least.saturating_add(least / EASE)
    } else {
        least
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const RESERVE: DiskReserve = DiskReserve {
        bytes: 2 << 30,
        percent: 10,
    };

    fn disks(all: u64) -> (Disks, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(all));
        let read = Arc::clone(&free);
        let measure = move |path: &Path| match path.to_str() {
            Some("/small") => Some((read.load(Ordering::Relaxed), all)),
            Some("/large") => Some((100 << 40, 100 << 40)),
            Some(_) | None => None,
        };
        let places = ["/large", "/absent", "/small"].map(|path| Some(Path::new(path)));
        (Disks::measured(RESERVE, places, Box::new(measure)), free)
    }

    #[test]
    fn a_full_disk_refuses_and_takes_tasks_again_only_with_some_room_to_spare() {
        const GIB: u64 = 1 << 30;
        let (disks, free) = disks(10 * GIB);
        let with = |bytes: u64| {
            free.store(bytes, Ordering::Relaxed);
            disks.check()
        };
        assert_eq!(with(2 * GIB), Ok(()));
        let full = with(2 * GIB - 1).unwrap_err();
        assert_eq!(full.path, Path::new("/small"));
        assert_eq!((full.free, full.least), (2 * GIB - 1, 2 * GIB));
        assert_eq!(disks.free(), 2 * GIB - 1);
        // It does not go back and forth around the mark.
        assert!(with(2 * GIB).is_err());
        assert_eq!(with(5 * GIB / 2), Ok(()));
        assert_eq!(with(2 * GIB), Ok(()));
    }

    #[test]
    fn the_larger_of_bytes_and_percent_stays_free() {
        assert_eq!(least(RESERVE, 10 << 30, false), 2 << 30);
        assert_eq!(least(RESERVE, 1_000 << 30, false), (1_000 << 30) / 100 * 10);
        let none = DiskReserve {
            bytes: 0,
            percent: 0,
        };
        assert_eq!(least(none, u64::MAX, true), 0);
    }
}
