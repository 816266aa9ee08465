//! The client's settings and where each comes from.
//!
//! Flag, then environment, then the context of the user's file, then the system's file, then the default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::args::{ColorChoice, Format, Global};

/// Where files of the whole host are.
pub(crate) const SYSTEM_DIR: &str = "/etc/muster";

/// The client's settings, each with its origin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) addr: Setting<String>,
    pub(crate) team: Setting<String>,
    pub(crate) context: Setting<String>,
    pub(crate) output: Setting<Format>,
    pub(crate) color: Setting<ColorChoice>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    Context { name: String, file: PathBuf },
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Context { name, file } => write!(f, "context {name} in {}", file.display()),
            Self::File(file) => write!(f, "file {}", file.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadConfig {
    #[error("{} cannot be read", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not what it should be", file.display())]
    Parse {
        file: PathBuf,
        source: Box<serde_saphyr::Error>,
    },
    #[error("there is no context {name:?} in {}", file.display())]
    NoContext { name: String, file: PathBuf },
    #[error("{origin}: {value:?} is not an output format: table, wide, json, jsonl, yaml or name")]
    Format { origin: Origin, value: String },
}

/// What settings are read from. A value, so that tests have their own.
pub(crate) struct Sources<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// `~/.config/muster/config.yaml`.
    pub(crate) user_file: Option<PathBuf>,
    /// `/etc/muster/client.yaml`.
    pub(crate) system_file: PathBuf,
}

/// `config.yaml` of a user.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    /// The context to use when none is named.
    current_context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Values>,
}

/// One context, or the system's file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    addr: Option<String>,
    team: Option<String>,
    output: Option<String>,
}

impl Settings {
    pub(crate) fn resolve(flags: &Global, sources: &Sources<'_>) -> Result<Self, BadConfig> {
        let user_file = sources.user_file.clone().unwrap_or_default();
        let user: UserFile = read(&user_file)?.unwrap_or_default();
        let system: Values = read(&sources.system_file)?.unwrap_or_default();

        let variable = |name| (sources.variable)(name).filter(|value| !value.is_empty());
        let current = user
            .current_context
            .clone()
            .map(|name| (name, Origin::File(user_file.clone())));
        let context = pick(
            (flags.context.clone(), "--context"),
            (variable("MUSTER_CONTEXT"), "MUSTER_CONTEXT"),
            [current],
            "",
        );
        let chosen = match context.value.as_str() {
            "" => Values::default(),
            name => {
                let known = user.contexts.get(name).cloned();
                known.ok_or_else(|| BadConfig::NoContext {
                    name: name.to_owned(),
                    file: user_file.clone(),
                })?
            }
        };
        let in_context = Origin::Context {
            name: context.value.clone(),
            file: user_file,
        };
        let in_system = Origin::File(sources.system_file.clone());
        let files = |from_context: Option<String>, from_system: Option<String>| {
            [
                from_context.map(|value| (value, in_context.clone())),
                from_system.map(|value| (value, in_system.clone())),
            ]
        };
        let output = pick(
            (flags.output.map(word), "--output"),
            (variable("MUSTER_OUTPUT"), "MUSTER_OUTPUT"),
            files(chosen.output, system.output),
            "table",
        );
        Ok(Self {
            addr: pick(
                (flags.addr.clone(), "--addr"),
                (variable("MUSTER_ADDR"), "MUSTER_ADDR"),
                files(chosen.addr, system.addr),
                "http://127.0.0.1:7380",
            ),
            team: pick(
                (flags.team.clone(), "--team"),
                (variable("MUSTER_TEAM"), "MUSTER_TEAM"),
                files(chosen.team, system.team),
                "default",
            ),
            output: parse_format(output)?,
            color: color(flags, sources),
            context,
        })
    }

    /// Name, value and origin of every setting.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String, &Origin)> {
        let Self {
            addr,
            team,
            context,
            output,
            color,
        } = self;
        vec![
            ("addr", addr.value.clone(), &addr.origin),
            ("team", team.value.clone(), &team.origin),
            ("context", context.value.clone(), &context.origin),
            ("output", word(output.value), &output.origin),
            ("color", word(color.value), &color.origin),
        ]
    }
}

/// The first that is there: flag, variable, files in their order, default.
fn pick<const N: usize>(
    flag: (Option<String>, &'static str),
    variable: (Option<String>, &'static str),
    files: [Option<(String, Origin)>; N],
    default: &str,
) -> Setting<String> {
    let flag = flag.0.map(|value| (value, Origin::Flag(flag.1)));
    let variable = variable
        .0
        .map(|value| (value, Origin::Variable(variable.1)));
    let file = || files.into_iter().flatten().next();
    let (value, origin) = flag
        .or(variable)
        .or_else(file)
        .unwrap_or_else(|| (default.to_owned(), Origin::Default));
    Setting { value, origin }
}

fn parse_format(text: Setting<String>) -> Result<Setting<Format>, BadConfig> {
    let Setting { value, origin } = text;
    match Format::from_str(&value, false) {
        Ok(value) => Ok(Setting { value, origin }),
        Err(_) => Err(BadConfig::Format { origin, value }),
    }
}

/// `NO_COLOR` counts when it is not empty, as no-color.org has it.
fn color(flags: &Global, sources: &Sources<'_>) -> Setting<ColorChoice> {
    if let Some(value) = flags.color {
        let origin = Origin::Flag("--color");
        return Setting { value, origin };
    }
    let set = |name: &&str| (sources.variable)(name).is_some_and(|value| !value.is_empty());
    match ["MUSTER_NO_COLOR", "NO_COLOR"].into_iter().find(set) {
        Some(name) => Setting {
            value: ColorChoice::Never,
            origin: Origin::Variable(name),
        },
        None => Setting {
            value: ColorChoice::Auto,
            origin: Origin::Default,
        },
    }
}

/// `None` if there is no such file.
fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Option<T>, BadConfig> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let file = file.to_owned();
            return Err(BadConfig::Read { file, source });
        }
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match serde_saphyr::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(BadConfig::Parse {
            file: file.to_owned(),
            source: Box::new(source),
        }),
    }
}

/// `coordinator.yaml` or `agent.yaml`: flags by name, e.g. `data_dir: /srv/muster`.
pub(crate) fn daemon_file(file: &Path) -> Result<BTreeMap<String, String>, BadConfig> {
    Ok(read(file)?.unwrap_or_default())
}

/// The user's own directory for settings, as the XDG rules have it.
pub(crate) fn user_file(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let base = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(base.join("muster/config.yaml"))
}

fn word<T: ValueEnum>(value: T) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests;
