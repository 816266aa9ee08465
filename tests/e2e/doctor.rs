//! `muster doctor` and its bundle, as somebody with trouble uses them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::{Fleet, enabled, stderr, stdout};
use crate::processes::{eventually, free_address, output_of};

/// In every secret of these tests.
const CANARY: &str = "c4n4ry-0123456789";
/// The same as a registry's credentials are written down: `ann:` and it, in base64.
const CANARY_BASE64: &str = "YW5uOmM0bjRyeS0wMTIzNDU2Nzg5";

/// The findings and the exit code.
fn doctor(fleet: &Fleet, flags: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = fleet.muster(&[&["doctor", "-o", "json"], flags].concat());
    let read: Value = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    (
        read["findings"].as_array().unwrap().clone(),
        output.status.code(),
    )
}

/// The verdict and the text of the one finding of that check.
fn of<'a>(findings: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let mut found = findings.iter().filter(|finding| finding["check"] == check);
    let one = found
        .next()
        .unwrap_or_else(|| panic!("no {check} in {findings:#?}"));
    (
        one["verdict"].as_str().unwrap(),
        one["what"].as_str().unwrap(),
    )
}

#[test]
fn what_is_wrong_is_told_with_an_exit_code() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(1);
    let (findings, code) = doctor(&fleet, &[]);
    for check in [
        "coordinator",
        "invariants",
        "agent_link",
        "held_back",
        "host_engine",
        "host_clock",
    ] {
        assert_eq!(of(&findings, check).0, "ok", "{findings:#?}");
    }
    let problems = findings.iter().filter(|one| one["verdict"] == "problem");
    // How full the disk of this machine is, is not what this is about.
    let problems: Vec<&Value> = problems.filter(|one| one["check"] != "host_disk").collect();
    assert!(problems.is_empty(), "{problems:#?}");
    let full = findings.iter().any(|one| one["verdict"] == "problem");
    assert_eq!(code, Some(i32::from(full)));

    let job = fleet.submit(&[], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);
    fleet.agent("a1").terminate();
    eventually("doctor missing the agent", || {
        let (findings, code) = doctor(&fleet, &[]);
        (code == Some(1) && of(&findings, "agent_link").0 == "problem").then_some(())
    });
    fleet.start_agent("a1");
    fleet.wait_for_agents(1);
    assert_eq!(
        fleet.muster(&["cancel", "--now", &job]).status.code(),
        Some(0)
    );
    fleet.wait_for_no_containers();

    fleet.coordinator().terminate();
    let (findings, code) = doctor(&fleet, &[]);
    assert_eq!(code, Some(6));
    assert_eq!(of(&findings, "coordinator").0, "problem");
    assert_eq!(
        of(&findings, "host_engine").0,
        "ok",
        "this host is looked at all the same"
    );
    let (findings, code) = doctor(&fleet, &["--local"]);
    assert!(findings.iter().all(|one| one["check"] != "coordinator"));
    assert_ne!(code, Some(6));

    let data = fleet.directory.path().join("coordinator");
    let copy = fleet.directory.path().join("copy.db");
    let (data, copy) = (data.to_str().unwrap(), copy.to_str().unwrap());
    fleet.ok(&["coordinator", "backup", copy, "--data-dir", data]);
    fleet.ok(&["coordinator", "restore", copy, "--data-dir", data]);
    fleet.start_coordinator();
    fleet.wait_for_agents(1);
    let (findings, code) = doctor(&fleet, &[]);
    assert_eq!(code, Some(1));
    let (verdict, what) = of(&findings, "held_back");
    assert_eq!(verdict, "problem");
    assert!(what.contains("restored"), "safe mode is told: {what}");
}

/// Files with secrets, and programs that tell some.
struct Secrets {
    directory: TempDir,
}

impl Secrets {
    /// `registry`: whose credentials are among them.
    fn new(registry: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write(
            "webhooks.yaml",
            format!("github:\n  secrets: [\"{CANARY}\"]\ndockerhub:\n  secrets: [\"{CANARY}\"]\n"),
        );
        write("token", CANARY.to_owned());
        let auths = format!(r#"{{"auths":{{"{registry}":{{"auth":"{CANARY_BASE64}"}}}}}}"#);
        write("config.json", auths);
        let told = format!(
            "GET https://ann:{CANARY}@host/ failed\n{{\"db_password\":\"a \\\"{CANARY}\"}}\n\
             Authorization: Bearer {CANARY}\nlogin with Basic {CANARY_BASE64}\n"
        );
        write("some.log", told);
        let journal = format!("#!/bin/sh\necho \"$* said password={CANARY} and the rest\"\n");
        write("journalctl", journal);
        let program = directory.path().join("journalctl");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// For every process: a password in an address, in a variable, in files that variables name.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let gateway = format!("http://ann:{CANARY}@127.0.0.1:1");
        let path = std::env::var("PATH").unwrap();
        vec![
            ("MUSTER_LOG", "debug".to_owned()),
            ("MUSTER_COORDINATOR_PUSHGATEWAY_URL", gateway.clone()),
            (
                "MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE",
                self.path("webhooks.yaml"),
            ),
            ("MUSTER_AGENT_PUSHGATEWAY_URL", gateway),
            ("DOCKER_CONFIG", self.path("")),
            ("AWS_SECRET_ACCESS_KEY", CANARY.to_owned()),
            ("REGISTRY_PASS", CANARY.to_owned()),
            ("SOME_TOKEN_FILE", self.path("token")),
            ("PATH", format!("{}:{path}", self.path(""))),
        ]
    }
}

/// Everything that a bundle shall hold, with `CANARY` wherever somebody could have put a secret.
fn use_secrets(fleet: &Fleet, registry: &str) -> String {
    let told = format!("TASK_VALUE={CANARY}");
    let job = fleet.submit(
        &["-e", &told, "--key", "load-1"],
        &["sh", "-c", &format!("echo {CANARY}; sleep 600")],
    );
    fleet.wait_for_running(&job, 1);
    let channel = format!("{registry}/acme/analytics:latest");
    fleet.muster(&["channel", "set", "analytics", &channel]);
    let post = |path: &str, header: &str| {
        let address = format!("http://{}{path}", fleet.http);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--header", header, "--data", "{}", &address]);
        output_of(&mut curl);
    };
    post(
        &format!("/webhook/dockerhub/{CANARY}"),
        "content-type: application/json",
    );
    post(
        "/webhook/github",
        &format!("x-hub-signature-256: sha256={CANARY}"),
    );
    post(
        "/webhook/generic",
        &format!("authorization: Bearer {CANARY}"),
    );
    job
}

fn read(directory: &Path, name: &str) -> String {
    let path = directory.join("muster-bundle").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether each part of an unpacked bundle is there.
fn has_what_helps(directory: &Path, fleet: &Fleet, job: &str) {
    for (name, part) in [
        ("findings.json", "host_engine"),
        ("client/settings.json", "variable MUSTER_ADDR"),
        ("host/settings.json", "http://***@127.0.0.1:1"),
        ("host/data-dirs.txt", "coordinator/muster.db"),
        ("engine/info.json", "ServerVersion"),
        ("engine/version.json", "ApiVersion"),
        ("coordinator/info.json", &fleet.cluster()),
        ("coordinator/settings.json", "http://***@127.0.0.1:1"),
        ("coordinator/log.txt", "webhook rejected"),
        ("coordinator/metrics.txt", "muster_jobs_submitted_total"),
        ("state/agents.json", "\"a1\""),
        ("state/jobs.json", "TASK_VALUE"),
        ("state/why.json", job),
        (
            "logs/muster-agent.txt",
            "--unit muster-agent said password=*** and the rest",
        ),
        ("logs/2-a1.log", "h2::codec"),
        ("logs/3-some.log", "GET https://***@host/ failed"),
    ] {
        let text = read(directory, name);
        assert!(text.contains(part), "{name} without {part}:\n{text}");
    }
}

#[test]
fn a_bundle_has_what_helps_and_no_secret() {
    if !enabled() {
        return;
    }
    let registry = free_address().to_string();
    let secrets = Secrets::new(&registry);
    let variables = secrets.variables();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut fleet = Fleet::start_in(1, &[], &variables);
    let job = use_secrets(&fleet, &registry);

    let at = |name: &str| fleet.directory.path().join(name).display().to_string();
    let file = at("bundle.tar");
    let mut arguments = vec!["doctor".to_owned()];
    let told = [
        ("--bundle", file.clone()),
        ("--data-dir", at("coordinator")),
        ("--data-dir", at("a1")),
        ("--log-file", at("coordinator.log")),
        ("--log-file", at("a1.log")),
        ("--log-file", secrets.path("some.log")),
    ];
    arguments.extend(
        told.into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]),
    );
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = || {
        let mut command = fleet.command(&arguments);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let output = run();
    let told = stdout(&output) + &stderr(&output);
    assert!(
        !told.contains(CANARY) && !told.contains(CANARY_BASE64),
        "{told}"
    );

    let directory = tempfile::tempdir().unwrap();
    output_of(
        Command::new("tar")
            .args(["-xf", &file, "-C"])
            .arg(directory.path()),
    );
    for secret in [CANARY, CANARY_BASE64] {
        let mut grep = Command::new("grep");
        let found = grep
            .args(["-r", secret])
            .arg(directory.path())
            .output()
            .unwrap();
        assert_eq!(found.status.code(), Some(1), "{}{told}", stdout(&found));
    }
    has_what_helps(directory.path(), &fleet, &job);
    assert!(std::fs::metadata(&file).unwrap().len() < 8 << 20);

    let before = std::fs::read(&file).unwrap();
    let again = run();
    assert_eq!(again.status.code(), Some(5), "{}", stderr(&again));
    assert_eq!(std::fs::read(&file).unwrap(), before);

    fleet.ok(&["cancel", "--now", &job]);
    fleet.wait_for_no_containers();
    let less = at("less.tar");
    fleet.coordinator().terminate();
    let output = fleet.muster(&["doctor", "--bundle", &less]);
    assert_eq!(output.status.code(), Some(6));
    let note = "not in it: coordinator, state: the coordinator can't be reached";
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
    assert!(Path::new(&less).exists());
    fleet.start_coordinator();
}
