//! A registry with one tag, which moves on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Tag {
    address: SocketAddr,
    /// The digest it points at, as a number.
    at: Arc<AtomicU64>,
}

impl Tag {
    /// Answers as long as this process lives.
    pub(crate) fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let at = Arc::new(AtomicU64::new(1));
        let served = Arc::clone(&at);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let digest = digest(served.load(Ordering::SeqCst));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\n\
                     Content-Type: application/vnd.oci.image.manifest.v1+json\r\n\
                     Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                // Whoever asked may have been killed.
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { address, at }
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/acme/followed:latest", self.address)
    }

    /// Gives the digest it moved to.
    pub(crate) fn moves(&self) -> String {
        digest(self.at.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

fn digest(number: u64) -> String {
    format!("sha256:{number:064x}")
}
