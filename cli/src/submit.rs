//! From the flags of `muster run` to the message that is sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_core::image::split_tag;
use muster_core::time::Millis;
use muster_proto::v1;

use crate::args::run::{
    BackoffKind, ContainerFlags, Delivery, JobFlags, OnDisconnect, Pin, Pull, RefusedFlags, RunArgs,
};
use crate::quantity::{KeyValue, RetryRule};

/// Why flags are no job. Names and numbers are the coordinator's to check: it names the field.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSpec {
    #[error("{flag} is not supported: {reason}")]
    Refused {
        flag: &'static str,
        reason: &'static str,
        hint: &'static str,
    },
    #[error("--network {value:?} is not one of: bridge, none")]
    Network { value: String },
    #[error("-e {text:?} has no name before the equals sign")]
    Variable { text: String },
    #[error("{} cannot be read", file.display())]
    EnvFile {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{} line {line}: {text:?} is not a variable", file.display())]
    EnvFileLine {
        file: PathBuf,
        line: usize,
        text: String,
    },
}

impl BadSpec {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => Some((*hint).to_owned()),
            Self::Network { .. }
            | Self::Variable { .. }
            | Self::EnvFile { .. }
            | Self::EnvFileLine { .. } => None,
        }
    }
}

/// What the flags ask for, and what to tell the person about them.
#[derive(Debug, PartialEq)]
pub(crate) struct Submission {
    pub(crate) job: v1::NewJob,
    pub(crate) notes: Vec<String>,
}

/// Reads the variables of `-e KEY` from `variable`; reads the files of `--env-file`.
pub(crate) fn submission(
    args: &RunArgs,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Submission, BadSpec> {
    refuse(&args.refused)?;
    let (image, command) = args
        .argv
        .split_first()
        .expect("clap requires at least the image");
    let container = &args.container;
    let job = &args.job;
    let env = environment(container, variable)?;
    let mut notes = notes(container, &env);
    notes.extend(useless_rules(job));
    let spec = v1::JobSpec {
        name: container.name.clone().unwrap_or_default(),
        image: image.clone(),
        pin: job.pin.map_or(v1::Pin::Unspecified, pin).into(),
        pull: match container.pull {
            Pull::Missing | Pull::Always => v1::PullPolicy::Missing.into(),
            Pull::Never => v1::PullPolicy::Never.into(),
        },
        entrypoint: container.entrypoint.clone().map(|program| v1::Argv {
            // As docker: an empty one clears the image's.
            args: Some(program)
                .filter(|text| !text.is_empty())
                .into_iter()
                .collect(),
        }),
        command: command.to_vec(),
        env,
        labels: pairs(&container.label),
        workdir: container.workdir.clone().unwrap_or_default(),
        user: container.user.clone().unwrap_or_default(),
        resources: Some(v1::Resources {
            cpu_millis: container.cpus.unwrap_or(0),
            memory_bytes: container.memory.unwrap_or(0),
            pids: container.pids_limit.unwrap_or(0),
            gpus: container.gpus.unwrap_or(0),
            custom: BTreeMap::new(),
        }),
        pool: job.pool.clone().unwrap_or_default(),
        require: pairs(&job.require),
        agent: job.on.clone().unwrap_or_default(),
        priority: job.priority,
        queue_timeout: job.queue_timeout.map(duration),
        run_timeout: job.timeout.map(duration),
        kill_grace: job.kill_grace.map(duration),
        retry: Some(retry(job)),
        success_codes: job.success_code.iter().copied().map(u32::from).collect(),
        delivery: job
            .delivery
            .map_or(v1::Delivery::Unspecified, delivery)
            .into(),
        concurrency: concurrency(job),
        network: network(&container.network)?.into(),
        writable_root: job.writable_root,
        on_disconnect: job.on_disconnect.and_then(on_disconnect),
    };
    Ok(Submission {
        job: v1::NewJob {
            spec: Some(spec),
            array: job.array.unwrap_or(0),
            idempotency_key: job.key.clone().unwrap_or_default(),
        },
        notes,
    })
}

/// A bare word is a channel; only a channel is resolved again by `--pull always`, because a
/// reference always is.
pub(crate) fn is_channel(image: &str) -> bool {
    !image.contains(['/', '@']) && split_tag(image).1.is_none()
}

fn refuse(flags: &RefusedFlags) -> Result<(), BadSpec> {
    let RefusedFlags {
        privileged,
        restart,
        publish,
        volumes_from,
        volume,
        mount,
        cap_add,
        device,
    } = flags;
    let host = "a task that needs the host's rights needs an agent of its own: see --pool and --on";
    let files = "fetch input in the task, write results to a store, and use /tmp for scratch space";
    let refusals = [
        (
            *privileged,
            "--privileged",
            "tasks never get the host's rights",
            host,
        ),
        (
            restart.is_some(),
            "--restart",
            "a task ends, and muster decides about another attempt",
            "use --retries, --retry-delay and --backoff",
        ),
        (
            !publish.is_empty(),
            "-p/--publish",
            "tasks are not servers",
            "let the task push its results, or run the server beside muster",
        ),
        (
            !volumes_from.is_empty(),
            "--volumes-from",
            "containers of other tasks are on other hosts, or gone",
            files,
        ),
        (
            !volume.is_empty(),
            "-v/--volume",
            "a task runs on any agent, and paths of a host are not the same on the next",
            files,
        ),
        (
            !mount.is_empty(),
            "--mount",
            "a task runs on any agent, and paths of a host are not the same on the next",
            files,
        ),
        (
            !cap_add.is_empty(),
            "--cap-add",
            "tasks run without capabilities",
            host,
        ),
        (
            !device.is_empty(),
            "--device",
            "tasks see no devices of the host",
            "for a GPU use --gpus N",
        ),
    ];
    match refusals.into_iter().find(|(given, ..)| *given) {
        None => Ok(()),
        Some((_, flag, reason, hint)) => Err(BadSpec::Refused { flag, reason, hint }),
    }
}

fn network(value: &str) -> Result<v1::Network, BadSpec> {
    match value {
        "bridge" => Ok(v1::Network::Unspecified),
        "none" => Ok(v1::Network::None),
        "host" => Err(BadSpec::Refused {
            flag: "--network host",
            reason: "a task on the host's network could reach what only the host may",
            hint: "the default network reaches other hosts; name this host by its address",
        }),
        _ => Err(BadSpec::Network {
            value: value.to_owned(),
        }),
    }
}

/// Files first, then flags; the later one wins, as in docker.
fn environment(
    flags: &ContainerFlags,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, BadSpec> {
    let mut env = BTreeMap::new();
    for file in &flags.env_file {
        let text = std::fs::read_to_string(file).map_err(|source| BadSpec::EnvFile {
            file: file.clone(),
            source,
        })?;
        for (place, line) in text.lines().enumerate() {
            let entry = line.trim_start();
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            let name = entry.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(BadSpec::EnvFileLine {
                    file: file.clone(),
                    line: place + 1,
                    text: line.to_owned(),
                });
            }
            set(&mut env, entry, variable);
        }
    }
    for entry in &flags.env {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(BadSpec::Variable {
                text: entry.clone(),
            });
        }
        set(&mut env, entry, variable);
    }
    Ok(env)
}

/// A name without a value takes the value from here; without one here it is not set.
fn set(env: &mut BTreeMap<String, String>, entry: &str, variable: &dyn Fn(&str) -> Option<String>) {
    match entry.split_once('=') {
        Some((name, value)) => {
            env.insert(name.to_owned(), value.to_owned());
        }
        None => {
            if let Some(value) = variable(entry) {
                env.insert(entry.to_owned(), value);
            }
        }
    }
}

fn notes(flags: &ContainerFlags, env: &BTreeMap<String, String>) -> Vec<String> {
    let mut notes = Vec::new();
    if flags.rm {
        notes.push(
            "--rm is not needed: muster removes each container after its logs are safe".to_owned(),
        );
    }
    if flags.tty {
        notes.push("-t does nothing: tasks have no terminal".to_owned());
    }
    if flags.interactive {
        notes.push("-i does nothing: tasks have no standard input".to_owned());
    }
    for name in env.keys().filter(|name| looks_secret(name)) {
        notes.push(format!(
            "{name} looks like a secret; its value is stored with the job, and whoever reads the job reads it"
        ));
    }
    notes
}

/// A rule that asks for retries which nothing pays for.
fn useless_rules(flags: &JobFlags) -> Option<String> {
    let is_paid = flags.retries.user.is_some_and(|user| user > 0);
    let oom = i32::from(v1::Outcome::Oom);
    let by_code = |rule: &RetryRule| {
        rule.action == v1::retry_rule::Action::Retry
            && (!rule.exit_codes.is_empty() || rule.outcomes.contains(&oom))
    };
    (!is_paid && flags.retry_rule.iter().any(by_code)).then(|| {
        "--retry-rule …:retry and …:grow do nothing for exit codes and oom without --retries user=N, which pays for it"
            .to_owned()
    })
}

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = [
        "PASSWORD",
        "PASSWD",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "PRIVATE_KEY",
        "ACCESS_KEY",
    ];
    words.iter().any(|word| name.contains(word))
}

fn retry(flags: &JobFlags) -> v1::RetryPolicy {
    use v1::backoff::Kind;
    let backoff = v1::Backoff {
        kind: match flags.backoff {
            None => Kind::Unspecified.into(),
            Some(BackoffKind::Fixed) => Kind::Fixed.into(),
            Some(BackoffKind::Exponential) => Kind::Exponential.into(),
        },
        initial: flags.retry_delay.map(duration),
        cap: flags.retry_delay_max.map(duration),
        no_jitter: flags.no_jitter,
    };
    v1::RetryPolicy {
        user: flags.retries.user,
        infra: flags.retries.infra,
        backoff: (backoff != v1::Backoff::default()).then_some(backoff),
        rules: flags
            .retry_rule
            .iter()
            .flat_map(RetryRule::to_wire)
            .collect(),
    }
}

const fn pin(pin: Pin) -> v1::Pin {
    match pin {
        Pin::Run => v1::Pin::Run,
        Pin::Task => v1::Pin::Task,
        Pin::Digest => v1::Pin::Digest,
    }
}

fn on_disconnect(wish: OnDisconnect) -> Option<v1::OnDisconnect> {
    match wish {
        OnDisconnect::Finish => None,
        OnDisconnect::StopAfter(limit) => Some(v1::OnDisconnect {
            stop_after: Some(duration(limit)),
        }),
    }
}

const fn delivery(delivery: Delivery) -> v1::Delivery {
    match delivery {
        Delivery::AtLeastOnce => v1::Delivery::AtLeastOnce,
        Delivery::AtMostOnce => v1::Delivery::AtMostOnce,
    }
}

fn concurrency(flags: &JobFlags) -> Vec<v1::ConcurrencyKey> {
    let keys = flags.concurrency.iter().map(|entry| v1::ConcurrencyKey {
        key: entry.key.clone(),
        limit: entry.limit,
    });
    keys.collect()
}

fn pairs(given: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = given
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()));
    pairs.collect()
}

/// A span on the wire.
pub(crate) fn duration(span: Millis) -> prost_types::Duration {
    let seconds = i64::try_from(span.0 / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(span.0 % 1000 * 1_000_000).expect("below a second");
    prost_types::Duration { seconds, nanos }
}

#[cfg(test)]
mod tests;
