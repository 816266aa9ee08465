//! Bounds of texts: arguments, environment, labels.

use std::collections::BTreeMap;

use muster_core::spec::limits;

use super::Violations;

pub(in crate::api::convert) fn check_argv(
    entrypoint: Option<&[String]>,
    command: &[String],
    bad: &mut Violations,
) {
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

pub(super) fn check_env(env: &BTreeMap<String, String>, bad: &mut Violations) {
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

pub(super) fn check_labels(field: &str, labels: &BTreeMap<String, String>, bad: &mut Violations) {
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
