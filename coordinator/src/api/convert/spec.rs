//! A job's spec between the wire and the core. Reading it is where a bad spec is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::ids::{AgentId, BadName, ChannelName, JobName, PoolName};
use muster_core::image::{Reference, split_tag};
use muster_core::spec::{
    Backoff, BackoffKind, Delivery, ImageSource, Network, Pin, Pull, Requirements, Resources,
    RetryPolicy, Spec, limits,
};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::duration::{millis_from_wire, millis_to_wire};

/// One thing that is wrong with a request. Goes into `google.rpc.BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, e.g. `jobs[2].spec.env`.
    pub field: String,
    /// Names the value and what would be right.
    pub problem: String,
}

/// Collects everything that is wrong, so that one reply names it all.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    pub fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(Violation {
            field: field.to_owned(),
            problem: problem.into(),
        });
    }

    /// Keeps the value of a good result and the problem of a bad one.
    fn check<T, E: std::fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field, error.to_string()))
            .ok()
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const DEFAULT_POOL: &str = "default";
const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_CPU_MILLIS: u32 = 1_000;
const DEFAULT_PIDS: u32 = 256;
const DEFAULT_INFRA_RETRIES: u32 = 3;
const DEFAULT_RUN_TIMEOUT: Millis = Millis::from_secs(86_400);
const DEFAULT_GRACE: Millis = Millis::from_secs(10);

/// Reads a spec, with every default filled in.
///
/// # Errors
/// Names every field that is wrong; nothing of the spec is used then.
pub fn spec_from_wire(wire: &pb::JobSpec) -> Result<Spec, Vec<Violation>> {
    let mut bad = Violations::default();
    let spec = read_spec(wire, &mut bad);
    match spec {
        Some(spec) if bad.is_empty() => Ok(spec),
        Some(_) | None => Err(bad.into_vec()),
    }
}

fn read_spec(wire: &pb::JobSpec, bad: &mut Violations) -> Option<Spec> {
    // Complete, so that a new field of the wire breaks the build until it is read.
    let pb::JobSpec {
        name,
        image,
        pin,
        pull,
        entrypoint,
        command,
        env,
        labels,
        workdir,
        user,
        resources,
        pool,
        require,
        agent,
        priority,
        queue_timeout,
        run_timeout,
        kill_grace,
        retry,
        success_codes,
        delivery,
        concurrency,
        network,
        writable_root,
    } = wire;
    let entrypoint = entrypoint.as_ref().map(|argv| argv.args.clone());
    check_argv(entrypoint.as_deref(), command, bad);
    check_env(env, bad);
    check_labels("labels", labels, bad);
    check_labels("require", require, bad);
    let image_source = read_image(image, *pin, bad);
    let pull = read_pull(*pull, bad);
    let delivery = read_delivery(*delivery, bad);
    let network = read_network(*network, bad);
    let retry = read_retry(retry.as_ref(), bad);
    let requirements = Requirements {
        pool: read_pool(pool, bad)?,
        labels: require.clone(),
        agent: read_optional(agent, AgentId::parse, "agent", bad),
        resources: read_resources(resources.as_ref(), bad),
        held: None,
        concurrency: read_concurrency(concurrency, bad),
    };
    check_priority(*priority, bad);
    let queue_timeout = read_span(
        "queue_timeout",
        queue_timeout.as_ref(),
        limits::RUN_TIMEOUT,
        bad,
    );
    let run_timeout = read_span(
        "run_timeout",
        run_timeout.as_ref(),
        limits::RUN_TIMEOUT,
        bad,
    );
    let kill_grace = read_grace(kill_grace.as_ref(), bad);
    let success_codes = read_success_codes(success_codes, bad);
    let workdir = read_workdir(workdir, bad);
    let user = read_user(user, bad);
    Some(Spec {
        name: read_name(name, image, bad)?,
        image: image_source?,
        pull: pull?,
        entrypoint,
        command: command.clone(),
        env: env.clone(),
        labels: labels.clone(),
        workdir,
        user,
        requirements: Arc::new(requirements),
        priority: *priority,
        queue_timeout,
        run_timeout: run_timeout.unwrap_or(DEFAULT_RUN_TIMEOUT),
        kill_grace,
        retry,
        success_codes,
        delivery: delivery?,
        network: network?,
        writable_root: *writable_root,
    })
}

fn read_name(name: &str, image: &str, bad: &mut Violations) -> Option<JobName> {
    if !name.is_empty() {
        return bad.check(
            "name",
            JobName::parse(name).map_err(|error| quoted(name, &error)),
        );
    }
    let repository = split_tag(image.split('@').next().unwrap_or(image)).0;
    let base = repository.rsplit('/').next().unwrap_or(repository);
    // A bad image is reported as such; the name it would give is not a second mistake.
    JobName::parse(base).ok()
}

fn read_pool(pool: &str, bad: &mut Violations) -> Option<PoolName> {
    let text = if pool.is_empty() { DEFAULT_POOL } else { pool };
    bad.check(
        "pool",
        PoolName::parse(text).map_err(|error| quoted(text, &error)),
    )
}

fn quoted(value: &str, error: &BadName) -> String {
    format!("{value:?} {error}")
}

fn read_optional<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, BadName>,
    field: &str,
    bad: &mut Violations,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    bad.check(field, parse(text).map_err(|error| quoted(text, &error)))
}

fn read_image(image: &str, pin: i32, bad: &mut Violations) -> Option<ImageSource> {
    let pin = match pb::Pin::try_from(pin) {
        Ok(pb::Pin::Unspecified | pb::Pin::Task) => Pin::Task,
        Ok(pb::Pin::Run) => Pin::Run,
        Err(_) => {
            bad.add("pin", format!("{pin} is not a pin: PIN_TASK or PIN_RUN"));
            return None;
        }
    };
    if image.is_empty() {
        bad.add(
            "image",
            "is empty; give a channel's name or a reference such as etl:1",
        );
        return None;
    }
    if !image.contains(['/', ':', '@']) {
        let name = bad.check(
            "image",
            ChannelName::parse(image).map_err(|e| quoted(image, &e)),
        )?;
        return Some(ImageSource::Channel { name, pin });
    }
    bad.check("image", image.parse::<Reference>())?;
    Some(ImageSource::Reference {
        text: image.to_owned(),
    })
}

fn read_pull(pull: i32, bad: &mut Violations) -> Option<Pull> {
    match pb::PullPolicy::try_from(pull) {
        Ok(pb::PullPolicy::Unspecified | pb::PullPolicy::Missing) => Some(Pull::Missing),
        Ok(pb::PullPolicy::Never) => Some(Pull::Never),
        Err(_) => {
            bad.add(
                "pull",
                format!("{pull} is not a pull policy: missing or never"),
            );
            None
        }
    }
}

fn read_delivery(delivery: i32, bad: &mut Violations) -> Option<Delivery> {
    match pb::Delivery::try_from(delivery) {
        Ok(pb::Delivery::Unspecified | pb::Delivery::AtLeastOnce) => Some(Delivery::AtLeastOnce),
        Ok(pb::Delivery::AtMostOnce) => Some(Delivery::AtMostOnce),
        Err(_) => {
            bad.add(
                "delivery",
                format!("{delivery} is not at_least_once or at_most_once"),
            );
            None
        }
    }
}

fn read_network(network: i32, bad: &mut Violations) -> Option<Network> {
    match pb::Network::try_from(network) {
        Ok(pb::Network::Unspecified | pb::Network::Bridge) => Some(Network::Bridge),
        Ok(pb::Network::None) => Some(Network::None),
        Err(_) => {
            bad.add("network", format!("{network} is not bridge or none"));
            None
        }
    }
}

fn check_argv(entrypoint: Option<&[String]>, command: &[String], bad: &mut Violations) {
    if entrypoint.is_some_and(<[String]>::is_empty) {
        bad.add(
            "entrypoint.args",
            "is empty; leave the entrypoint out to use the image's own",
        );
    }
    if entrypoint
        .and_then(<[String]>::first)
        .is_some_and(String::is_empty)
    {
        bad.add(
            "entrypoint.args[0]",
            "is empty; it names the program to run",
        );
    }
    if entrypoint.is_none() && command.first().is_some_and(String::is_empty) {
        bad.add("command[0]", "is empty; it names the program to run");
    }
    let all = || entrypoint.unwrap_or_default().iter().chain(command);
    let (count, bytes) = (all().count(), all().map(String::len).sum::<usize>());
    if count > limits::ARGS {
        bad.add(
            "command",
            format!("has {count} arguments; at most {}", limits::ARGS),
        );
    }
    if bytes > limits::ARGS_BYTES {
        bad.add(
            "command",
            format!("is {bytes} bytes long; at most {}", limits::ARGS_BYTES),
        );
    }
    if all().any(|argument| argument.contains('\0')) {
        bad.add("command", "has a NUL byte, which no argument can hold");
    }
}

fn check_env(env: &BTreeMap<String, String>, bad: &mut Violations) {
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    if bytes > limits::ENV_BYTES {
        bad.add(
            "env",
            format!("is {bytes} bytes long; at most {}", limits::ENV_BYTES),
        );
    }
    for (name, value) in env {
        let field = format!("env[{name:?}]");
        if name.is_empty() || name.contains(['=', '\0']) {
            bad.add(
                &field,
                "is not a variable's name: not empty, without '=' and NUL",
            );
        } else if name.starts_with("MUSTER_") {
            bad.add(&field, "names beginning with MUSTER_ are set by muster");
        }
        if value.contains('\0') {
            bad.add(&field, "has a NUL byte in its value");
        }
    }
}

fn check_labels(field: &str, labels: &BTreeMap<String, String>, bad: &mut Violations) {
    if labels.len() > limits::LABELS {
        bad.add(
            field,
            format!("has {} labels; at most {}", labels.len(), limits::LABELS),
        );
    }
    for (name, value) in labels {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if name.is_empty() || name.len() > limits::LABEL_VALUE || !name.chars().all(known) {
            bad.add(
                &format!("{field}[{name:?}]"),
                "is not a label: letters, digits, . _ - /",
            );
        }
        if value.len() > limits::LABEL_VALUE || value.chars().any(char::is_control) {
            let problem = format!("{value:?} is longer than 256 bytes or has control characters");
            bad.add(&format!("{field}[{name:?}]"), problem);
        }
    }
}

fn read_resources(wire: Option<&pb::Resources>, bad: &mut Violations) -> Resources {
    let default = pb::Resources::default();
    let pb::Resources {
        cpu_millis,
        memory_bytes,
        pids,
        gpus,
        custom,
    } = wire.unwrap_or(&default);
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let memory = or(*memory_bytes, DEFAULT_MEMORY);
    if !(limits::MEMORY_MIN..=limits::MEMORY_MAX).contains(&memory) {
        bad.add(
            "resources.memory_bytes",
            format!("{memory} is not between 6 MiB and 64 TiB"),
        );
    }
    let cpu_millis = if *cpu_millis == 0 {
        DEFAULT_CPU_MILLIS
    } else {
        *cpu_millis
    };
    if !(10..=limits::CPU_MILLIS).contains(&cpu_millis) {
        bad.add(
            "resources.cpu_millis",
            format!("{cpu_millis} is not between 10 and 1024000"),
        );
    }
    let pids = if *pids == 0 { DEFAULT_PIDS } else { *pids };
    if pids > limits::PIDS {
        bad.add(
            "resources.pids",
            format!("{pids} is more than {}", limits::PIDS),
        );
    }
    if *gpus > 64 {
        bad.add("resources.gpus", format!("{gpus} is more than 64"));
    }
    for name in custom.keys() {
        bad.check(&format!("resources.custom[{name:?}]"), JobName::parse(name));
    }
    Resources {
        cpu_millis,
        memory_bytes: memory,
        pids,
        gpus: *gpus,
        custom: custom.clone(),
    }
}

fn read_concurrency(wire: &[pb::ConcurrencyKey], bad: &mut Violations) -> BTreeMap<String, u32> {
    let mut keys = BTreeMap::new();
    if wire.len() > limits::CONCURRENCY_KEYS {
        let problem = format!(
            "has {} keys; at most {}",
            wire.len(),
            limits::CONCURRENCY_KEYS
        );
        bad.add("concurrency", problem);
    }
    for (place, pb::ConcurrencyKey { key, limit }) in wire.iter().enumerate() {
        let field = format!("concurrency[{place}]");
        if key.is_empty() || key.len() > limits::KEY || key.chars().any(char::is_control) {
            bad.add(
                &format!("{field}.key"),
                format!("{key:?} is not 1 to 200 printable bytes"),
            );
        }
        if *limit == 0 {
            bad.add(&format!("{field}.limit"), "is 0; no task could ever run");
        }
        if keys.insert(key.clone(), *limit).is_some() {
            bad.add(
                &format!("{field}.key"),
                format!("{key:?} stands there twice"),
            );
        }
    }
    keys
}

fn read_retry(wire: Option<&pb::RetryPolicy>, bad: &mut Violations) -> RetryPolicy {
    let pb::RetryPolicy {
        user,
        infra,
        backoff,
    } = wire.cloned().unwrap_or_default();
    let policy = RetryPolicy {
        user: user.unwrap_or(0),
        infra: infra.unwrap_or(DEFAULT_INFRA_RETRIES),
        backoff: read_backoff(backoff.as_ref(), bad),
    };
    for (field, value) in [("retry.user", policy.user), ("retry.infra", policy.infra)] {
        if value > limits::RETRIES {
            bad.add(field, format!("{value} is more than {}", limits::RETRIES));
        }
    }
    policy
}

fn read_backoff(wire: Option<&pb::Backoff>, bad: &mut Violations) -> Backoff {
    let default = Backoff::default();
    let Some(pb::Backoff {
        kind,
        initial,
        cap,
        no_jitter,
    }) = wire
    else {
        return default;
    };
    let kind = match pb::backoff::Kind::try_from(*kind) {
        Ok(pb::backoff::Kind::Fixed) => BackoffKind::Fixed,
        Ok(pb::backoff::Kind::Unspecified | pb::backoff::Kind::Exponential) => {
            BackoffKind::Exponential
        }
        Err(_) => {
            bad.add(
                "retry.backoff.kind",
                format!("{kind} is not fixed or exponential"),
            );
            default.kind
        }
    };
    let initial = read_span(
        "retry.backoff.initial",
        initial.as_ref(),
        limits::BACKOFF,
        bad,
    );
    let cap = read_span("retry.backoff.cap", cap.as_ref(), limits::BACKOFF, bad);
    let initial = initial.unwrap_or(default.initial);
    // A longer first delay than the default cap is meant as written.
    let cap = cap.unwrap_or_else(|| default.cap.max(initial));
    if cap < initial {
        bad.add(
            "retry.backoff.cap",
            format!("{cap} is shorter than the initial delay {initial}"),
        );
    }
    Backoff {
        kind,
        initial,
        cap,
        jitter: !no_jitter,
    }
}

/// A span above zero and up to `most`.
fn read_span(
    field: &str,
    wire: Option<&prost_types::Duration>,
    most: Millis,
    bad: &mut Violations,
) -> Option<Millis> {
    let wire = wire?;
    match millis_from_wire(wire) {
        Some(span) if span.0 > 0 && span <= most => Some(span),
        Some(_) | None => {
            bad.add(
                field,
                format!("{} s is not between 1 ms and {most}", wire.seconds),
            );
            None
        }
    }
}

/// Unlike other spans it may be zero: KILL at once.
fn read_grace(wire: Option<&prost_types::Duration>, bad: &mut Violations) -> Millis {
    let Some(wire) = wire else {
        return DEFAULT_GRACE;
    };
    match millis_from_wire(wire) {
        Some(span) if span <= limits::GRACE => span,
        Some(_) | None => {
            bad.add(
                "kill_grace",
                format!("{} s is not between 0 and {}", wire.seconds, limits::GRACE),
            );
            DEFAULT_GRACE
        }
    }
}

fn check_priority(priority: i32, bad: &mut Violations) {
    if !(-limits::PRIORITY..=limits::PRIORITY).contains(&priority) {
        bad.add(
            "priority",
            format!("{priority} is not between -1000 and 1000"),
        );
    }
}

fn read_success_codes(wire: &[u32], bad: &mut Violations) -> Vec<u8> {
    let mut codes = Vec::new();
    for code in wire {
        match u8::try_from(*code) {
            Ok(code) => codes.push(code),
            Err(_) => bad.add("success_codes", format!("{code} is not between 0 and 255")),
        }
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn read_workdir(workdir: &str, bad: &mut Violations) -> Option<String> {
    if workdir.is_empty() {
        return None;
    }
    if !workdir.starts_with('/') || workdir.contains('\0') || workdir.len() > 4096 {
        bad.add("workdir", format!("{workdir:?} is not an absolute path"));
    }
    Some(workdir.to_owned())
}

fn read_user(user: &str, bad: &mut Violations) -> Option<String> {
    if user.is_empty() {
        return None;
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if user.len() > limits::KEY || !user.chars().all(known) || user.starts_with(['-', ':']) {
        bad.add(
            "user",
            format!("{user:?} is not a user such as 1000, 1000:1000 or etl"),
        );
    }
    Some(user.to_owned())
}

/// Writes a spec with every value that is used, also those the client left out.
#[must_use]
pub fn spec_to_wire(spec: &Spec) -> pb::JobSpec {
    let Spec {
        name,
        image,
        pull,
        entrypoint,
        command,
        env,
        labels,
        workdir,
        user,
        requirements,
        priority,
        queue_timeout,
        run_timeout,
        kill_grace,
        retry,
        success_codes,
        delivery,
        network,
        writable_root,
    } = spec;
    // What `held` names is the job's pinned image, which has its own place.
    let Requirements {
        pool,
        labels: require,
        agent,
        resources,
        held: _,
        concurrency,
    } = requirements.as_ref();
    let (image, pin) = image_to_wire(image);
    pb::JobSpec {
        name: name.to_string(),
        image,
        pin: pin.into(),
        pull: match pull {
            Pull::Missing => pb::PullPolicy::Missing,
            Pull::Never => pb::PullPolicy::Never,
        }
        .into(),
        entrypoint: entrypoint.clone().map(|args| pb::Argv { args }),
        command: command.clone(),
        env: env.clone(),
        labels: labels.clone(),
        workdir: workdir.clone().unwrap_or_default(),
        user: user.clone().unwrap_or_default(),
        resources: Some(resources_to_wire(resources)),
        pool: pool.to_string(),
        require: require.clone(),
        agent: agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        priority: *priority,
        queue_timeout: queue_timeout.map(millis_to_wire),
        run_timeout: Some(millis_to_wire(*run_timeout)),
        kill_grace: Some(millis_to_wire(*kill_grace)),
        retry: Some(retry_to_wire(retry)),
        success_codes: success_codes.iter().copied().map(u32::from).collect(),
        delivery: match delivery {
            Delivery::AtLeastOnce => pb::Delivery::AtLeastOnce,
            Delivery::AtMostOnce => pb::Delivery::AtMostOnce,
        }
        .into(),
        concurrency: concurrency
            .iter()
            .map(|(key, limit)| pb::ConcurrencyKey {
                key: key.clone(),
                limit: *limit,
            })
            .collect(),
        network: match network {
            Network::Bridge => pb::Network::Bridge,
            Network::None => pb::Network::None,
        }
        .into(),
        writable_root: *writable_root,
    }
}

fn image_to_wire(image: &ImageSource) -> (String, pb::Pin) {
    match image {
        ImageSource::Channel {
            name,
            pin: Pin::Task,
        } => (name.to_string(), pb::Pin::Task),
        ImageSource::Channel {
            name,
            pin: Pin::Run,
        } => (name.to_string(), pb::Pin::Run),
        ImageSource::Reference { text } => (text.clone(), pb::Pin::Unspecified),
    }
}

pub(crate) fn resources_to_wire(resources: &Resources) -> pb::Resources {
    let Resources {
        cpu_millis,
        memory_bytes,
        pids,
        gpus,
        custom,
    } = resources;
    pb::Resources {
        cpu_millis: *cpu_millis,
        memory_bytes: *memory_bytes,
        pids: *pids,
        gpus: *gpus,
        custom: custom.clone(),
    }
}

fn retry_to_wire(retry: &RetryPolicy) -> pb::RetryPolicy {
    let RetryPolicy {
        user,
        infra,
        backoff:
            Backoff {
                kind,
                initial,
                cap,
                jitter,
            },
    } = *retry;
    let kind = match kind {
        BackoffKind::Fixed => pb::backoff::Kind::Fixed,
        BackoffKind::Exponential => pb::backoff::Kind::Exponential,
    };
    pb::RetryPolicy {
        user: Some(user),
        infra: Some(infra),
        backoff: Some(pb::Backoff {
            kind: kind.into(),
            initial: Some(millis_to_wire(initial)),
            cap: Some(millis_to_wire(cap)),
            no_jitter: !jitter,
        }),
    }
}

#[cfg(test)]
mod tests;
