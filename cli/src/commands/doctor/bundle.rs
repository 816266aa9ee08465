//! The tar of a bundle: what goes into it loses its secrets here, and it is written whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_core::redact::{REMOVED, is_secret_name, redact};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Failure;

/// The directory that everything in the tar is in.
const ROOT: &str = "muster-bundle";
/// Bytes of one file in it. Of a longer text the end is kept, where the newest is.
const FILE_MAX: usize = 4 << 20;
/// Bytes of all of them.
const ALL_MAX: usize = 32 << 20;

/// What goes into a bundle.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Gathered {
    /// Adds a text without its secrets.
    pub(super) fn add(&mut self, path: &str, text: &str) {
        let begin = text.len().saturating_sub(FILE_MAX);
        let begin = (begin..=text.len()).find(|at| text.is_char_boundary(*at));
        let end = &text[begin.unwrap_or(text.len())..];
        self.keep(path, redact(end));
    }

    /// Adds a thing as JSON, without its secrets. One that is too long is left out: half of it is no JSON.
    pub(super) fn add_json<T: Serialize>(&mut self, path: &str, thing: &T) {
        let value = serde_json::to_value(thing).expect("our own shapes are always valid JSON");
        let text = format!("{:#}\n", without_secrets(value));
        if text.len() > FILE_MAX {
            return self.miss(
                path,
                format_args!("it is longer than {} MiB", FILE_MAX >> 20),
            );
        }
        self.keep(path, text);
    }

    fn keep(&mut self, path: &str, text: String) {
        let kept: usize = self.files.iter().map(|(_, text)| text.len()).sum();
        if kept + text.len() > ALL_MAX {
            return self.miss(
                path,
                format_args!("the bundle would be longer than {} MiB", ALL_MAX >> 20),
            );
        }
        self.files.push((path.to_owned(), text));
    }

    /// Says that something could not be had, and why.
    pub(super) fn miss(&mut self, what: &str, why: impl std::fmt::Display) {
        self.missing.push(redact(&format!("{what}: {why}")));
    }

    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// Values of secret names, and secrets within other values, are removed.
fn without_secrets(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) => redact(&text).into(),
        Value::Array(all) => all.into_iter().map(without_secrets).collect(),
        Value::Object(fields) => {
            let clean = |(name, value): (String, Value)| {
                let is_secret = is_secret_name(&name) && !value.is_null() && !value.is_boolean();
                let value = if is_secret {
                    REMOVED.into()
                } else {
                    without_secrets(value)
                };
                (name, value)
            };
            Value::Object(fields.into_iter().map(clean).collect())
        }
    }
}

/// Refuses a target early, before anything is gathered.
pub(super) fn check_target(file: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(file) {
        Ok(_) => Err(exists(file)),
        Err(_) => Ok(()),
    }
}

/// Writes the bundle beside `file` and then gives it that name: it is whole, or not there. Only its
/// owner may read it.
pub(super) fn write(file: &Path, gathered: &Gathered) -> Result<(), Failure> {
    let unfinished = unfinished(file);
    // A link is never made over a file that came meanwhile.
    let written = write_tar(&unfinished, gathered).and_then(|()| fs::hard_link(&unfinished, file));
    let removed = fs::remove_file(&unfinished);
    match written.and(removed) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(file)),
        Err(source) => Err(Failure::Bundle {
            file: file.to_owned(),
            source,
        }),
    }
}

fn exists(file: &Path) -> Failure {
    Failure::BundleExists {
        file: file.to_owned(),
    }
}

fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    file.with_file_name(name)
}

fn write_tar(path: &Path, gathered: &Gathered) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    let missing = gathered.missing.join("\n") + "\n";
    let missing = ("missing.txt".to_owned(), missing);
    for (path, text) in gathered.files.iter().chain([&missing]) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("{ROOT}/{path}"), text.as_bytes())?;
    }
    let mut writer = tar.into_inner()?;
    writer.flush()?;
    writer.get_ref().sync_all()
}

#[cfg(test)]
mod tests;
