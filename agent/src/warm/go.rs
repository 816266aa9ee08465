//! The message that tells a parked container's init process what to run; `init/src/parked.rs` reads it.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::runtime::{LeaseTerms, RunTerms};

/// Tells it. Once any of this was sent, only the one start in the directory of records says whether the
/// task runs.
///
/// # Errors
/// If nobody said that the task was started.
pub(super) async fn tell(
    stream: &mut UnixStream,
    run: &RunTerms,
    env: &[String],
) -> io::Result<()> {
    stream.write_all(&message(run, env)?).await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    Ok(())
}

fn message(run: &RunTerms, env: &[String]) -> io::Result<Vec<u8>> {
    let RunTerms { key, argv, lease } = run;
    let mut body = Vec::new();
    let mut pair = |name: &str, value: &str| {
        for word in [name, value] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
    };
    pair("key", key);
    if let Some(LeaseTerms {
        limit,
        grace,
        start_by,
    }) = lease
    {
        pair("lease-ms", &limit.as_millis().to_string());
        pair("grace-ms", &grace.as_millis().to_string());
        pair("start-by-ms", &start_by.to_string());
    }
    for variable in env {
        pair("env", variable);
    }
    for word in argv {
        pair("arg", word);
    }
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_is_its_length_and_pairs_of_words() {
        let run = RunTerms {
            key: "k".to_owned(),
            argv: vec!["sh".to_owned(), String::new()],
            lease: Some(LeaseTerms {
                limit: Duration::from_secs(1),
                grace: Duration::from_millis(5),
                start_by: 77,
            }),
        };
        let message = message(&run, &["A=b".to_owned()]).unwrap();
        let body = b"key\0k\0lease-ms\x001000\0grace-ms\x005\0start-by-ms\x0077\0\
            env\0A=b\0arg\0sh\0arg\0\0";
        assert_eq!(message[..4], [u8::try_from(body.len()).unwrap(), 0, 0, 0]);
        assert_eq!(&message[4..], body);
    }
}
