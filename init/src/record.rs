//! What is left of a run: how it ended, in a file that is whole or not there.
//!
//! The agent puts two files into the directory before the container starts. `armed` becomes `started`
//! when the task does, so there is one start. `record.new` holds blanks, so that there is room for the
//! record on a disk that is full by then; it becomes `record`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::sys::{How, Usage};

const ARMED: &str = "armed";
const STARTED: &str = "started";
const NEW: &str = "record.new";
const RECORD: &str = "record";
/// If the file that the agent prepared is gone.
const SPARE: &str = "record.spare";

/// Readings of both clocks, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) boot: i64,
    pub(crate) wall: i64,
}

/// Everything that is known about a run.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// What only the agent and process 1 know; shows that no task wrote this.
    pub(crate) key: &'a str,
    pub(crate) started: Moment,
    pub(crate) ended: Moment,
    pub(crate) end: End,
    /// The first deadly signal that was sent from outside the container.
    pub(crate) signal: Option<(i32, Moment)>,
    /// The lease was not renewed in time.
    pub(crate) lease_ended: Option<Moment>,
    /// Processes of the container that the kernel killed for memory.
    pub(crate) oom_kills: Option<u64>,
}

#[derive(Debug)]
pub(crate) enum End {
    Ran(How, Usage),
    /// The program can't be executed.
    NoProgram {
        errno: i32,
    },
}

impl Record<'_> {
    /// One `name value…` a line. `end` says that the record is whole.
    fn text(&self) -> String {
        let Self {
            key,
            started,
            ended,
            end,
            signal,
            lease_ended,
            oom_kills,
        } = self;
        let mut text = format!("muster-init 1\nkey {key}\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a string takes everything");
            text.push('\n');
        };
        line(format_args!("started {} {}", started.boot, started.wall));
        line(format_args!("ended {} {}", ended.boot, ended.wall));
        match end {
            End::Ran(how, usage) => {
                match how {
                    How::Exited(code) => line(format_args!("exited {code}")),
                    How::Signaled(signal) => line(format_args!("signaled {signal}")),
                }
                let Usage {
                    user_micros,
                    system_micros,
                    max_rss_kib,
                } = usage;
                line(format_args!(
                    "usage {user_micros} {system_micros} {max_rss_kib}"
                ));
            }
            End::NoProgram { errno } => line(format_args!("no_program {errno}")),
        }
        if let Some((number, at)) = signal {
            line(format_args!("signal {number} {} {}", at.boot, at.wall));
        }
        if let Some(at) = lease_ended {
            line(format_args!("lease_ended {} {}", at.boot, at.wall));
        }
        if let Some(count) = oom_kills {
            line(format_args!("oom_kills {count}"));
        }
        line(format_args!("end"));
        text
    }
}

/// The directory of one attempt, which the agent made and reads.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    /// The room for the record. `None`: there is none, and it has to be found.
    room: Option<File>,
}

/// Why the task is not run.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It ran before.
    Again,
    /// Whether it ran can't be written down.
    Unusable(io::Error),
}

/// Whether the one start that the directory held is gone.
pub(crate) fn is_used(dir: &Path) -> bool {
    !dir.join(ARMED).exists()
}

impl Records {
    /// Takes the one start that the directory holds.
    pub(crate) fn take(dir: &Path) -> Result<Self, NotTaken> {
        match fs::rename(dir.join(ARMED), dir.join(STARTED)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotTaken::Again),
            Err(error) => return Err(NotTaken::Unusable(error)),
        }
        let room = OpenOptions::new().write(true).open(dir.join(NEW)).ok();
        Ok(Self {
            dir: dir.to_owned(),
            room,
        })
    }

    /// Puts the record on the disk; it is there under its name when this returns.
    pub(crate) fn keep(&self, record: &Record<'_>) -> io::Result<()> {
        let text = record.text();
        let prepared = self.room.as_ref().map(|room| {
            room.write_all_at(text.as_bytes(), 0)?;
            room.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
            room.sync_all()?;
            self.rename(NEW)
        });
        match prepared {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => {
                let spare = File::create(self.dir.join(SPARE))?;
                spare.write_all_at(text.as_bytes(), 0)?;
                spare.sync_all()?;
                self.rename(SPARE)
            }
        }
    }

    fn rename(&self, from: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(RECORD))?;
        File::open(&self.dir)?.sync_all()
    }
}
