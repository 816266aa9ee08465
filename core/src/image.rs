//! References to images, and digests, which are what is run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The registry of a reference that names none, as the docker command has it.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest repository, registry included, in bytes; the limit of the OCI distribution specification.
const REPOSITORY_MAX: usize = 255;
/// Longest tag, in bytes; same source.
const TAG_MAX: usize = 128;

/// `sha256:` and 64 hexadecimal digits: the address of an image's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `sha256:4c1a93b2`, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..15].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = || BadImage::Digest {
            text: text.to_owned(),
        };
        let hex = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64)
            .ok_or_else(bad)?;
        let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if !hex.chars().all(lower) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

/// The digests that begin with what a person typed: 8 to 64 of the digits, with or without `sha256:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestPrefix {
    /// The smallest and the largest of them; equal if all 64 digits were given.
    pub first: Digest,
    pub last: Digest,
}

/// As many as [`Digest::short`] has: what lists show can be typed.
const PREFIX_MIN: usize = 8;

impl FromStr for DigestPrefix {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = || BadImage::DigestPrefix {
            text: text.to_owned(),
        };
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if !(PREFIX_MIN..=64).contains(&digits.len()) || !digits.is_ascii() {
            return Err(bad());
        }
        let filled = |fill: &str| {
            let rest = fill.repeat(64 - digits.len());
            format!("sha256:{digits}{rest}").parse().map_err(|_| bad())
        };
        Ok(Self {
            first: filled("0")?,
            last: filled("f")?,
        })
    }
}

/// A registry and a path in it, e.g. `docker.io/library/python`. Never a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// Both, with a slash between them; shared, because very many jobs name few.
    text: Arc<str>,
    registry: usize,
}

impl Repository {
    /// Host and optional port, e.g. `registry.example:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.text[..self.registry]
    }

    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.registry + 1..]
    }

    /// The last part of the path: `python` of `docker.io/library/python`.
    #[must_use]
    pub fn basename(&self) -> &str {
        let path = self.path();
        path.rsplit('/').next().unwrap_or(path)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Repository {
    type Err = BadImage;

    /// Reads what the docker command takes before the tag: a first part with a dot, a colon or the
    /// name `localhost` is a registry; a path of one part on the default registry is in `library`.
    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = |problem| BadImage::Repository {
            text: text.to_owned(),
            problem,
        };
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first.to_owned(), rest.to_owned())
            }
            Some(_) => (DEFAULT_REGISTRY.to_owned(), text.to_owned()),
            None => (DEFAULT_REGISTRY.to_owned(), format!("library/{text}")),
        };
        if registry.len() + 1 + path.len() > REPOSITORY_MAX {
            return Err(bad("is longer than 255 bytes"));
        }
        let part_ok = |part: &str| {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            !part.is_empty() && part.chars().all(known) && !part.starts_with(['.', '_', '-'])
        };
        if !path.split('/').all(part_ok) {
            return Err(bad(
                "must be lower-case letters, digits, '.', '_', '-' between slashes",
            ));
        }
        let host_ok = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
        if !registry.chars().all(host_ok) {
            return Err(bad("does not begin with a host name"));
        }
        Ok(Self {
            text: format!("{registry}/{path}").into(),
            registry: registry.len(),
        })
    }
}

/// What a person writes: a repository with a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub repository: Repository,
    pub version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tag(Tag),
    Digest(Digest),
}

/// A tag: a name that a registry lets move. `[A-Za-z0-9_][A-Za-z0-9_.-]*`, up to 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// # Errors
    /// If `text` breaks the rule above.
    pub fn parse(text: &str) -> Result<Self, BadImage> {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let ok = (1..=TAG_MAX).contains(&text.len())
            && text.chars().all(known)
            && !text.starts_with(['.', '-']);
        ok.then(|| Self(text.to_owned()))
            .ok_or_else(|| BadImage::Tag {
                text: text.to_owned(),
            })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Version::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl FromStr for Reference {
    type Err = BadImage;

    /// A tag beside a digest is dropped: the digest says it all. Without either it is refused: a
    /// bare word is a channel's name, never whatever a public registry has under that name.
    fn from_str(text: &str) -> Result<Self, BadImage> {
        if let Some((before, digest)) = text.split_once('@') {
            let version = Version::Digest(digest.parse()?);
            let repository = split_tag(before).0.parse()?;
            return Ok(Self {
                repository,
                version,
            });
        }
        match split_tag(text) {
            (repository, Some(tag)) => Ok(Self {
                repository: repository.parse()?,
                version: Version::Tag(Tag::parse(tag)?),
            }),
            (_, None) => Err(BadImage::NoVersion {
                text: text.to_owned(),
            }),
        }
    }
}

/// Splits `repository[:tag]`; a colon before the last slash belongs to the registry's port.
#[must_use]
pub fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        Some(_) | None => (text, None),
    }
}

/// An image as attempts record it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Image {
    /// Content of a registry; agents pull it if they don't hold it.
    Remote {
        repository: Repository,
        digest: Digest,
    },
    /// Only in the engines of the agents that hold it; the digest is the engine's id.
    Local { digest: Digest },
}

impl Image {
    #[must_use]
    pub const fn digest(&self) -> Digest {
        match self {
            Self::Remote { digest, .. } | Self::Local { digest } => *digest,
        }
    }
}

impl fmt::Display for Image {
    /// `repository@sha256:…` or `sha256:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote { repository, digest } => write!(f, "{repository}@{digest}"),
            Self::Local { digest } => digest.fmt(f),
        }
    }
}

impl FromStr for Image {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        match text.split_once('@') {
            Some((repository, digest)) => Ok(Self::Remote {
                repository: repository.parse()?,
                digest: digest.parse()?,
            }),
            None => Ok(Self::Local {
                digest: text.parse()?,
            }),
        }
    }
}

/// Why a text is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    #[error("{text:?} is not a digest: sha256: and 64 lower-case hexadecimal digits")]
    Digest { text: String },
    #[error(
        "{text:?} is not a digest or the beginning of one: sha256: and 8 to 64 lower-case hexadecimal digits"
    )]
    DigestPrefix { text: String },
    #[error("repository {text:?} {problem}")]
    Repository { text: String, problem: &'static str },
    #[error("{text:?} is not a tag: up to 128 letters, digits, '_', '.' and '-'")]
    Tag { text: String },
    #[error("{text:?} has neither a tag nor a digest")]
    NoVersion { text: String },
}

#[cfg(test)]
mod tests;
