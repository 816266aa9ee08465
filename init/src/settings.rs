//! The command line: `muster-init --records DIR [--output DIR] [--lease FILE --lease-ms N --grace-ms N] -- PROGRAM ARGUMENT…`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the agent asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) records: PathBuf,
    /// Where the task's output goes. `None`: where this program's own goes.
    pub(crate) output: Option<PathBuf>,
    pub(crate) lease: Option<Lease>,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
}

/// The task runs only while the agent renews this.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) file: PathBuf,
    /// The oldest that the last renewal may be.
    pub(crate) limit: Duration,
    /// Between TERM and KILL.
    pub(crate) grace: Duration,
}

impl Settings {
    /// Reads the arguments after the program's own name. The error is for people.
    pub(crate) fn read(mut given: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut records, mut output, mut file) = (None, None, None);
        let (mut limit, mut grace) = (None, None);
        loop {
            let word = given.next().ok_or("-- and a program are missing")?;
            if word == "--" {
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
                Some(_) | None => return Err(format!("{} is no option", word.display())),
            }
        }
        let lease = match (file, limit, grace) {
            (None, None, None) => None,
            (Some(file), Some(limit), Some(grace)) => Some(Lease { file, limit, grace }),
            _ => return Err("--lease, --lease-ms and --grace-ms go together".to_owned()),
        };
        Ok(Self {
            records: records.ok_or("--records is missing")?,
            output,
            lease,
            program: given.next().ok_or("there is no program after --")?,
            arguments: given.collect(),
        })
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
