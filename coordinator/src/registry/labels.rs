//! What an image says of itself, in the labels of its configuration.

use std::collections::BTreeMap;

use muster_core::rollout::Facts;
use muster_core::spec::limits;
use serde::Deserialize;

/// From the OCI image specification's list of annotations.
const REVISION: &str = "org.opencontainers.image.revision";
const CREATED: &str = "org.opencontainers.image.created";
/// The command that tries the image out: a JSON array, or words with spaces between them.
const VALIDATE: &str = "muster.validate";
/// The file in the image that says more; see `carried`.
const MANIFESTS: &str = "muster.manifests";
/// Longest value that is kept of the first two, in bytes.
const VALUE_MAX: usize = 128;

/// The parts of an image's configuration that are looked at.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Image {
    created: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

/// Reads the configuration. What is not there or of another form is left out: labels are for people
/// first, and an image without them is as good as any.
///
/// With them comes the path of the file that the image carries, if it names one.
pub(super) fn facts(config: &str) -> (Facts, Option<String>) {
    let Image {
        created,
        os,
        architecture,
        config,
    } = serde_json::from_str(config).unwrap_or_default();
    let platform = os.zip(architecture);
    let labels = config.and_then(|config| config.labels).unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let built = labels.get(CREATED).cloned().or(created).unwrap_or_default();
    let facts = Facts {
        revision: short(label(REVISION)),
        created: short(built),
        validate: command(&label(VALIDATE)),
        policy: None,
        platforms: platform
            .map(|(os, architecture)| format!("{os}/{architecture}"))
            .into_iter()
            .collect(),
        accepted: String::new(),
        objection: None,
    };
    (facts, labels.get(MANIFESTS).cloned())
}

fn short(mut text: String) -> String {
    let end = (0..=VALUE_MAX.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

fn command(label: &str) -> Vec<String> {
    let words = || label.split_whitespace().map(ToOwned::to_owned).collect();
    let command: Vec<String> = serde_json::from_str(label).unwrap_or_else(|_| words());
    let bytes: usize = command.iter().map(String::len).sum();
    if command.len() > limits::ARGS || bytes > limits::ARGS_BYTES {
        return Vec::new();
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_what_is_missing_is_empty() {
        let config = r#"{"created": "2026-11-20T10:00:00Z",
            "os": "linux", "architecture": "arm64", "config": {"Labels": {
            "org.opencontainers.image.revision": "8f2c1aa",
            "muster.manifests": "/muster.yaml",
            "muster.validate": "[\"python\", \"smoke test.py\"]"}}}"#;
        let (found, carried) = facts(config);
        assert_eq!(carried.as_deref(), Some("/muster.yaml"));
        assert_eq!(found.revision, "8f2c1aa");
        assert_eq!(found.created, "2026-11-20T10:00:00Z");
        assert_eq!(found.validate, ["python", "smoke test.py"]);
        assert_eq!(found.platforms, ["linux/arm64".to_owned()].into());
        for nothing in [
            "",
            "{}",
            r#"{"config": null}"#,
            r#"{"config": {"Labels": null}}"#,
        ] {
            assert_eq!(facts(nothing), (Facts::default(), None), "{nothing}");
        }
    }

    #[test]
    fn a_command_may_be_words() {
        assert_eq!(command("python  smoke.py"), ["python", "smoke.py"]);
        assert_eq!(command(""), Vec::<String>::new());
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(short("é".repeat(100)).len(), 128);
    }
}
