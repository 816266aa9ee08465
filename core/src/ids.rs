//! Newtypes for every id and name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use crate::hash;
use crate::time::Timestamp;

/// Crockford's base32 in lower case: no i, l, o or u, so that an id survives being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits at five bits a character.
const JOB_ID_LENGTH: usize = 26;
/// The end of a job's id that people type. Ids begin with a clock, so beginnings collide.
pub const SHORT_ID_LENGTH: usize = 8;

/// A job's id: a UUIDv7 made in the shell, written as 26 characters of Crockford base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

impl JobId {
    /// The id of a job that the fleet makes itself at that moment: the same in every replay, and
    /// different for different `of`. It sorts among the others like any UUIDv7.
    #[must_use]
    pub fn derived(at: Timestamp, of: &str) -> Self {
        let clock = u128::from(at.0 & 0xffff_ffff_ffff) << 80;
        let (high, low) = (
            hash::of_bytes(of.as_bytes()),
            hash::mix(at.0 ^ !hash::of_bytes(of.as_bytes())),
        );
        let version = 0x7 << 76 | u128::from(high & 0xfff) << 64;
        let variant = 0b10 << 62 | u128::from(low >> 2);
        Self(Uuid::from_u128(clock | version | variant))
    }

    /// The last eight characters, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().split_off(JOB_ID_LENGTH - SHORT_ID_LENGTH)
    }

    /// 64 bits that differ from job to job: the random end of the id.
    #[must_use]
    pub fn entropy(&self) -> u64 {
        self.0.as_u64_pair().1
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.as_u128();
        let text: String = (0..JOB_ID_LENGTH)
            .rev()
            .map(|place| {
                let digit = (bits >> (5 * place)) & 31;
                char::from(ALPHABET[usize::try_from(digit).expect("five bits fit any usize")])
            })
            .collect();
        f.write_str(&text)
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        if text.len() != JOB_ID_LENGTH {
            return Err(BadJobId);
        }
        let mut bits: u128 = 0;
        for (place, character) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == character);
            let digit = u128::try_from(digit.ok_or(BadJobId)?).expect("a position below 32");
            if place == 0 && digit > 7 {
                return Err(BadJobId); // 26 characters hold 130 bits; the first two are zero
            }
            bits = (bits << 5) | digit;
        }
        Ok(Self(Uuid::from_u128(bits)))
    }
}

/// Not 26 characters of Crockford base32 in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a job id: 26 characters of 0-9 and a-z without i, l, o, u")]
pub struct BadJobId;

/// True if `text` could be the end of a job's id.
#[must_use]
pub fn is_job_id_end(text: &str) -> bool {
    (SHORT_ID_LENGTH..=JOB_ID_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// One element of a job, written `JOB.INDEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub job: JobId,
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

/// The number of an attempt: the fence. Begins at 1 for each task and only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNo(pub u32);

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One try of a task, written `JOB.INDEX-ATTEMPT` so that it can stand in a container's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub number: AttemptNo,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.task, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = BadAttemptId;

    fn from_str(text: &str) -> Result<Self, BadAttemptId> {
        let (job, rest) = text.split_once('.').ok_or(BadAttemptId)?;
        let (index, number) = rest.split_once('-').ok_or(BadAttemptId)?;
        Ok(Self {
            task: TaskId {
                job: job.parse().map_err(|BadJobId| BadAttemptId)?,
                index: index.parse().map_err(|_| BadAttemptId)?,
            },
            number: AttemptNo(number.parse().map_err(|_| BadAttemptId)?),
        })
    }
}

/// Not of the form `JOB.INDEX-ATTEMPT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an attempt id: JOB.INDEX-ATTEMPT")]
pub struct BadAttemptId;

/// Longest name of anything, in bytes: what a DNS label and a systemd instance take.
pub const NAME_MAX: usize = 63;

/// Why a text can't be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("is empty")]
    Empty,
    #[error("is {length} bytes long; at most {NAME_MAX}")]
    TooLong { length: usize },
    #[error("has {character:?}; allowed are a-z, 0-9, '.', '_' and '-'")]
    Character { character: char },
    #[error("begins with {character:?}; the first must be a-z or 0-9")]
    First { character: char },
}

fn check_name(text: &str) -> Result<(), BadName> {
    let first = text.chars().next().ok_or(BadName::Empty)?;
    if text.len() > NAME_MAX {
        return Err(BadName::TooLong { length: text.len() });
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    if let Some(character) = text.chars().find(|c| !allowed(*c)) {
        return Err(BadName::Character { character });
    }
    if ".-_".contains(first) {
        return Err(BadName::First { character: first });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `[a-z0-9][a-z0-9._-]*`, 1 to 63 bytes.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// Says which rule for names `text` breaks.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An agent: the daemon on one worker host.
    AgentId
);
name!(
    /// A tenant.
    TeamName
);
name!(
    /// A named group of agents.
    PoolName
);
name!(
    /// What a job is called; metrics and push-gateway groups carry it, so it should be the same each time.
    JobName
);
name!(
    /// What tasks call the image they follow.
    ChannelName
);
name!(
    /// Credentials for registries that the coordinator's operator has put there.
    CredentialsName
);

/// One leadership of a coordinator. Grows with every start; the fence between coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// One stream of one agent. The coordinator numbers them upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u64);

/// Names a waiting caller, so that the shell can hand it the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[cfg(test)]
mod tests;
