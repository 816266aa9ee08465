//! Finds and reads the files of manifests.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use muster_proto::v1;

/// What the coordinator takes in one request, in bytes.
const BYTES_MAX: u64 = 4 << 20;
const STDIN: &str = "-";

/// Why manifests cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFile {
    #[error("{name} could not be read")]
    Read { name: String, source: io::Error },
    #[error("{} has no file that ends in .yaml or .yml", dir.display())]
    Nothing { dir: PathBuf },
    #[error("the manifests have more than 4 MiB; apply them in parts")]
    TooMuch,
}

/// Reads what `-f` names: a file, a directory without those below it, or stdin.
pub(crate) fn read(named: &[String]) -> Result<Vec<v1::ManifestFile>, BadFile> {
    let mut files = Vec::new();
    let mut left = BYTES_MAX;
    for name in named {
        if name == STDIN {
            files.push(file("stdin".to_owned(), io::stdin().lock(), &mut left)?);
            continue;
        }
        for path in paths(Path::new(name))? {
            let name = path.display().to_string();
            let opened = std::fs::File::open(&path).map_err(|source| BadFile::Read {
                name: name.clone(),
                source,
            })?;
            files.push(file(name, opened, &mut left)?);
        }
    }
    Ok(files)
}

/// In order of their names.
fn paths(named: &Path) -> Result<Vec<PathBuf>, BadFile> {
    if !named.is_dir() {
        return Ok(vec![named.to_owned()]);
    }
    let failed = |source| BadFile::Read {
        name: named.display().to_string(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(named).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let yaml = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml");
        if yaml && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(BadFile::Nothing {
            dir: named.to_owned(),
        });
    }
    paths.sort();
    Ok(paths)
}

fn file(name: String, from: impl Read, left: &mut u64) -> Result<v1::ManifestFile, BadFile> {
    let mut text = String::new();
    let read = from.take(*left + 1).read_to_string(&mut text);
    let bytes = read.map_err(|source| BadFile::Read {
        name: name.clone(),
        source,
    })?;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    *left = left.checked_sub(bytes).ok_or(BadFile::TooMuch)?;
    Ok(v1::ManifestFile { name, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_yaml_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "notes.md"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("c.yaml")).unwrap();
        let files = read(&[dir.path().display().to_string()]).unwrap();
        let texts: Vec<String> = files.into_iter().map(|file| file.text).collect();
        assert_eq!(texts, ["a.yaml", "b.yml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().display().to_string();
        let error = read(std::slice::from_ref(&empty)).unwrap_err();
        let expected = format!("{empty} has no file that ends in .yaml or .yml");
        assert_eq!(error.to_string(), expected);
        let missing = format!("{empty}/missing.yaml");
        let error = read(std::slice::from_ref(&missing)).unwrap_err();
        assert_eq!(error.to_string(), format!("{missing} could not be read"));
        let large = dir.path().join("large.yaml");
        std::fs::write(&large, "#".repeat((4 << 20) + 1)).unwrap();
        let error = read(&[large.display().to_string()]).unwrap_err();
        assert!(matches!(error, BadFile::TooMuch));
    }
}
