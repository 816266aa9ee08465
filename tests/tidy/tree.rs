//! The files of the tree, and every rule held against each of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rules::{Rule, rules};

/// A text file that is under version control.
pub(crate) struct File {
    /// From the root of the tree.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|kind| kind == "rs")
    }

    /// Tests have rules of their own, and are free of some.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    /// Lines with their numbers, counted from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// What is compiled into the product: without the tests at the end of the file.
    pub(crate) fn product(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..end.unwrap_or(self.text.len())]
    }
}

pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("the crate is in the workspace")
        .to_owned()
}

fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "the tree is under version control");
    let names = String::from_utf8(listed.stdout).expect("names are text");
    let read = |name: &str| {
        let text = std::fs::read_to_string(root().join(name)).ok()?;
        Some(File {
            path: name.to_owned(),
            text,
        })
    };
    names.lines().filter_map(read).collect()
}

#[test]
fn every_file_keeps_every_rule() {
    let files = files();
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut broken = Vec::new();
    for Rule { name, check, .. } in rules() {
        for file in &files {
            broken.extend(
                check(file)
                    .into_iter()
                    .map(|what| format!("{name}: {what}")),
            );
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A rule that can't fail is none.
#[test]
fn every_rule_can_fail() {
    for Rule {
        name,
        check,
        bad: (path, text),
        good: (good_path, good_text),
    } in rules()
    {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert!(
            !check(&file(path, &text)).is_empty(),
            "{name} finds nothing in {text:?}"
        );
        let found = check(&file(good_path, &good_text));
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
