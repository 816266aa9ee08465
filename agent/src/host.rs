//! What the agent reads of its host.

use std::fs::File;
use std::io;
use std::path::Path;

use muster_core::time::Timestamp;
use rustix::fs::{FileType, Mode, OFlags, StatVfs};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::runtime::DaemonStart;

/// What doesn't change while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// Lower case, without a domain.
    pub name: String,
    pub cpus: u32,
    pub memory_bytes: u64,
}

impl HostFacts {
    pub(crate) fn measure() -> Self {
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy().to_ascii_lowercase();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            name: name.split('.').next().unwrap_or(&name).to_owned(),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes: memory().0,
        }
    }
}

/// Bytes of memory in all, and available.
fn memory() -> (u64, u64) {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    match System::new_with_specifics(kind) {
        Ok(system) => (system.total_memory(), system.available_memory()),
        Err(_) => (0, 0),
    }
}

/// Bytes of memory that could be used now.
pub(crate) fn memory_available() -> u64 {
    memory().1
}

/// Runnable tasks, averaged over a minute.
pub(crate) fn load1() -> f64 {
    System::load_average().map_or(0.0, |load| load.one)
}

/// Opens a file in a directory where a task may have put anything: a link, a pipe, a device.
///
/// # Errors
/// If it can't be opened or is no plain file.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
        Ok(File::from(file))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a plain file",
        ))
    }
}

/// Bytes free and in all on the disk that holds `path`, as `df` counts them: what a file system keeps for root is
/// neither. `None` if that can't be told.
pub(crate) fn disk(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::statvfs(path).ok().map(|status| room(&status))
}

fn room(status: &StatVfs) -> (u64, u64) {
    let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    let used = status.f_blocks.saturating_sub(status.f_bfree);
    let all = used.saturating_add(status.f_bavail);
    (bytes(status.f_bavail), bytes(all))
}

/// Changes with every start of the host.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Milliseconds of the clock that also runs while the host sleeps.
pub(crate) fn boot_clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    seconds * 1000 + millis
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let millis = jiff::Timestamp::now().as_millisecond();
    Timestamp(u64::try_from(millis).unwrap_or(0))
}

/// When the process `pid` started, if it is called `name`.
pub(crate) fn process_started(pid: i32, name: &str) -> Option<DaemonStart> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold some.
    let (before, after) = stat.rsplit_once(')')?;
    if before.split_once('(')?.1 != name {
        return None;
    }
    // Field 22 of the file, the 20th after the name: clock ticks since the host's start.
    let ticks: u64 = after.split_ascii_whitespace().nth(19)?.parse().ok()?;
    // The kernel's own time of the boot has whole seconds only.
    let age = boot_clock().saturating_sub(ticks * 1000 / TICKS_PER_SECOND);
    let at = Timestamp(now().0.saturating_sub(age));
    Some(DaemonStart { at, ticks })
}

/// `USER_HZ`, which is 100 on every Linux that containers run on.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use muster_core::time::Millis;
    use rustix::fs::StatVfsMountFlags;

    use super::*;

    #[test]
    fn a_disk_is_as_full_as_df_says() {
        // 50 of its blocks are free and kept for root: df says 80 %.
        let status = StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: 1000,
            f_bfree: 240,
            f_bavail: 190,
            f_files: 0,
            f_ffree: 0,
            f_favail: 0,
            f_fsid: 0,
            f_flag: StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        let (free, all) = room(&status);
        assert_eq!((all - free) * 100 / all, 80);
        assert_eq!(free, 190 * 4096);
    }

    #[test]
    fn a_process_has_one_start_however_often_one_looks() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let look = || process_started(pid, name.trim()).unwrap();
        let (first, second) = (look(), look());
        assert_eq!(first.ticks, second.ticks);
        assert_eq!(process_started(pid, "dockerd"), None);
        // To a tick and the time between two clocks, it is before now and after the boot.
        let slack = Millis(50);
        let boot = Timestamp(now().0 - boot_clock());
        assert!(first.at <= now() + slack && first.at + slack >= boot + Millis(first.ticks * 10));
    }
}
