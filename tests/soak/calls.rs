//! Where tasks call in when they begin: the ground truth of real containers, apart from muster.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// For one call.
const PATIENCE: Duration = Duration::from_secs(5);
const LINE: u64 = 200;

/// How often each attempt called, by `JOB.INDEX-NUMBER`.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    seen: Arc<Mutex<BTreeMap<String, u32>>>,
    pub(crate) address: SocketAddr,
}

impl Calls {
    /// Listens on every address of this host, until the process ends: containers call their gateway.
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let calls = Self {
            seen: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let seen = Arc::clone(&calls.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(name) = take(stream) {
                    *seen.lock().unwrap().entry(name).or_default() += 1;
                }
            }
        });
        calls
    }

    pub(crate) fn seen(&self) -> BTreeMap<String, u32> {
        self.seen.lock().unwrap().clone()
    }

    /// What a task runs: it calls before it does anything else, and fails if nobody answers.
    pub(crate) fn script(&self, seconds: u32) -> String {
        let port = self.address.port();
        format!(
            "gateway=$(ip route | awk '/^default/ {{ print $3 }}'); \
             answer=$(echo \"$MUSTER_TASK_ID-$MUSTER_ATTEMPT\" | nc -w 5 \"$gateway\" {port}); \
             [ \"$answer\" = noted ] || exit 9; \
             echo began; sleep {seconds}; echo done"
        )
    }
}

fn take(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut reader = (&stream).take(LINE);
    let mut byte = [0];
    while reader.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    // Noted before it is answered: a task that was told so has been counted.
    stream.write_all(b"noted\n")?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}
