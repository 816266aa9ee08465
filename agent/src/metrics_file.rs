//! What a task measured of itself: the file it may leave at `MUSTER_METRICS_FILE`.
//!
//! The task is not trusted: the file may be a link, a pipe, huge, or nonsense. None of that changes
//! how the attempt ends; the problem is reported as a text.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use muster_core::promtext::{self, Bounds, Kind};
use rustix::fs::{FileType, Mode, OFlags};

/// The file's name in the directory the task finds as `/run/muster`.
pub(crate) const FILE: &str = "metrics.prom";
const SIZE_MAX: u64 = 64 << 10;
/// Names that muster and the push gateway use themselves.
const RESERVED_PREFIX: &str = "muster_";
const RESERVED_LABELS: [&str; 4] = ["job", "instance", "team", "job_name"];

/// Why the file was not used, for people.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFile {
    #[error("the metrics file can't be read: {error}")]
    Read { error: String },
    #[error("the metrics file is not a regular file")]
    NotAFile,
    #[error("the metrics file has more than {SIZE_MAX} bytes")]
    TooLarge,
    #[error("the metrics file is not UTF-8")]
    NotText,
    #[error("the metrics file is not used: {bad}")]
    Text { bad: promtext::BadText },
    #[error(
        "the metrics file is not used: {name} is a summary; quantiles can't be added up, use a histogram"
    )]
    Summary { name: String },
    #[error(
        "the metrics file is not used: names that begin with muster_ are muster's own, as in {name}"
    )]
    ReservedName { name: String },
    #[error("the metrics file is not used: label {label} of {name} is one that muster sets")]
    ReservedLabel { name: String, label: String },
}

/// Reads and checks the file in `dir`. `None`: the task left none, or an empty one.
///
/// # Errors
/// See [`BadFile`].
pub(crate) fn read(dir: &Path) -> Result<Option<Vec<u8>>, BadFile> {
    let Some(bytes) = read_bytes(&dir.join(FILE))? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| BadFile::NotText)?;
    let families = promtext::parse(text, &Bounds::TASK).map_err(|bad| BadFile::Text { bad })?;
    for family in &families {
        check_family(family)?;
    }
    Ok((!families.is_empty()).then_some(bytes))
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, BadFile> {
    let failed = |error: &dyn std::fmt::Display| BadFile::Read {
        error: error.to_string(),
    };
    // Without following a link, and without waiting for the writer of a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(BadFile::NotAFile),
        Err(error) => return Err(failed(&error)),
    };
    let status = rustix::fs::fstat(&file).map_err(|error| failed(&error))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(BadFile::NotAFile);
    }
    let mut bytes = Vec::new();
    let mut limited = File::from(file).take(SIZE_MAX + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SIZE_MAX) {
        return Err(BadFile::TooLarge);
    }
    Ok((!bytes.is_empty()).then_some(bytes))
}

fn check_family(family: &promtext::Family) -> Result<(), BadFile> {
    let name = || family.name.clone();
    if family.kind == Kind::Summary {
        return Err(BadFile::Summary { name: name() });
    }
    if family.name.starts_with(RESERVED_PREFIX) {
        return Err(BadFile::ReservedName { name: name() });
    }
    let labels = family.samples.iter().flat_map(|sample| &sample.labels);
    match labels
        .map(|(label, _)| label)
        .find(|label| RESERVED_LABELS.contains(&label.as_str()))
    {
        Some(label) => Err(BadFile::ReservedLabel {
            name: name(),
            label: label.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
