//! The recipes for CI systems in docs/rollouts.md: their shell lines are taken from the page and run, against a real
//! coordinator, a private registry and a real engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_tests::fleet::binary;
use muster_tests::registry::Registry;
use tempfile::TempDir;

use crate::fleet::{Fleet, enabled, stderr, stdout};
use crate::processes::{docker, free_address};

const PAGE: &str = include_str!("../../docs/rollouts.md");
const PASSWORD: &str = "s3cret";
/// What stands for the registry and the coordinator in the page.
const IMAGE: &str = "registry.example/acme/analytics:main";
const ADDR: &str = "http://muster.internal:7380";
/// Steps that are code of GitHub's. The test has a checkout, and logs in to the registry itself.
const ACTIONS: [&str; 2] = ["actions/checkout@v4", "docker/login-action@v3"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    GitHub,
    GitLab,
    Jenkins,
}

impl System {
    const ALL: [Self; 3] = [Self::GitHub, Self::GitLab, Self::Jenkins];

    /// How the line above its recipe begins.
    const fn heading(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub Actions:",
            Self::GitLab => "GitLab CI, with",
            Self::Jenkins => "Jenkins, with",
        }
    }

    /// The variables that it sets: for the commit, and those that the page has people set as secrets.
    const fn variables(self) -> (&'static str, &'static [(&'static str, &'static str)]) {
        match self {
            Self::GitHub => ("GITHUB_SHA", &[]),
            Self::GitLab => (
                "CI_COMMIT_SHA",
                &[("REGISTRY_USER", "etl"), ("REGISTRY_PASSWORD", PASSWORD)],
            ),
            Self::Jenkins => (
                "GIT_COMMIT",
                &[("REGISTRY_USR", "etl"), ("REGISTRY_PSW", PASSWORD)],
            ),
        }
    }

    /// Lines that say where the others belong, and do nothing.
    const fn frame(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &[
                "on: {push: {branches: [main]}}",
                "env:",
                "jobs:",
                "deploy:",
                "runs-on: self-hosted",
                "concurrency: deploy-analytics",
                "steps:",
                "with:",
                "registry: registry.example",
                "username: ${{ vars.REGISTRY_USER }}",
                "password: ${{ secrets.REGISTRY_PASSWORD }}",
            ],
            Self::GitLab => &[
                "deploy:",
                "resource_group: analytics",
                "variables:",
                "script:",
            ],
            Self::Jenkins => &[
                "pipeline {",
                "agent any",
                "options { disableConcurrentBuilds() }",
                "environment {",
                "REGISTRY = credentials('registry')",
                "stages {",
                "stage('Deploy') {",
                "steps {",
                "}",
            ],
        }
    }

    /// How it runs a line: a shell that ends at the first failure, with the others or for each its own.
    fn shells(self, lines: &[String]) -> Vec<Vec<String>> {
        let own = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        let each = lines.iter().map(String::as_str);
        match self {
            Self::GitHub => each.map(|line| own(&["bash", "-e", "-c", line])).collect(),
            Self::GitLab => {
                let all = lines.join("\n");
                vec![own(&["bash", "-e", "-o", "pipefail", "-c", &all])]
            }
            Self::Jenkins => each.map(|line| own(&["sh", "-xe", "-c", line])).collect(),
        }
    }
}

/// What a recipe sets and runs.
#[derive(Debug, Default)]
struct Recipe {
    variables: BTreeMap<String, String>,
    lines: Vec<String>,
    actions: Vec<String>,
}

impl Recipe {
    /// Takes each line of the recipe for something, or panics.
    fn of(system: System) -> Self {
        let after = PAGE.split(&format!("\n{}", system.heading())).nth(1);
        let after = after.unwrap_or_else(|| panic!("the page has no {system:?}"));
        let block = after.split("```").nth(1).unwrap();
        let (_language, block) = block.split_once('\n').unwrap();
        let mut recipe = Self::default();
        let lines = block.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '/'])) {
            if system.frame().contains(&line) {
                continue;
            }
            let shell = match system {
                System::GitHub => line.strip_prefix("- run: "),
                System::GitLab => line.strip_prefix("- "),
                System::Jenkins => line
                    .strip_prefix("sh '")
                    .and_then(|line| line.strip_suffix('\'')),
            };
            let sign = if system == System::Jenkins {
                " = "
            } else {
                ": "
            };
            if let Some(shell) = shell {
                recipe.lines.push(shell.to_owned());
            } else if let Some(action) = line.strip_prefix("- uses: ") {
                recipe.actions.push(action.to_owned());
            } else if let Some((name, value)) = line.split_once(sign) {
                let value = value.trim_matches('\'');
                recipe.variables.insert(name.to_owned(), value.to_owned());
            } else {
                panic!("{system:?}: nobody knows what to do with {line:?}");
            }
        }
        recipe
    }
}

struct Rig {
    fleet: Fleet,
    registry: Registry,
    directory: TempDir,
}

impl Rig {
    /// A channel that follows a private registry with credentials of its own, and a policy that tries images out.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::start(free_address(), None, Some(PASSWORD));
        let config = directory.path().join("fleet");
        login(&config, &registry);
        let first = registry.push(Some(&config), "first");
        let main = first.replace(":latest", ":main");
        docker(&["tag", &first, &main]);
        docker(&[
            "--config",
            config.to_str().unwrap(),
            "push",
            "--quiet",
            &main,
        ]);
        let named = directory.path().join("named");
        std::fs::create_dir(&named).unwrap();
        std::fs::copy(config.join("config.json"), named.join("acme.json")).unwrap();

        let flags = ["--credentials-dir", named.to_str().unwrap()];
        let mut fleet = Fleet::start_in(0, &flags, &[("DOCKER_CONFIG", "/nonexistent")]);
        fleet.start_agent_in("a1", &[("DOCKER_CONFIG", config.to_str().unwrap())]);
        fleet.wait_for_agents(1);
        let manifest = directory.path().join("channel.yaml");
        let text = format!(
            "kind: Channel\nname: analytics\nrepository: {}/acme/analytics\ntag: main\n\
             poll_interval: 1h\ncredentials: acme\n\
             policy:\n  validate:\n    command: [grep, -q, good, /word]\n",
            registry.address
        );
        std::fs::write(&manifest, text).unwrap();
        fleet.ok(&["apply", "-f", manifest.to_str().unwrap()]);
        Self {
            fleet,
            registry,
            directory,
        }
    }

    /// What the CI system has checked out.
    fn checkout(&self, word: &str) -> PathBuf {
        let path = self.directory.path().join(word.replace(' ', "-"));
        std::fs::create_dir(&path).unwrap();
        let steps = format!(
            "FROM muster/testbox:1\nLABEL muster.test={}\nCOPY word /word\nCMD [\"cat\", \"/word\"]\n",
            self.registry.address
        );
        std::fs::write(path.join("Dockerfile"), steps).unwrap();
        std::fs::write(path.join("word"), word).unwrap();
        path
    }

    /// Runs the recipe's lines up to the first that fails, as the system would, and gives what the last one said.
    fn run(&self, system: System, recipe: &Recipe, word: &str, commit: &str) -> Output {
        let checkout = self.checkout(word);
        let home = checkout.join("home");
        std::fs::create_dir(&home).unwrap();
        let bin = checkout.join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(binary(), bin.join("muster")).unwrap();
        if system == System::GitHub {
            login(&home.join(".docker"), &self.registry);
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let (commit_is, secrets) = system.variables();
        let mut last = None;
        for shell in system.shells(&recipe.lines) {
            let mut command = Command::new(&shell[0]);
            command
                .args(&shell[1..])
                .current_dir(&checkout)
                .env_clear()
                .envs(std::env::vars().filter(|(name, _)| name == "DOCKER_HOST"))
                .envs(secrets.iter().copied())
                .envs([("PATH", path.as_str()), (commit_is, commit)])
                .env("HOME", &home)
                .env("DOCKER_BUILDKIT", "0");
            for (name, value) in &recipe.variables {
                command.env(name, self.here(value));
            }
            let output = command.output().unwrap();
            let failed = !output.status.success();
            last = Some(output);
            if failed {
                break;
            }
        }
        last.unwrap()
    }

    /// The value of a variable, with what is here for what the page has as an example.
    fn here(&self, value: &str) -> String {
        match value {
            IMAGE => format!("{}/acme/analytics:main", self.registry.address),
            ADDR => format!("http://{}", self.fleet.grpc),
            other => panic!("nobody knows what stands for {other:?}"),
        }
    }
}

fn login(config: &Path, registry: &Registry) {
    docker(&[
        "--config",
        config.to_str().unwrap(),
        "login",
        "--username",
        "etl",
        "--password",
        PASSWORD,
        &registry.address.to_string(),
    ]);
}

#[test]
fn the_recipes_of_the_page_deploy_good_images_and_fail_for_bad_ones() {
    if !enabled() {
        return;
    }
    let rig = Rig::start();
    let current = || rig.fleet.json(&["channel", "get", "analytics"])["current"].clone();
    for (number, system) in System::ALL.into_iter().enumerate() {
        let recipe = Recipe::of(system);
        let actions: &[&str] = if system == System::GitHub {
            &ACTIONS
        } else {
            &[]
        };
        assert_eq!(recipe.actions, actions, "{system:?}");
        let names: Vec<&String> = recipe.variables.keys().collect();
        assert_eq!(names, ["IMAGE", "MUSTER_ADDR"], "{system:?}");

        let commit = format!("{number}{}", "c0ffee".repeat(6));
        let word = format!("good {system:?}");
        let deployed = rig.run(system, &recipe, &word, &commit);
        let said = format!("{system:?}: {}{}", stdout(&deployed), stderr(&deployed));
        assert!(deployed.status.success(), "{said}");
        let release = current();
        assert_eq!(release["reason"], commit.as_str(), "{release}");
        assert_eq!(release["revision"], commit.as_str(), "{release}");
        let task = rig.fleet.muster(&["run", "--network", "none", "analytics"]);
        assert_eq!(stdout(&task), word, "{}", stderr(&task));

        let word = format!("bad {system:?}");
        let refused = rig.run(system, &recipe, &word, &commit);
        let said = format!("{system:?}: {}{}", stdout(&refused), stderr(&refused));
        assert!(!refused.status.success(), "{said}");
        assert!(
            said.contains("rolled back: the validation failed(1)"),
            "{said}"
        );
        let (_, logs) = said.rsplit_once(": muster ").unwrap();
        let logs: Vec<&str> = logs.split_whitespace().take(2).collect();
        rig.fleet.ok(&logs);
        assert_eq!(current(), release, "what it deployed before stays");
    }
    rig.fleet.wait_for_no_containers();
}
