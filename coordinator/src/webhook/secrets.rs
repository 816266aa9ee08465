//! What senders must know: a YAML file with one entry for each adapter.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use serde::Deserialize;

use super::Adapter;

/// Shorter ones can be guessed.
const LENGTH_MIN: usize = 16;
/// Of the file.
const FILE_MAX: usize = 1 << 20;

/// A secret that muster shares with a sender. Its value is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Compares in a time that depends on the lengths only.
    pub(super) fn is(&self, presented: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), presented.as_bytes()).is_ok()
    }

    /// Whether `tag` is the HMAC-SHA256 of `message` under this secret. With `whsec_` before it
    /// the secret is base64, as Standard Webhooks writes it.
    pub(super) fn signed(&self, message: &[u8], tag: &[u8]) -> bool {
        use base64::Engine as _;
        let standard = &base64::engine::general_purpose::STANDARD;
        let encoded = self.0.strip_prefix("whsec_");
        let decoded = encoded.and_then(|text| standard.decode(text).ok());
        let key = decoded.as_deref().unwrap_or(self.0.as_bytes());
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), message, tag).is_ok()
    }
}

/// The secrets of all adapters; two for one adapter while one replaces the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<Adapter, Vec<Secret>>);

/// Why a file of secrets was not taken. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum BadSecrets {
    #[error("{} could not be read", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the file of webhook secrets is larger than 1 MiB")]
    TooLarge,
    #[error(
        "the file of webhook secrets is not of the form `ADAPTER: {{secrets: [TEXT, ...]}}`{}",
        at_line(*line)
    )]
    Syntax { line: Option<u64> },
    #[error(
        "the file of webhook secrets names an adapter {word:?}; there are {}",
        words()
    )]
    Adapter { word: String },
    #[error("a webhook secret of {adapter} is shorter than {LENGTH_MIN} characters")]
    TooShort { adapter: &'static str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    secrets: Vec<String>,
}

impl Secrets {
    /// # Errors
    /// If the file cannot be read, or as `parse`.
    pub fn load(path: &Path) -> Result<Self, BadSecrets> {
        let text = std::fs::read_to_string(path).map_err(|source| {
            let path = path.to_owned();
            BadSecrets::Unreadable { path, source }
        })?;
        Self::parse(&text)
    }

    /// # Errors
    /// If `text` has another form, names an unknown adapter, or has a secret that is too short.
    pub fn parse(text: &str) -> Result<Self, BadSecrets> {
        if text.len() > FILE_MAX {
            return Err(BadSecrets::TooLarge);
        }
        let entries: BTreeMap<String, Entry> =
            serde_saphyr::from_str(text).map_err(|error| BadSecrets::Syntax {
                line: error.location().map(|location| location.line()),
            })?;
        let mut all = BTreeMap::new();
        for (word, Entry { secrets }) in entries {
            let Some(adapter) = Adapter::from_word(&word) else {
                return Err(BadSecrets::Adapter { word });
            };
            if secrets.iter().any(|secret| secret.len() < LENGTH_MIN) {
                let adapter = adapter.as_str();
                return Err(BadSecrets::TooShort { adapter });
            }
            all.insert(adapter, secrets.into_iter().map(Secret).collect());
        }
        Ok(Self(all))
    }

    /// Which adapters have how many, and nothing of what they are.
    pub(crate) fn summary(&self) -> String {
        let all = self.0.iter();
        let each: Vec<String> = all
            .map(|(adapter, secrets)| format!("{}: {} secrets", adapter.as_str(), secrets.len()))
            .collect();
        if each.is_empty() {
            return "none".to_owned();
        }
        each.join(", ")
    }

    pub(super) fn of(&self, adapter: Adapter) -> &[Secret] {
        self.0.get(&adapter).map_or(&[], Vec::as_slice)
    }
}

fn at_line(line: Option<u64>) -> String {
    line.map(|line| format!(" (line {line})"))
        .unwrap_or_default()
}

fn words() -> String {
    Adapter::ALL.map(Adapter::as_str).join(", ")
}
