//! Who may depend on whom. The table is in `ARCHITECTURE.md`; this one decides.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

use crate::tree::root;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Clone, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What each crate of ours may know of the others.
const OURS: [(&str, &[&str]); 9] = [
    ("muster-proto", &[]),
    ("muster-core", &[]),
    ("muster-init", &[]),
    ("muster-failpoint", &[]),
    (
        "muster-coordinator",
        &["muster-core", "muster-failpoint", "muster-proto"],
    ),
    (
        "muster-agent",
        &["muster-core", "muster-failpoint", "muster-proto"],
    ),
    (
        "muster-cli",
        &[
            "muster-agent",
            "muster-coordinator",
            "muster-core",
            "muster-proto",
        ],
    ),
    (
        "muster-tests",
        &[
            "muster-agent",
            "muster-coordinator",
            "muster-core",
            "muster-failpoint",
            "muster-proto",
        ],
    ),
    (
        "muster-bench",
        &[
            "muster-agent",
            "muster-coordinator",
            "muster-core",
            "muster-proto",
            "muster-tests",
        ],
    ),
];
/// Everything that the core may use, and everything that comes with it.
const CORE: [&str; 2] = ["thiserror", "uuid"];
const UNDER_CORE: [&str; 8] = [
    "muster-core",
    "thiserror",
    "thiserror-impl",
    "uuid",
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];
/// The agent's build compiles it with rustc alone.
const INIT: [&str; 0] = [];
const PROTO: [&str; 5] = ["bytes", "prost", "prost-types", "tonic", "tonic-prost"];
/// What a crate must never see.
const NEVER: [(&str, &[&str]); 4] = [
    ("muster-coordinator", &["bollard", "clap"]),
    (
        "muster-agent",
        &["axum-extra", "clap", "oci-client", "rusqlite"],
    ),
    ("muster-cli", &["bollard", "rusqlite"]),
    ("muster-tests", &["bollard", "rusqlite"]),
];

fn cargo(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(ran.stdout).expect("cargo speaks UTF-8")
}

/// Of our own packages. To tell of the others, cargo would need those of every platform.
fn metadata() -> Vec<Package> {
    let text = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let metadata: Metadata = serde_json::from_str(&text).expect("it is cargo's metadata");
    metadata.packages
}

/// Direct dependencies of what is built, without those of tests and build scripts.
fn direct(package: &Package) -> BTreeSet<&str> {
    let built = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none());
    built.map(|dependency| dependency.name.as_str()).collect()
}

fn complaints(packages: &[Package]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = OURS.into();
    let mut found = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some(known) = allowed.get(name) else {
            found.push(format!("{name} is not in the table"));
            continue;
        };
        let all = package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str());
        for other in all.filter(|other| other.starts_with("muster-") && !known.contains(other)) {
            found.push(format!("{name} must not know {other}"));
        }
        let only = match name {
            "muster-core" => Some(&CORE[..]),
            "muster-proto" => Some(&PROTO[..]),
            "muster-init" => Some(&INIT[..]),
            _ => None,
        };
        let strangers = direct(package)
            .into_iter()
            .filter(|other| only.is_some_and(|only| !only.contains(other)));
        found.extend(strangers.map(|other| format!("{name} must not use {other}")));
        let never = NEVER
            .iter()
            .filter(|(of, _)| *of == name)
            .flat_map(|(_, never)| *never);
        for other in never.filter(|other| direct(package).contains(**other)) {
            found.push(format!("{name} must never see {other}"));
        }
        for target in &package.targets {
            let is_program = target.kind.iter().any(|kind| kind == "bin");
            let may = [
                ("muster-cli", "muster"),
                ("muster-bench", "muster-bench"),
                ("muster-init", "muster-init"),
            ];
            if is_program && !may.contains(&(name, target.name.as_str())) {
                found.push(format!("{name} must not build the program {}", target.name));
            }
        }
    }
    let engines = packages
        .iter()
        .filter(|package| direct(package).contains("bollard"));
    for package in engines.filter(|package| package.name != "muster-agent") {
        found.push(format!("{} must not use bollard", package.name));
    }
    found
}

#[test]
fn nobody_knows_more_than_the_table_allows() {
    let packages = metadata();
    let found = complaints(&packages);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(names, OURS.map(|(name, _)| name).into());
}

#[test]
fn nothing_under_the_core_could_do_input_or_output() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package",
        "muster-core",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{lib}|{p}",
    ]);
    let names = tree
        .lines()
        .filter_map(|line| line.split('|').nth(1)?.split(' ').next());
    let names: BTreeSet<&str> = names.collect();
    let strangers: Vec<&&str> = names
        .iter()
        .filter(|name| !UNDER_CORE.contains(name))
        .collect();
    assert!(strangers.is_empty(), "the core comes with {strangers:?}");
    assert!(names.contains("thiserror"), "the tree was read: {names:?}");
}

/// The table would notice.
#[test]
fn a_wrong_dependency_is_found() {
    let spoiled = |package: &str, dependency: &str| {
        let mut packages = metadata();
        let package = packages.iter_mut().find(|found| found.name == package);
        package
            .expect("it is in the workspace")
            .dependencies
            .push(Dependency {
                name: dependency.to_owned(),
                kind: None,
            });
        complaints(&packages)
    };
    let cases = [
        ("muster-core", "tokio", "muster-core must not use tokio"),
        (
            "muster-core",
            "muster-proto",
            "muster-core must not know muster-proto",
        ),
        ("muster-proto", "serde", "muster-proto must not use serde"),
        ("muster-init", "libc", "muster-init must not use libc"),
        (
            "muster-agent",
            "muster-coordinator",
            "muster-agent must not know muster-coordinator",
        ),
        (
            "muster-agent",
            "rusqlite",
            "muster-agent must never see rusqlite",
        ),
        (
            "muster-coordinator",
            "muster-agent",
            "muster-coordinator must not know muster-agent",
        ),
        (
            "muster-coordinator",
            "bollard",
            "muster-coordinator must not use bollard",
        ),
        (
            "muster-cli",
            "muster-tests",
            "muster-cli must not know muster-tests",
        ),
    ];
    for (package, dependency, complaint) in cases {
        let found = spoiled(package, dependency);
        assert!(
            found.iter().any(|text| text == complaint),
            "{complaint}: {found:?}"
        );
    }
}
