//! Where the daemons listen: loopback or a unix socket, until there is TLS and authentication.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on: `127.0.0.1:7380`, `[::1]:7380` or `unix:/run/muster.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why an address can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadListen {
    #[error("{text:?} is not an address such as 127.0.0.1:7380 or unix:/run/muster.sock")]
    Malformed { text: String },
    #[error(
        "{address} can be reached from other hosts, and there is no TLS and no authentication yet: \
         anybody who reaches it can run containers; listen on 127.0.0.1 and use a tunnel, or pass \
         --insecure-dev-network for a test in a network of your own"
    )]
    NotLoopback { address: SocketAddr },
}

impl FromStr for Listen {
    type Err = BadListen;

    fn from_str(text: &str) -> Result<Self, BadListen> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => {
                Ok(Self::Unix(PathBuf::from(path.trim_start_matches("//"))))
            }
            Some(_) => Err(BadListen::Malformed {
                text: text.to_owned(),
            }),
            None => {
                let address = text.parse();
                let malformed = |_| BadListen::Malformed {
                    text: text.to_owned(),
                };
                address.map(Self::Tcp).map_err(malformed)
            }
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Refuses what other hosts could reach, unless the operator said that they may.
    ///
    /// # Errors
    /// If the address is not loopback and `insecure` is false.
    pub fn check(&self, insecure: bool) -> Result<(), BadListen> {
        match self {
            Self::Unix(_) => Ok(()),
            Self::Tcp(address) if address.ip().is_loopback() => Ok(()),
            Self::Tcp(address) if insecure => {
                tracing::warn!(
                    %address,
                    "INSECURE: listening beyond loopback without TLS and authentication; anybody who \
                     reaches this address can run containers on every agent"
                );
                Ok(())
            }
            Self::Tcp(address) => Err(BadListen::NotLoopback { address: *address }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_sockets_are_safe() {
        for text in [
            "127.0.0.1:0",
            "127.9.9.9:7380",
            "[::1]:7380",
            "unix:/tmp/m.sock",
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.check(false), Ok(()), "{text}");
        }
        for text in ["0.0.0.0:7380", "[::]:7380", "10.0.0.5:7380"] {
            let listen: Listen = text.parse().unwrap();
            let refused = listen.check(false).unwrap_err().to_string();
            assert!(refused.contains("--insecure-dev-network"), "{refused}");
            assert_eq!(listen.check(true), Ok(()));
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["", "7380", "localhost:7380", "unix:m.sock"] {
            let said = text.parse::<Listen>().unwrap_err().to_string();
            assert!(said.contains(&format!("{text:?}")), "{said}");
        }
    }

    #[test]
    fn a_unix_socket_is_written_with_one_slash_or_as_a_url() {
        let socket = Listen::Unix(PathBuf::from("/tmp/m.sock"));
        assert_eq!("unix:/tmp/m.sock".parse(), Ok(socket.clone()));
        assert_eq!("unix:///tmp/m.sock".parse(), Ok(socket));
    }
}
