//! muster's own init process in containers: where the agent keeps the program, and what an attempt's
//! run of it left behind.
//!
//! The task has the same user as its init process and so may write where that one writes. Therefore a
//! record counts only with the attempt's key in it, which the task never sees. A task can spoil its own
//! record; the engine's word has to do then.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::host;
use crate::outcome::InitWord;
use crate::output::captured::Captured;

mod record;

/// Compiled by the build script from `init/`.
pub(crate) const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/muster-init"));
/// In the data directory.
const PROGRAMS: &str = "bin";
/// In an attempt's directory.
pub(crate) const RECORDS: &str = "records";
/// The one start that a container has.
const ARMED: &str = "armed";
/// What becomes of it when it is used.
const STARTED: &str = "started";
/// Room for the record, so that a full disk does not cost it.
const ROOM: &str = "record.new";
const ROOM_BYTES: usize = 1024;
const RECORD: &str = "record";
/// In the directory of records: what the task prints.
pub(crate) const OUTPUT: &str = "output";
/// In the directory of records: where a parked init process is told of its task.
pub(crate) const SOCKET: &str = "socket";
/// What becomes of the one start when the agent takes it back.
const WITHDRAWN: &str = "withdrawn";
/// Of a record, in bytes.
const RECORD_MAX: u64 = 4096;

/// Why containers get the engine's init process instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotInstalled {
    #[error("it can't be written to {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} can't be executed; is the disk mounted noexec?", path.display())]
    Execute { path: PathBuf, source: io::Error },
    #[error("{} does not work on this host", path.display())]
    Broken { path: PathBuf },
}

/// How long the program may be busy, and how often that is looked at.
const BUSY: Duration = Duration::from_secs(2);
const BUSY_LOOK: Duration = Duration::from_millis(10);

/// Puts the program on the disk and tries it. Its name tells its content, so that a container keeps the
/// one it was created with.
///
/// # Errors
/// See [`NotInstalled`].
pub(crate) fn install(data_dir: &Path) -> Result<PathBuf, NotInstalled> {
    let dir = data_dir.join(PROGRAMS);
    let path = dir.join(format!("muster-init-{}", hash()));
    let written = write_program(&dir, &path);
    written.map_err(|source| NotInstalled::Write {
        path: path.clone(),
        source,
    })?;
    match try_program(&path) {
        Ok(status) if status.success() => Ok(path),
        Ok(_) => Err(NotInstalled::Broken { path }),
        Err(source) => Err(NotInstalled::Execute { path, source }),
    }
}

/// A process that another thread forked while the file was written has it open for writing, until it has
/// become its own program. So long nobody can execute it.
fn try_program(path: &Path) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + BUSY;
    loop {
        let tried = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        match tried {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(BUSY_LOOK);
            }
            tried => return tried,
        }
    }
}

/// Tells the program from those of other versions.
pub(crate) fn hash() -> String {
    format!("{:08x}", crc32fast::hash(PROGRAM))
}

fn write_program(dir: &Path, path: &Path) -> io::Result<()> {
    if fs::read(path).is_ok_and(|bytes| bytes == PROGRAM) {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(PROGRAM)?;
    file.set_permissions(Permissions::from_mode(0o555))?;
    file.sync_all()?;
    drop(file);
    fs::rename(new, path)
}

/// Makes the attempt's directory of records, with one start in it. One that has been used stays used.
///
/// # Errors
/// If the disk does not take it.
pub(crate) fn prepare(attempt: &Path) -> io::Result<()> {
    let dir = attempt.join(RECORDS);
    fs::create_dir_all(&dir)?;
    if dir.join(STARTED).try_exists()? {
        return Ok(());
    }
    let open = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))
    };
    open(ROOM, &[b' '; ROOM_BYTES])?;
    open(ARMED, &[])?;
    let output = dir.join(OUTPUT);
    fs::create_dir_all(&output)?;
    // For whatever user the task has; the data directory above is closed to everybody else.
    fs::set_permissions(output, Permissions::from_mode(0o777))?;
    fs::set_permissions(dir, Permissions::from_mode(0o777))
}

/// Takes the one start back, for good. False: it has been used, or the disk does not let go of it. Of this and
/// the init process, whoever comes first has it.
pub(crate) fn withdraw(attempt: &Path) -> bool {
    let dir = attempt.join(RECORDS);
    let withdrawn = dir.join(WITHDRAWN);
    fs::rename(dir.join(ARMED), &withdrawn).is_ok() || withdrawn.exists()
}

/// Whether the one start was used: it is neither there nor withdrawn.
pub(crate) fn has_started(attempt: &Path) -> bool {
    let dir = attempt.join(RECORDS);
    !dir.join(ARMED).exists() && !dir.join(WITHDRAWN).exists()
}

/// Where an attempt's output is, if its container has this init process.
pub(crate) fn captured(attempt: &Path) -> Option<Captured> {
    let records = attempt.join(RECORDS);
    let dir = records.join(OUTPUT);
    dir.is_dir().then(|| Captured {
        dir,
        begun: records.join(STARTED),
        whole: records.join(RECORD),
    })
}

/// 74 random bits, which nobody but the agent, the engine and one init process gets to see.
pub(crate) fn new_key() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// What the init process of the attempt with this key has left.
pub(crate) fn read(attempt: &Path, key: &str) -> InitWord {
    let dir = attempt.join(RECORDS);
    let record = read_text(&dir.join(RECORD)).and_then(|text| record::parse(&text, key));
    match record {
        Some(record) => InitWord::Record(record),
        None => InitWord::Silent {
            ran: dir.join(STARTED).exists(),
        },
    }
}

fn read_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let mut limited = host::open_plain(path).ok()?.take(RECORD_MAX);
    limited.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
