//! One process at a time uses a data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::OpenError;

const FILE: &str = "lock";
/// What is read of a holder's note.
const NOTE_MAX: u64 = 200;

/// An advisory lock of the operating system, freed with the file; it cannot be left behind by a crash.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Makes the directory if need be; nobody but its owner may look into it, because jobs have
    /// environments.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory {
            path: directory.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(FILE))
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = read_note(&file).unwrap_or_default();
                return Err(OpenError::InUse {
                    path: directory.to_owned(),
                    holder,
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_note(&file).map_err(failed)?;
        Ok(Self(file))
    }
}

fn read_note(mut file: &File) -> io::Result<String> {
    let mut note = String::new();
    file.rewind()?;
    file.take(NOTE_MAX).read_to_string(&mut note)?;
    Ok(note.trim().to_owned())
}

fn write_note(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    writeln!(file, "process {}, since {since}", std::process::id())
}
