//! The command line: `muster-init --records DIR [--output DIR] [--lease FILE --lease-ms N
//! --grace-ms N --start-by-ms N] -- PROGRAM ARGUMENT…`,
//! or `muster-init --records DIR [--output DIR] [--lease FILE] --parked SOCKET`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the agent asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) records: PathBuf,
    /// Where the task's output goes. `None`: where this program's own goes.
    pub(crate) output: Option<PathBuf>,
    pub(crate) given: Given,
}

/// When it is known what to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Now(Task),
    /// Somebody says so over this socket, or never does.
    Later {
        socket: PathBuf,
        /// The file of the lease, should the task have one.
        lease: Option<PathBuf>,
    },
}

/// What to run, and on which terms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// Over this program's own.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What signs the record. Empty: it comes in this program's environment.
    pub(crate) key: String,
    pub(crate) lease: Option<Lease>,
}

/// The task runs only while the agent renews this.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) file: PathBuf,
    /// The oldest that the last renewal may be.
    pub(crate) limit: Duration,
    /// Between TERM and KILL.
    pub(crate) grace: Duration,
    /// When the task may start at the latest, by the clock that also runs while the host sleeps. A lease that
    /// is renewed after it was over must not let a start through that was asked for before.
    pub(crate) start_by: Duration,
}

impl Settings {
    /// Reads the arguments after the program's own name. The error is for people.
    pub(crate) fn read(mut given: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut records, mut output, mut file) = (None, None, None);
        let (mut limit, mut grace, mut start_by) = (None, None, None);
        let (mut socket, mut task) = (None, None);
        while let Some(word) = given.next() {
            if word == "--" {
                let program = given.next().ok_or("there is no program after --")?;
                task = Some((program, given.by_ref().collect()));
                break;
            }
            let value = given
                .next()
                .ok_or_else(|| format!("{} has no value", word.display()))?;
            match word.to_str() {
                Some("--records") => records = Some(PathBuf::from(value)),
                Some("--output") => output = Some(PathBuf::from(value)),
                Some("--lease") => file = Some(PathBuf::from(value)),
                Some("--lease-ms") => limit = Some(millis(&word, &value)?),
                Some("--grace-ms") => grace = Some(millis(&word, &value)?),
                Some("--start-by-ms") => start_by = Some(millis(&word, &value)?),
                Some("--parked") => socket = Some(PathBuf::from(value)),
                Some(_) | None => return Err(format!("{} is no option", word.display())),
            }
        }
        let given = match (task, socket) {
            (Some((program, arguments)), None) => Given::Now(Task {
                program,
                arguments,
                environment: Vec::new(),
                key: String::new(),
                lease: lease(file, limit, grace, start_by)?,
            }),
            (None, Some(socket)) => {
                if [limit, grace, start_by].iter().any(Option::is_some) {
                    return Err("the terms of a lease do not go with --parked".to_owned());
                }
                let lease = file;
                Given::Later { socket, lease }
            }
            (Some(_), Some(_)) => return Err("a program does not go with --parked".to_owned()),
            (None, None) => return Err("-- and a program are missing".to_owned()),
        };
        Ok(Self {
            records: records.ok_or("--records is missing")?,
            output,
            given,
        })
    }
}

fn lease(
    file: Option<PathBuf>,
    limit: Option<Duration>,
    grace: Option<Duration>,
    start_by: Option<Duration>,
) -> Result<Option<Lease>, String> {
    match (file, limit, grace, start_by) {
        (None, None, None, None) => Ok(None),
        (Some(file), Some(limit), Some(grace), Some(start_by)) => Ok(Some(Lease {
            file,
            limit,
            grace,
            start_by,
        })),
        _ => Err("--lease, --lease-ms, --grace-ms and --start-by-ms go together".to_owned()),
    }
}

fn millis(word: &OsString, value: &OsString) -> Result<Duration, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.map(Duration::from_millis).ok_or_else(|| {
        let (word, value) = (word.display(), value.display());
        format!("{word} {value} is not a number of milliseconds")
    })
}

#[cfg(test)]
mod tests;
