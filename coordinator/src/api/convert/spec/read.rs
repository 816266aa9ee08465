//! Reading a spec, field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::ids::{AgentId, BadName, ChannelName, JobName, PoolName};
use muster_core::image::{Reference, split_tag};
use muster_core::spec::{
    Delivery, ImageSource, Network, OnDisconnect, Pin, Pull, Requirements, Spec, limits,
};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::amounts::{read_grace, read_resources, read_retry, read_span};
use super::checks::{check_argv, check_env, check_labels};
use super::{Violation, Violations};

const DEFAULT_POOL: &str = "default";
const DEFAULT_RUN_TIMEOUT: Millis = Millis::from_secs(86_400);

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

#[expect(clippy::too_many_lines, reason = "one line for each field of the wire")]
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
        on_disconnect,
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
    let resources = read_resources(resources.as_ref(), bad);
    let retry = read_retry(retry.as_ref(), resources.memory_bytes, bad);
    let on_disconnect = read_on_disconnect(on_disconnect.as_ref(), bad);
    let requirements = Requirements {
        pool: read_pool(pool, bad)?,
        labels: require.clone(),
        agent: read_optional(agent, AgentId::parse, "agent", bad),
        resources,
        held: None,
        concurrency: read_concurrency(concurrency, bad),
        lease: on_disconnect != OnDisconnect::Finish,
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
        on_disconnect,
        network: network?,
        writable_root: *writable_root,
    })
}

fn read_on_disconnect(wire: Option<&pb::OnDisconnect>, bad: &mut Violations) -> OnDisconnect {
    let Some(pb::OnDisconnect {
        stop_after: Some(span),
    }) = wire
    else {
        return OnDisconnect::Finish;
    };
    let field = "on_disconnect.stop_after";
    let span = read_span(field, Some(span), limits::RUN_TIMEOUT, bad);
    span.map_or(OnDisconnect::Finish, OnDisconnect::StopAfter)
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
    let (pin, by_digest) = match pb::Pin::try_from(pin) {
        Ok(pb::Pin::Unspecified | pb::Pin::Task) => (Pin::Task, false),
        Ok(pb::Pin::Run) => (Pin::Run, false),
        Ok(pb::Pin::Digest) => (Pin::Run, true),
        Err(_) => {
            let problem = format!("{pin} is not a pin: PIN_TASK, PIN_RUN or PIN_DIGEST");
            bad.add("pin", problem);
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
    if by_digest && !image.contains("@sha256:") {
        let problem = format!(
            "{image:?} names no digest, and the pin is PIN_DIGEST; give repository@sha256:..., or another pin"
        );
        bad.add("image", problem);
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
