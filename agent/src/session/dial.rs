//! One connection to the coordinator, and how long to wait before the next one.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

const CONNECT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Full jitter between the two.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Between two dials at least, however soon they fail.
const PACE: Duration = Duration::from_secs(1);
/// After a stream that was welcomed the next wait is not longer than after so many failures: 4 s.
const WELCOMED: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the coordinator's address can't be used")]
    Address { source: tonic::transport::Error },
    #[error("the coordinator can't be reached")]
    Dial { source: std::io::Error },
    #[error("the coordinator does not answer within {CONNECT:?}")]
    NoAnswer,
    #[error("the coordinator does not speak HTTP/2")]
    Connect { source: tonic::transport::Error },
}

/// Dials once. When the connection breaks its channel is of no use any more, for streams of output too: a
/// channel that dials by itself knows no pace.
pub(super) async fn connect(address: &str) -> Result<Channel, DialError> {
    let endpoint = Endpoint::from_shared(address.to_owned());
    let endpoint = endpoint.map_err(|source| DialError::Address { source })?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let dialled = tokio::time::timeout(CONNECT, async {
        match address.strip_prefix("unix://") {
            Some(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|source| DialError::Dial { source })?;
                over(endpoint, stream).await
            }
            None => {
                let stream = dial(endpoint.uri()).await;
                let stream = stream.map_err(|source| DialError::Dial { source })?;
                over(endpoint, stream).await
            }
        }
    });
    dialled.await.map_err(|_| DialError::NoAnswer)?
}

async fn dial(uri: &Uri) -> std::io::Result<TcpStream> {
    // An IPv6 address keeps its brackets here.
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect(format!("{host}:{port}")).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A channel over this stream alone.
async fn over<S>(endpoint: Endpoint, stream: S) -> Result<Channel, DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let take = move |_: Uri| {
        let gone = || std::io::Error::other("the connection is gone");
        std::future::ready(stream.take().ok_or_else(gone))
    };
    let connected = endpoint.connect_with_connector(tower::service_fn(take));
    connected
        .await
        .map_err(|source| DialError::Connect { source })
}

/// The failures that count for the next wait, after a stream that lasted so long.
pub(super) fn failures_before(failures: u32, lasted: Duration, welcomed: bool) -> u32 {
    match welcomed {
        _ if lasted > BACKOFF_MAX => 0, // it worked for a while
        // The coordinator was there a moment ago. It may be on its way up again.
        true => failures.min(WELCOMED),
        false => failures,
    }
}

/// How long to wait after the last try, which lasted so long.
pub(super) fn pause(failures: u32, lasted: Duration) -> Duration {
    backoff(failures).max(PACE.saturating_sub(lasted))
}

/// A random wait: up to a bound that doubles with every failure.
fn backoff(failures: u32) -> Duration {
    let bound = BACKOFF_MIN
        .saturating_mul(2_u32.saturating_pow(failures.min(10)))
        .min(BACKOFF_MAX);
    let least = BACKOFF_MIN / 2;
    let random = uuid::Uuid::now_v7().as_u64_pair().1 % 1_000;
    let random = u32::try_from(random).expect("below 1000");
    least + (bound - least) * random / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_soon_back_at_a_coordinator_that_restarts_often() {
        let short = Duration::from_secs(2);
        assert_eq!(failures_before(9, short, false), 9, "it never answered");
        assert_eq!(failures_before(9, short, true), WELCOMED);
        assert_eq!(failures_before(1, short, true), 1);
        assert_eq!(failures_before(9, Duration::from_secs(31), true), 0);
        for _ in 0..100 {
            assert!(backoff(WELCOMED) <= Duration::from_secs(4));
        }
    }

    #[test]
    fn two_dials_are_a_second_apart_whatever_their_fate() {
        for failures in 0..20 {
            for lasted in [0, 10, 400, 999, 1_000, 60_000].map(Duration::from_millis) {
                let wait = pause(failures, lasted);
                assert!(lasted + wait >= PACE, "{failures} {lasted:?}: {wait:?}");
                assert!(wait <= BACKOFF_MAX);
            }
        }
    }

    #[tokio::test]
    async fn a_channel_whose_connection_broke_dials_no_other() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let channel = connect(&address).await.unwrap();
        drop(listener.accept().await.unwrap());
        let mut client =
            muster_proto::v1::session_service_client::SessionServiceClient::new(channel);
        for _ in 0..3 {
            client.open(tokio_stream::empty()).await.unwrap_err();
        }
        let again = tokio::time::timeout(Duration::from_millis(200), listener.accept());
        assert!(again.await.is_err(), "somebody dialled again");
    }
}
