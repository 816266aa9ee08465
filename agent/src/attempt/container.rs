//! What is asked of the engine for an attempt: name, labels, user and environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_core::ids::{AgentId, AttemptId, TeamName};

use crate::config::Config;
use crate::offer::Task;
use crate::policy::is_root;
use crate::runtime::{ImageFacts, InitProcess, LeaseTerms, Limits, NewContainer, RunTerms};
use crate::warm::Wish;

/// Of an image that names no user, or root.
const NOBODY: &str = "65532:65532";
/// On containers that were parked; its value is the name that the container had then.
pub(crate) const WARM_LABEL: &str = "muster.warm";
const METRICS_FILE: &str = "/run/muster/metrics.prom";

/// `mu-<the first 8 of the cluster>-JOB.INDEX-ATTEMPT`. The name is what makes a second container
/// for the same attempt impossible.
pub(crate) fn container_name(cluster: &str, id: AttemptId) -> String {
    format!("mu-{}-{id}", short(cluster))
}

/// Of a container that no attempt has yet: `mu-<the first 8 of the cluster>-warm-UNIQUE`.
pub(crate) fn parked_name(cluster: &str) -> String {
    let unique = uuid::Uuid::now_v7().simple();
    format!("mu-{}-warm-{unique}", short(cluster))
}

/// The team's own bridge. It is this agent's too: the engine does not keep names of networks unique,
/// so two agents on one engine that shared a name could make it ambiguous.
pub(crate) fn network_name(cluster: &str, agent: &AgentId, team: &TeamName) -> String {
    format!("muster-{}-{agent}-{team}", short(cluster))
}

/// Which attempt has a container of this name.
pub(crate) fn attempt_of_name(cluster: &str, name: &str) -> Option<AttemptId> {
    let prefix = format!("mu-{}-", short(cluster));
    name.strip_prefix(&prefix)?.parse().ok()
}

pub(crate) fn short(cluster: &str) -> String {
    cluster.chars().take(8).collect()
}

/// The labels by which an agent knows its own.
pub(crate) fn own_labels(config: &Config) -> BTreeMap<String, String> {
    agent_labels(&config.name)
}

pub(crate) fn agent_labels(agent: &AgentId) -> BTreeMap<String, String> {
    BTreeMap::from([("muster.agent".to_owned(), agent.to_string())])
}

/// What goes into a container's configuration besides its task.
pub(crate) struct Surroundings<'a> {
    pub name: &'a str,
    pub cluster: &'a str,
    pub config: &'a Config,
    pub image: &'a ImageFacts,
    pub network: Option<String>,
    pub run_dir: PathBuf,
    pub cgroup_parent: Option<String>,
    /// The init process's program and directory.
    pub init: Option<(PathBuf, PathBuf)>,
    /// Where the last contact is written down, for init processes.
    pub lease_dir: PathBuf,
    /// In milliseconds of the clock that also runs while the host sleeps.
    pub last_contact: u64,
}

/// What an attempt adds to its task.
pub(super) struct OfAttempt<'a> {
    pub term: u64,
    pub traceparent: &'a str,
    /// What the init process signs its record with.
    pub init_key: Option<&'a str>,
}

pub(super) fn new_container(
    task: &Task,
    own: &OfAttempt<'_>,
    around: Surroundings<'_>,
) -> NewContainer {
    let argv = argv(task, around.image);
    let env = environment(task, own, &around);
    let init = around.init.clone().zip(own.init_key);
    let init = init.filter(|_| !argv.is_empty());
    let lease = task.stop_after.map(|limit| LeaseTerms {
        limit: limit.into(),
        grace: task.kill_grace.into(),
        start_by: around.last_contact.saturating_add(limit.0),
    });
    NewContainer {
        name: around.name.to_owned(),
        image: around.image.id.clone(),
        entrypoint: task.entrypoint.clone(),
        command: task.command.clone(),
        env,
        labels: labels(task, own, &around),
        workdir: task.workdir.clone(),
        user: user(task.user.as_ref(), around.image),
        limits: task.limits(),
        gpus: task.gpus,
        network: around.network,
        writable_root: task.writable_root,
        run_dir: around.run_dir,
        cgroup_parent: around.cgroup_parent,
        init: init.map(|((program, records), key)| InitProcess {
            program,
            records,
            lease: lease.map(|_| around.lease_dir),
            run: Some(RunTerms {
                key: key.to_owned(),
                argv,
                lease,
            }),
        }),
    }
}

/// One that holds nothing of any task. `term` is of a coordinator that is not newer than whoever will give it one.
pub(crate) fn parked_container(
    wish: &Wish,
    team: &TeamName,
    limits: Limits,
    term: u64,
    around: Surroundings<'_>,
) -> NewContainer {
    let Wish {
        user: wanted,
        workdir,
        bridge: _, // the network says it
        writable_root,
        lease,
    } = wish;
    let mut labels = own_labels(around.config);
    labels.extend(
        [
            ("muster.cluster", around.cluster.to_owned()),
            (WARM_LABEL, around.name.to_owned()),
            ("muster.term", term.to_string()),
            ("muster.team", team.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    NewContainer {
        name: around.name.to_owned(),
        image: around.image.id.clone(),
        entrypoint: None,
        command: Vec::new(),
        env: Vec::new(),
        labels,
        workdir: workdir.clone(),
        user: user(wanted.as_ref(), around.image),
        limits,
        gpus: 0,
        network: around.network,
        writable_root: *writable_root,
        run_dir: around.run_dir,
        cgroup_parent: around.cgroup_parent,
        init: around.init.map(|(program, records)| InitProcess {
            program,
            records,
            lease: lease.then_some(around.lease_dir),
            run: None,
        }),
    }
}

/// What the engine would run, by its rules: an entrypoint of the task's own also drops the image's
/// command, and one of a single empty word is none.
fn argv(task: &Task, image: &ImageFacts) -> Vec<String> {
    let given = task.entrypoint.as_ref();
    let entrypoint = given.unwrap_or(&image.entrypoint);
    let is_none = entrypoint.first().is_none_or(String::is_empty);
    let command: &[String] = if !task.command.is_empty() {
        &task.command[..]
    } else if given.is_none_or(Vec::is_empty) {
        &image.command
    } else {
        &[]
    };
    let entrypoint = if is_none { &[][..] } else { entrypoint };
    [entrypoint, command].concat()
}

/// The task's own wish was checked against the policy; the image's was not.
fn user(wanted: Option<&String>, image: &ImageFacts) -> String {
    match wanted {
        Some(user) => user.clone(),
        None if image.user.is_empty() || is_root(&image.user) => NOBODY.to_owned(),
        None => image.user.clone(),
    }
}

fn labels(task: &Task, own: &OfAttempt<'_>, around: &Surroundings<'_>) -> BTreeMap<String, String> {
    let mut labels = own_labels(around.config);
    labels.extend(
        [
            ("muster.cluster", around.cluster.to_owned()),
            ("muster.task", task.id.task.to_string()),
            ("muster.attempt", task.id.number.to_string()),
            ("muster.term", own.term.to_string()),
            ("muster.job_name", task.job_name.clone()),
            ("muster.team", task.team.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    labels
}

/// The task's variables, and over them the ones that muster sets.
fn environment(task: &Task, own: &OfAttempt<'_>, around: &Surroundings<'_>) -> Vec<String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            all.insert(name.to_owned(), value);
        }
    };
    // These a task may override: they are about where its own figures go.
    let config = around.config;
    set(
        "PUSHGATEWAY_URL",
        config.pushgateway_url.clone().unwrap_or_default(),
    );
    set(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        config.otlp_endpoint.clone().unwrap_or_default(),
    );
    set("TRACEPARENT", own.traceparent.to_owned());
    for (name, value) in &task.env {
        // An empty value is a value here.
        all.insert(name.clone(), value.clone());
    }
    let task_id = task.id.task;
    let number = task.id.number.to_string();
    let release = match task.release {
        0 => String::new(),
        release => release.to_string(),
    };
    let metadata = [
        ("MUSTER_JOB_ID", task_id.job.to_string()),
        ("MUSTER_JOB_NAME", task.job_name.clone()),
        ("MUSTER_TASK_ID", task_id.to_string()),
        ("MUSTER_TASK_INDEX", task_id.index.to_string()),
        ("MUSTER_TASK_COUNT", task.tasks.to_string()),
        ("MUSTER_IDEMPOTENCY_KEY", task_id.to_string()),
        ("MUSTER_ATTEMPT", number.clone()),
        ("MUSTER_FENCE", number),
        ("MUSTER_TEAM", task.team.to_string()),
        ("MUSTER_POOL", config.pool.to_string()),
        ("MUSTER_AGENT", config.name.to_string()),
        ("MUSTER_CHANNEL", task.channel.clone()),
        ("MUSTER_RELEASE", release),
        ("MUSTER_IMAGE_DIGEST", task.image.digest().to_string()),
        ("MUSTER_METRICS_FILE", METRICS_FILE.to_owned()),
    ];
    for (name, value) in metadata {
        if !value.is_empty() {
            all.insert(name.to_owned(), value);
        }
    }
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
