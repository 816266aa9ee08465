//! The coordinator's settings: every one is a variable `MUSTER_COORDINATOR_…`, and a flag of the same
//! name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster_core::fleet::Limits;
use muster_core::redact::redact;
use muster_core::time::Millis;

use crate::listen::{BadListen, Listen};
use crate::metrics::pushgateway;
use crate::session::SILENT_BEATS;
use crate::webhook::{BadSecrets, Secrets};
use crate::{poll, registry};

/// What the coordinator needs to know before it starts. Nothing in here opens or binds anything.
#[derive(Debug, Clone)]
pub struct Config {
    /// `MUSTER_COORDINATOR_DATA_DIR`, default `/var/lib/muster/coordinator`.
    pub data_dir: PathBuf,
    /// gRPC. `MUSTER_COORDINATOR_LISTEN`, default `127.0.0.1:7380`.
    pub listen: Listen,
    /// Webhooks, metrics and health. `MUSTER_COORDINATOR_HTTP_LISTEN`, default `127.0.0.1:7381`.
    pub http_listen: std::net::SocketAddr,
    /// Allows addresses that other hosts can reach, without TLS and authentication.
    /// `MUSTER_COORDINATOR_INSECURE_DEV_NETWORK`, default `false`.
    pub insecure_dev_network: bool,
    /// `MUSTER_COORDINATOR_PUSHGATEWAY_URL` and `…_IDLE`; `None`: nothing is pushed.
    pub pushgateway: Option<pushgateway::Config>,
    pub poll: poll::Config,
    pub registry: registry::Config,
    /// `MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE`, default none.
    pub webhook_secrets: Secrets,
    /// How long an agent may be silent before its attempts are given up.
    /// `MUSTER_COORDINATOR_LOST_AFTER`, default `10m`.
    pub lost_after: Duration,
    /// How often agents say that they are alive; one that is silent for four times as long is
    /// unreachable. `MUSTER_COORDINATOR_HEARTBEAT`, default `10s`.
    pub heartbeat: Duration,
    /// Retries of one team that go each minute at least, 1 to 1,000,000.
    /// `MUSTER_COORDINATOR_RETRIES_PER_MINUTE`, default 10.
    pub retries_per_minute: u32,
}

/// After its start a coordinator gives nobody up for so long at least.
const FAILOVER_GRACE_MIN: Duration = Duration::from_secs(60);

const PREFIX: &str = "MUSTER_COORDINATOR_";
const DATA_DIR: &str = "MUSTER_COORDINATOR_DATA_DIR";
const LISTEN: &str = "MUSTER_COORDINATOR_LISTEN";
const HTTP_LISTEN: &str = "MUSTER_COORDINATOR_HTTP_LISTEN";
const INSECURE_DEV_NETWORK: &str = "MUSTER_COORDINATOR_INSECURE_DEV_NETWORK";
const PUSHGATEWAY_URL: &str = "MUSTER_COORDINATOR_PUSHGATEWAY_URL";
const PUSHGATEWAY_IDLE: &str = "MUSTER_COORDINATOR_PUSHGATEWAY_IDLE";
const REGISTRY_POLL: &str = "MUSTER_COORDINATOR_REGISTRY_POLL";
const INSECURE_REGISTRIES: &str = "MUSTER_COORDINATOR_INSECURE_REGISTRIES";
const ALLOWED_REPOSITORIES: &str = "MUSTER_COORDINATOR_ALLOWED_REPOSITORIES";
const CREDENTIALS_DIR: &str = "MUSTER_COORDINATOR_CREDENTIALS_DIR";
const VERIFY_COMMAND: &str = "MUSTER_COORDINATOR_VERIFY_COMMAND";
const WEBHOOK_SECRETS_FILE: &str = "MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE";
const LOST_AFTER: &str = "MUSTER_COORDINATOR_LOST_AFTER";
const HEARTBEAT: &str = "MUSTER_COORDINATOR_HEARTBEAT";
const RETRIES_PER_MINUTE: &str = "MUSTER_COORDINATOR_RETRIES_PER_MINUTE";
const RETRIES_PER_MINUTE_MAX: u32 = 1_000_000;

const KNOWN: [&str; 15] = [
    DATA_DIR,
    LISTEN,
    HTTP_LISTEN,
    INSECURE_DEV_NETWORK,
    PUSHGATEWAY_URL,
    PUSHGATEWAY_IDLE,
    REGISTRY_POLL,
    INSECURE_REGISTRIES,
    ALLOWED_REPOSITORIES,
    CREDENTIALS_DIR,
    VERIFY_COMMAND,
    WEBHOOK_SECRETS_FILE,
    LOST_AFTER,
    HEARTBEAT,
    RETRIES_PER_MINUTE,
];

/// A setting that can't be used. Every message names the variable and its value.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    #[error("{name} is no setting of the coordinator; known are {}", KNOWN.join(", "))]
    Unknown { name: String },
    #[error("{variable}: {text:?} is not a duration such as 90s or 5m")]
    Duration {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {text:?} is not a number from 1 to {most}")]
    Number {
        variable: &'static str,
        text: String,
        most: u32,
    },
    #[error("{variable}: {text:?} is neither true nor false")]
    Flag {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}")]
    Listen {
        variable: &'static str,
        source: BadListen,
    },
    #[error("{variable}: {text:?} is not an address such as 127.0.0.1:7381")]
    HttpListen {
        variable: &'static str,
        text: String,
    },
    #[error("{variable}: {path}")]
    Secrets {
        variable: &'static str,
        path: String,
        source: BadSecrets,
    },
}

impl Config {
    /// Reads and checks every setting. Variables without the coordinator's prefix are ignored; flags
    /// are put into the map by the caller, over the variables of the same name. Reads the secrets file.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn parse(vars: &BTreeMap<String, String>) -> Result<Self, BadSetting> {
        let unknown = vars
            .keys()
            .find(|name| name.starts_with(PREFIX) && !KNOWN.contains(&name.as_str()));
        if let Some(name) = unknown {
            return Err(BadSetting::Unknown { name: name.clone() });
        }
        let vars = Vars(vars);
        let insecure = vars.flag(INSECURE_DEV_NETWORK)?;
        let config = Self {
            data_dir: vars
                .text(DATA_DIR)
                .unwrap_or("/var/lib/muster/coordinator")
                .into(),
            listen: vars.listen(LISTEN, "127.0.0.1:7380", insecure)?,
            http_listen: vars.http_listen(HTTP_LISTEN, "127.0.0.1:7381", insecure)?,
            insecure_dev_network: insecure,
            pushgateway: vars.pushgateway()?,
            poll: poll::Config {
                interval: vars.duration(REGISTRY_POLL, Duration::from_secs(300))?,
                ..poll::Config::default()
            },
            registry: registry::Config {
                insecure_registries: vars.list(INSECURE_REGISTRIES),
                allowed_repositories: vars.list(ALLOWED_REPOSITORIES),
                verify_command: vars.text(VERIFY_COMMAND).map(PathBuf::from),
                docker_config: None,
                credentials_dir: vars.text(CREDENTIALS_DIR).map(PathBuf::from),
            },
            webhook_secrets: vars.secrets()?,
            lost_after: vars.duration(LOST_AFTER, Duration::from_secs(600))?,
            heartbeat: vars.duration(HEARTBEAT, Duration::from_secs(10))?,
            retries_per_minute: vars.number(RETRIES_PER_MINUTE, 10, RETRIES_PER_MINUTE_MAX)?,
        };
        Ok(config)
    }

    /// Every setting by its variable, for people; without secrets.
    pub(crate) fn shown(&self) -> BTreeMap<String, String> {
        let Self {
            data_dir,
            listen,
            http_listen,
            insecure_dev_network,
            pushgateway,
            poll,
            registry,
            webhook_secrets,
            lost_after,
            heartbeat,
            retries_per_minute,
        } = self;
        let (url, idle) = match pushgateway {
            None => ("none".to_owned(), "none".to_owned()),
            Some(pushgateway::Config { url, idle }) => (redact(url), format!("{idle:?}")),
        };
        let poll::Config {
            interval,
            retries: _,
        } = poll;
        let registry::Config {
            insecure_registries,
            allowed_repositories,
            verify_command,
            docker_config: _,
            credentials_dir,
        } = registry;
        let path = |path: &Option<PathBuf>| match path {
            None => "none".to_owned(),
            Some(path) => path.display().to_string(),
        };
        let rows = [
            (DATA_DIR, data_dir.display().to_string()),
            (LISTEN, listen.to_string()),
            (HTTP_LISTEN, http_listen.to_string()),
            (INSECURE_DEV_NETWORK, insecure_dev_network.to_string()),
            (PUSHGATEWAY_URL, url),
            (PUSHGATEWAY_IDLE, idle),
            (REGISTRY_POLL, format!("{interval:?}")),
            (INSECURE_REGISTRIES, insecure_registries.join(",")),
            (ALLOWED_REPOSITORIES, allowed_repositories.join(",")),
            (CREDENTIALS_DIR, path(credentials_dir)),
            (VERIFY_COMMAND, path(verify_command)),
            (WEBHOOK_SECRETS_FILE, webhook_secrets.summary()),
            (LOST_AFTER, format!("{lost_after:?}")),
            (HEARTBEAT, format!("{heartbeat:?}")),
            (RETRIES_PER_MINUTE, retries_per_minute.to_string()),
        ];
        let owned = rows.map(|(name, value)| (name.to_owned(), value));
        owned.into_iter().collect()
    }

    pub(crate) fn heartbeat_millis(&self) -> Millis {
        Millis(u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn limits(&self) -> Limits {
        let lost_after = u64::try_from(self.lost_after.as_millis()).unwrap_or(u64::MAX);
        // Silence shows after four heartbeats; a fleet that calls again needs a moment more.
        let detection = self.heartbeat.saturating_mul(2 * SILENT_BEATS);
        let grace = detection.max(FAILOVER_GRACE_MIN);
        Limits {
            lost_after: Millis(lost_after),
            failover_grace: Millis(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
            retries_per_minute: self.retries_per_minute,
            ..Limits::default()
        }
    }
}

/// The variables of the process.
struct Vars<'a>(&'a BTreeMap<String, String>);

impl<'a> Vars<'a> {
    /// An empty variable is as good as none.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let parts = self.text(name).unwrap_or_default().split(',');
        parts
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn flag(&self, variable: &'static str) -> Result<bool, BadSetting> {
        match self.text(variable) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(text) => Err(BadSetting::Flag {
                variable,
                text: text.to_owned(),
            }),
        }
    }

    fn number(&self, variable: &'static str, default: u32, most: u32) -> Result<u32, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| BadSetting::Number {
            variable,
            text: text.to_owned(),
            most,
        })
    }

    fn duration(&self, variable: &'static str, default: Duration) -> Result<Duration, BadSetting> {
        let Some(text) = self.text(variable) else {
            return Ok(default);
        };
        let bad = || BadSetting::Duration {
            variable,
            text: text.to_owned(),
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(bad)?;
        match &text[digits.len()..] {
            "ms" => Ok(Duration::from_millis(number)),
            "s" => Ok(Duration::from_secs(number)),
            "m" => number
                .checked_mul(60)
                .map(Duration::from_secs)
                .ok_or_else(bad),
            "h" => number
                .checked_mul(3_600)
                .map(Duration::from_secs)
                .ok_or_else(bad),
            "d" => number
                .checked_mul(86_400)
                .map(Duration::from_secs)
                .ok_or_else(bad),
            _ => Err(bad()),
        }
    }

    fn listen(
        &self,
        variable: &'static str,
        default: &str,
        insecure: bool,
    ) -> Result<Listen, BadSetting> {
        let bad = |source| BadSetting::Listen { variable, source };
        let listen: Listen = self
            .text(variable)
            .unwrap_or(default)
            .parse()
            .map_err(bad)?;
        listen.check(insecure).map_err(bad)?;
        Ok(listen)
    }

    fn http_listen(
        &self,
        variable: &'static str,
        default: &str,
        insecure: bool,
    ) -> Result<std::net::SocketAddr, BadSetting> {
        match self.listen(variable, default, insecure)? {
            Listen::Tcp(address) => Ok(address),
            Listen::Unix(path) => Err(BadSetting::HttpListen {
                variable,
                text: path.display().to_string(),
            }),
        }
    }

    fn pushgateway(&self) -> Result<Option<pushgateway::Config>, BadSetting> {
        let idle = self.duration(PUSHGATEWAY_IDLE, Duration::from_secs(3_600))?;
        let url = self.text(PUSHGATEWAY_URL);
        Ok(url.map(|url| pushgateway::Config {
            url: url.to_owned(),
            idle,
        }))
    }

    fn secrets(&self) -> Result<Secrets, BadSetting> {
        let variable = WEBHOOK_SECRETS_FILE;
        let Some(path) = self.text(variable) else {
            return Ok(Secrets::default());
        };
        let bad = |source| BadSetting::Secrets {
            variable,
            path: path.to_owned(),
            source,
        };
        Secrets::load(path.as_ref()).map_err(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(vars: &[(&str, &str)]) -> Result<Config, BadSetting> {
        let owned = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(&owned.collect())
    }

    #[test]
    fn without_settings_everything_has_its_default() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:7380".parse().unwrap());
        assert_eq!(config.heartbeat, Duration::from_secs(10));
        assert!(config.pushgateway.is_none());
    }

    #[test]
    fn a_bad_setting_is_named_with_its_value() {
        let said = |name: &str, value: &str| {
            muster_core::error_chain::error_chain(&parse(&[(name, value)]).unwrap_err())
        };
        assert_eq!(
            said(REGISTRY_POLL, "5 parsecs"),
            r#"MUSTER_COORDINATOR_REGISTRY_POLL: "5 parsecs" is not a duration such as 90s or 5m"#
        );
        assert!(
            said("MUSTER_COORDINATOR_LISTENN", "x").starts_with("MUSTER_COORDINATOR_LISTENN is")
        );
        assert!(said(LISTEN, "0.0.0.0:7380").contains("--insecure-dev-network"));
        assert!(said(HTTP_LISTEN, "unix:/a").contains("is not an address"));
        assert!(said(INSECURE_DEV_NETWORK, "yes").contains("neither true nor false"));
        for number in ["0", "1000001", "many", "-1"] {
            let wanted = format!("{RETRIES_PER_MINUTE}: {number:?} is not");
            let said = said(RETRIES_PER_MINUTE, number);
            assert!(
                said.starts_with(&wanted) && said.contains("1000000"),
                "{said}"
            );
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7_200), ("7d", 604_800)] {
            let config = parse(&[(HEARTBEAT, text)]).unwrap();
            assert_eq!(config.heartbeat, Duration::from_secs(seconds));
        }
        for text in ["5", "0s", "-1s", "1y"] {
            assert!(parse(&[(HEARTBEAT, text)]).is_err(), "{text}");
        }
    }
}
