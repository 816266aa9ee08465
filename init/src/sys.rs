//! The system calls that the standard library has no words for. All unsafe code of muster is here.
#![expect(
    unsafe_code,
    reason = "functions of the C library, each wrapped in a safe one"
)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCHLD: i32 = 17;

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: what a fault of this program's own raises.
const OWN_FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const SIG_SETMASK: i32 = 2;
const SFD_CLOEXEC: i32 = 0o2_000_000;
const SI_USER: i32 = 0;
const PR_SET_DUMPABLE: i32 = 4;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const CLOCK_BOOTTIME: i32 = 7;
const CLOCK_REALTIME: i32 = 0;
const WNOHANG: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EVERYBODY: i32 = -1;
const POLLIN: i16 = 1;

// The layouts are those of Linux on 64-bit machines, which are the same for all of them.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("muster-init is for 64-bit Linux");

#[repr(C)]
struct SigSet([u64; 16]);

#[repr(C)]
struct SigInfo {
    number: i32,
    error: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    rest: [u64; 13],
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanos: i64,
}

#[repr(C)]
struct TimeVal {
    seconds: i64,
    micros: i64,
}

#[repr(C)]
struct RUsage {
    user: TimeVal,
    system: TimeVal,
    max_rss_kib: i64,
    rest: [i64; 13],
}

#[repr(C)]
struct PollFd {
    fd: i32,
    wanted: i16,
    found: i16,
}

unsafe extern "C" {
    fn sigfillset(set: *mut SigSet) -> i32;
    fn sigdelset(set: *mut SigSet, signal: i32) -> i32;
    fn sigprocmask(how: i32, set: *const SigSet, old: *mut SigSet) -> i32;
    fn sigwaitinfo(set: *const SigSet, info: *mut SigInfo) -> i32;
    fn sigtimedwait(set: *const SigSet, info: *mut SigInfo, timeout: *const TimeSpec) -> i32;
    fn signalfd(fd: i32, set: *const SigSet, flags: i32) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut RUsage) -> i32;
    fn prctl(option: i32, ...) -> i32;
    #[link_name = "poll"]
    fn poll_files(files: *mut PollFd, count: u64, timeout_ms: i32) -> i32;
    fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
}

/// The signals that are taken one by one instead of interrupting.
pub(crate) struct Signals(SigSet);

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) number: i32,
    /// A process that this container does not see sent it: the engine, or somebody at the host.
    pub(crate) from_outside: bool,
}

impl Signals {
    /// Blocks everything but faults, from now on and for this process only.
    pub(crate) fn block() -> io::Result<Self> {
        // SAFETY: all zeros is a value of the type, and the C library fills it in.
        let mut set: SigSet = unsafe { zeroed() };
        // SAFETY: the pointer is to a live set.
        check(unsafe { sigfillset(&raw mut set) })?;
        for signal in OWN_FAULTS {
            // SAFETY: as above.
            check(unsafe { sigdelset(&raw mut set, signal) })?;
        }
        // SAFETY: the old mask is not asked for, which a null pointer says.
        check(unsafe { sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()) })?;
        Ok(Self(set))
    }

    /// A file that can be polled: it has something to read while a signal waits for [`Self::next`].
    pub(crate) fn waiting(&self) -> io::Result<OwnedFd> {
        // SAFETY: the pointer is to a live set; -1 asks for a new file.
        let fd = check(unsafe { signalfd(-1, &raw const self.0, SFD_CLOEXEC) })?;
        // SAFETY: the kernel has just opened it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Waits for the next one; `None` when `timeout` is over first.
    pub(crate) fn next(&self, timeout: Option<Duration>) -> io::Result<Option<Arrived>> {
        // SAFETY: all zeros is a value of the type, and the kernel fills it in.
        let mut info: SigInfo = unsafe { zeroed() };
        let got = match timeout {
            // SAFETY: both pointers are to live values of the types that the C library expects.
            None => unsafe { sigwaitinfo(&raw const self.0, &raw mut info) },
            Some(timeout) => {
                let timeout = TimeSpec {
                    seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                    nanos: timeout.subsec_nanos().into(),
                };
                // SAFETY: as above.
                unsafe { sigtimedwait(&raw const self.0, &raw mut info, &raw const timeout) }
            }
        };
        match check(got) {
            Ok(number) => Ok(Some(Arrived {
                number,
                // Only the kernel writes this code for another process's signal, and the sender's
                // number is 0 if this PID namespace has no number for it.
                from_outside: info.code == SI_USER && info.pid == 0,
            })),
            Err(error) if matches!(error.raw_os_error(), Some(EAGAIN | EINTR)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Has the command's process begin with no signal blocked. The standard library sees to that or not,
/// depending on how it was linked.
pub(crate) fn unblock_in(command: &mut Command) -> &mut Command {
    let unblock = || {
        // SAFETY: all zeros is a value of the type, and the empty set.
        let none: SigSet = unsafe { zeroed() };
        // SAFETY: the old mask is not asked for, which a null pointer says.
        check(unsafe { sigprocmask(SIG_SETMASK, &raw const none, std::ptr::null_mut()) })?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, and neither allocates nor locks.
    unsafe { command.pre_exec(unblock) }
}

/// A child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) pid: i32,
    pub(crate) how: How,
    pub(crate) usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Exited(i32),
    Signaled(i32),
}

/// What a process and the children it waited for have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user_micros: i64,
    pub(crate) system_micros: i64,
    pub(crate) max_rss_kib: i64,
}

/// Takes in one dead child, if there is one.
pub(crate) fn reap() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: all zeros is a value of the type, and the kernel fills it in.
    let mut usage: RUsage = unsafe { zeroed() };
    // SAFETY: both pointers are to live values of the types that the C library expects.
    let pid = unsafe { wait4(EVERYBODY, &raw mut status, WNOHANG, &raw mut usage) };
    let signal = status & 0x7f;
    (pid > 0).then_some(Ended {
        pid,
        how: match signal {
            0 => How::Exited((status >> 8) & 0xff),
            _ => How::Signaled(signal),
        },
        usage: Usage {
            user_micros: usage.user.seconds * 1_000_000 + usage.user.micros,
            system_micros: usage.system.seconds * 1_000_000 + usage.system.micros,
            max_rss_kib: usage.max_rss_kib,
        },
    })
}

/// Sends a signal to a child. One that is gone has no use for it.
pub(crate) fn signal(pid: i32, number: i32) {
    if pid > 0 {
        // SAFETY: takes no pointers; a number above zero means that process alone.
        unsafe { kill(pid, number) };
    }
}

/// Kills all other processes of the container. Does nothing where this is not process 1, because
/// everybody would then be the host's.
pub(crate) fn kill_the_rest() {
    if is_first() {
        // SAFETY: takes no pointers. Process 1 of a PID namespace reaches only the namespace.
        unsafe { kill(EVERYBODY, SIGKILL) };
    }
}

/// Whether this is process 1 of its PID namespace.
pub(crate) fn is_first() -> bool {
    std::process::id() == 1
}

/// Nobody of this process's own user may look into it from now on; orphans become its children.
pub(crate) fn close_up() -> io::Result<()> {
    // SAFETY: these options take a number.
    check(unsafe { prctl(PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) })?;
    // SAFETY: as above.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) })?;
    Ok(())
}

/// Which of the two have something to read or are at their end; neither when `timeout` is over first.
pub(crate) fn poll(
    files: [Option<BorrowedFd<'_>>; 2],
    timeout: Option<Duration>,
) -> io::Result<[bool; 2]> {
    // The kernel passes over negative numbers.
    let mut polled = files.map(|file| PollFd {
        fd: file.map_or(-1, |file| file.as_raw_fd()),
        wanted: POLLIN,
        found: 0,
    });
    let millis = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: the pointer is to a live array of two.
    match check(unsafe { poll_files(polled.as_mut_ptr(), 2, millis) }) {
        Ok(_) => Ok(polled.map(|file| file.found != 0)),
        Err(error) if error.raw_os_error() == Some(EINTR) => Ok([false; 2]),
        Err(error) => Err(error),
    }
}

/// Milliseconds of the clock that also runs while the host sleeps, which all containers share.
pub(crate) fn boot_clock() -> i64 {
    millis(CLOCK_BOOTTIME)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_clock() -> i64 {
    millis(CLOCK_REALTIME)
}

/// Microseconds since the Unix epoch.
pub(crate) fn wall_micros() -> u64 {
    let time = read_clock(CLOCK_REALTIME);
    u64::try_from(time.seconds * 1_000_000 + time.nanos / 1000).unwrap_or(0)
}

fn millis(clock: i32) -> i64 {
    let time = read_clock(clock);
    time.seconds * 1000 + time.nanos / 1_000_000
}

fn read_clock(clock: i32) -> TimeSpec {
    let mut time = TimeSpec {
        seconds: 0,
        nanos: 0,
    };
    // SAFETY: the pointer is to a live value of the type that the C library expects.
    unsafe { clock_gettime(clock, &raw mut time) };
    time
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
