//! Values of settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use muster_core::ids::{BadName, JobName};

use super::{ImageGc, InitChoice};
use crate::policy::BadPolicy;

/// A setting that can't be used. Every message names the variable and its value.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    #[error(
        "{variable} is not set: the agent needs a coordinator, e.g. http://127.0.0.1:7380 (or --coordinator)"
    )]
    NoCoordinator { variable: &'static str },
    #[error("{variable}: {text:?} is neither http://HOST:PORT, https://HOST:PORT nor unix:///PATH")]
    Coordinator {
        variable: &'static str,
        text: String,
    },
    #[error("{name} is no setting of the agent{}", hint.map(|hint| format!("; did you mean {hint}?")).unwrap_or_default())]
    Unknown {
        name: String,
        hint: Option<&'static str>,
    },
    #[error("{variable}: {text:?} {bad}")]
    Name {
        variable: &'static str,
        text: String,
        bad: BadName,
    },
    #[error("{variable}: {text:?} is not of the form key=value,key=value")]
    Labels {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a whole number from 1 to 100000")]
    Count {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a number of CPUs such as 2 or 0.5")]
    Cpus {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a size such as 512MiB or 4g")]
    Size {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a whole percentage from 0 to {PERCENT_MOST}")]
    Percent {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a whole number from 0 to {WARM_MOST}")]
    Warm {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is neither off nor two percentages such as 80-70")]
    ImageGc {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is neither muster nor engine")]
    Init {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a number of GPUs from 0 to {GPUS_MOST}")]
    Gpus {
        variable: &'static str,
        text: String,
    },
    #[error(
        "{variable}: {text:?} is not of the form name=amount,name=amount, with whole amounts above zero and each name once"
    )]
    Resources {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a loopback address with a port such as 127.0.0.1:9184")]
    Listen {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: the policy file {path} can't be used")]
    Policy {
        variable: &'static str,
        path: String,
        #[source]
        bad: Box<BadPolicy>,
    },
}

const PERCENT_MOST: u8 = 90;
/// Each costs the host memory and a process of the engine, whether a task comes or not.
const WARM_MOST: u32 = 1_000;
/// What a task may ask for at most; more could never be used by one.
const GPUS_MOST: u32 = 64;

/// The variables of the process.
pub(super) struct Vars<'a>(pub(super) &'a BTreeMap<String, String>);

impl Vars<'_> {
    /// An empty variable is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    pub(super) fn refuse_unknown(
        &self,
        prefix: &str,
        known: &[&'static str],
    ) -> Result<(), BadSetting> {
        let unknown = self
            .0
            .keys()
            .find(|name| name.starts_with(prefix) && !known.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some(name) => Err(BadSetting::Unknown {
                name: name.clone(),
                hint: closest(name, known),
            }),
        }
    }

    pub(super) fn coordinator(&self, variable: &'static str) -> Result<String, BadSetting> {
        let text = self
            .text(variable)
            .ok_or(BadSetting::NoCoordinator { variable })?;
        let known = ["http://", "https://", "unix:///"];
        if known.iter().any(|scheme| text.starts_with(scheme)) {
            Ok(text.to_owned())
        } else {
            Err(BadSetting::Coordinator {
                variable,
                text: text.to_owned(),
            })
        }
    }

    pub(super) fn labels(
        &self,
        variable: &'static str,
    ) -> Result<BTreeMap<String, String>, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(BTreeMap::new());
        };
        let pair = |part: &str| match part.trim().split_once('=') {
            Some((key, value)) if !key.is_empty() => Some((key.to_owned(), value.to_owned())),
            Some(_) | None => None,
        };
        let pairs: Option<_> = text.split(',').map(pair).collect();
        pairs.ok_or_else(|| BadSetting::Labels {
            variable,
            text: text.to_owned(),
        })
    }

    pub(super) fn count(&self, variable: &'static str, default: u32) -> Result<u32, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(count @ 1..=100_000) => Ok(count),
            Ok(_) | Err(_) => Err(BadSetting::Count {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    pub(super) fn warm(&self, variable: &'static str, default: u32) -> Result<u32, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(count @ 0..=WARM_MOST) => Ok(count),
            Ok(_) | Err(_) => Err(BadSetting::Warm {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    pub(super) fn percent(&self, variable: &'static str, default: u8) -> Result<u8, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(percent @ 0..=PERCENT_MOST) => Ok(percent),
            Ok(_) | Err(_) => Err(BadSetting::Percent {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    pub(super) fn image_gc(&self, variable: &'static str) -> Result<Option<ImageGc>, BadSetting> {
        let text = self.text(variable).unwrap_or("80-70");
        if text == "off" {
            return Ok(None);
        }
        let marks = text.split_once('-').and_then(|(high, low)| {
            let (high, low) = (high.parse().ok()?, low.parse().ok()?);
            (low < high && high <= 100).then_some(ImageGc { high, low })
        });
        let bad = || BadSetting::ImageGc {
            variable,
            text: text.to_owned(),
        };
        marks.map(Some).ok_or_else(bad)
    }

    pub(super) fn init(&self, variable: &'static str) -> Result<InitChoice, BadSetting> {
        match self.text(variable) {
            None | Some("muster") => Ok(InitChoice::Muster),
            Some("engine") => Ok(InitChoice::Engine),
            Some(text) => Err(BadSetting::Init {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    pub(super) fn gpus(&self, variable: &'static str) -> Result<u32, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(0);
        };
        match text.parse() {
            Ok(count @ 0..=GPUS_MOST) => Ok(count),
            Ok(_) | Err(_) => Err(BadSetting::Gpus {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    /// Amounts by name. The names are those that a job may ask for.
    pub(super) fn resources(
        &self,
        variable: &'static str,
    ) -> Result<BTreeMap<String, u64>, BadSetting> {
        let mut all = BTreeMap::new();
        for part in self.text(variable).into_iter().flat_map(|t| t.split(',')) {
            let pair = part.trim().split_once('=');
            let named = pair.filter(|(name, _)| JobName::parse(name).is_ok());
            let amount = named.and_then(|(_, amount)| amount.parse::<u64>().ok());
            let name = named.map_or("", |(name, _)| name).to_owned();
            let first = !all.contains_key(&name);
            match amount {
                Some(amount @ 1..) if first => all.insert(name, amount),
                Some(_) | None => {
                    return Err(BadSetting::Resources {
                        variable,
                        text: part.to_owned(),
                    });
                }
            };
        }
        Ok(all)
    }

    /// In thousandths.
    pub(super) fn cpus(&self, variable: &'static str, default: u32) -> Result<u32, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        parse_millis(text).ok_or_else(|| BadSetting::Cpus {
            variable,
            text: text.to_owned(),
        })
    }

    pub(super) fn size(&self, variable: &'static str, default: u64) -> Result<u64, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        parse_size(text).ok_or_else(|| BadSetting::Size {
            variable,
            text: text.to_owned(),
        })
    }

    pub(super) fn loopback(
        &self,
        variable: &'static str,
    ) -> Result<Option<SocketAddr>, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(None);
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            Ok(_) | Err(_) => Err(BadSetting::Listen {
                variable,
                text: text.to_owned(),
            }),
        }
    }
}

/// `1.5` is 1500: a decimal number with at most three places, above zero.
fn parse_millis(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3
        || !(whole.to_owned() + part)
            .bytes()
            .all(|c| c.is_ascii_digit())
    {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    let millis = whole.checked_mul(1000)?.checked_add(part)?;
    (millis > 0).then_some(millis)
}

/// Bytes of `512MiB`, `512m`, `4g`, `4GiB` or `1000000`. Units are powers of 1024, as docker has them.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let size = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (size > 0).then_some(size)
}

/// The known name that is the fewest edits away, if it is close at all.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|known| (edits(name, known), *known))
        .min()
        .filter(|(edits, _)| *edits <= 4)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut corner = index;
        row[0] = index + 1;
        for (place, to) in right.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[place + 1];
            row[place + 1] = replaced.min(corner + 1).min(row[place] + 1);
        }
    }
    row[right.len()]
}
