//! A container that runs before its task is known: it waits on a socket to be told, and ends if it isn't.
//!
//! What it is told is one message: its length in four bytes, the lowest first, and then words that each end
//! in a zero byte, in pairs of a name and a value. Only a whole message is one, so whoever dies while
//! sending it has sent nothing; and one that the sender can't take back has been sent. Whether the task is
//! started after that is decided by who first renames the one start, see `record`.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::DEADLY;
use crate::settings::{Lease, Task};
use crate::sys::{self, Signals};

/// Far more than what an agent lets a task have.
const BYTES_MAX: usize = 8 << 20;
const LENGTH: usize = 4;

/// Whoever told what to run.
#[derive(Debug)]
pub(crate) struct Teller(UnixStream);

impl Teller {
    /// The task was started, or can't be. Nobody may listen any more.
    pub(crate) fn say_started(mut self) {
        let _ = self.0.write_all(b"1");
    }
}

/// Waits to be told. `None`: nobody will, or this process was told to end.
pub(crate) fn wait(
    socket: &Path,
    lease: Option<PathBuf>,
    signals: &Signals,
) -> Result<Option<(Task, Teller)>, String> {
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let stream = UnixStream::connect(socket).map_err(told("can't wait for the task"))?;
    let body = listen(&stream, signals).map_err(told("can't be told of the task"))?;
    let Some(body) = body else {
        return Ok(None);
    };
    let task = read(&body, lease).ok_or("what it was told is no task")?;
    Ok(Some((task, Teller(stream))))
}

/// The message without its length; `None` if it does not come.
fn listen(mut stream: &UnixStream, signals: &Signals) -> io::Result<Option<Vec<u8>>> {
    let waiting = signals.waiting()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if let Some((length, body)) = bytes.split_first_chunk::<LENGTH>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if body.len() >= length {
                return Ok(Some(body[..length].to_vec()));
            }
        }
        let [news, signal] = sys::poll([Some(stream.as_fd()), Some(waiting.as_fd())], None)?;
        if signal {
            let arrived = signals.next(Some(Duration::ZERO))?;
            if arrived.is_some_and(|arrived| DEADLY.contains(&arrived.number)) {
                return Ok(None);
            }
        }
        if news {
            match stream.read(&mut piece)? {
                0 => return Ok(None),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }
}

fn read(body: &[u8], lease_file: Option<PathBuf>) -> Option<Task> {
    let mut words = body.strip_suffix(&[0])?.split(|byte| *byte == 0);
    let (mut argv, mut environment) = (Vec::new(), Vec::new());
    let (mut key, mut limit, mut grace, mut start_by) = (None, None, None, None);
    while let Some(name) = words.next() {
        let value = words.next()?;
        let text = || std::str::from_utf8(value).ok();
        let millis = || Some(Duration::from_millis(text()?.parse().ok()?));
        match name {
            b"key" => key = Some(text()?.to_owned()),
            b"lease-ms" => limit = Some(millis()?),
            b"grace-ms" => grace = Some(millis()?),
            b"start-by-ms" => start_by = Some(millis()?),
            b"env" => {
                let equals = value.iter().position(|byte| *byte == b'=')?;
                let (name, value) = (&value[..equals], &value[equals + 1..]);
                environment.push((word(name), word(value)));
            }
            b"arg" => argv.push(word(value)),
            _ => return None,
        }
    }
    let lease = match (lease_file, limit, grace, start_by) {
        (Some(file), Some(limit), Some(grace), Some(start_by)) => Some(Lease {
            file,
            limit,
            grace,
            start_by,
        }),
        (_, None, None, None) => None,
        _ => return None,
    };
    let mut argv = argv.into_iter();
    Some(Task {
        program: argv.next()?,
        arguments: argv.collect(),
        environment,
        key: key?,
        lease,
    })
}

fn word(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[cfg(test)]
mod tests;
