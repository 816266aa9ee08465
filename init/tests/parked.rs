//! The program as a plain process that was started before its task is known.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A parked program, and the socket at which it listens.
struct Parked {
    dir: PathBuf,
    child: Option<Child>,
    stream: UnixStream,
}

impl Parked {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-parked-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("armed"), "").unwrap();
        std::fs::write(dir.join("record.new"), [b' '; 1024]).unwrap();
        let socket = dir.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_muster-init"))
            .env("FROM_IMAGE", "kept")
            .env("BOTH", "image")
            .arg("--records")
            .arg(&dir)
            .arg("--parked")
            .arg(&socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        Self {
            dir,
            child: Some(child),
            stream,
        }
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn end(&mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }

    fn has(&self, file: &str) -> bool {
        self.dir.join(file).exists()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn message(script: &str) -> Vec<u8> {
    let words = [
        "key",
        "secret",
        "env",
        "BOTH=task",
        "env",
        "OWN=a b",
        "arg",
        "/bin/sh",
        "arg",
        "-c",
        "arg",
        script,
    ];
    let body: Vec<u8> = words
        .iter()
        .flat_map(|word| [word.as_bytes(), &[0]].concat())
        .collect();
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&length[..], &body].concat()
}

#[test]
fn it_runs_what_it_is_told_once_and_says_so() {
    let mut parked = Parked::new();
    parked.tell(&message("echo $FROM_IMAGE $BOTH $OWN; env; exit 7"));
    let mut said = Vec::new();
    parked.stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"1");
    let out = parked.end();
    assert_eq!(out.status.code(), Some(7));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("kept task a b\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let record = std::fs::read_to_string(parked.dir.join("record")).unwrap();
    assert!(record.contains("key secret\n") && record.contains("exited 7\n"));
    assert!(parked.has("started") && !parked.has("armed"));
}

#[test]
fn a_message_that_was_cut_short_starts_nothing() {
    let whole = message("echo ran");
    for length in [0, 3, 4, 20, whole.len() - 1] {
        let mut parked = Parked::new();
        parked.tell(&whole[..length]);
        parked.stream.shutdown(std::net::Shutdown::Both).unwrap();
        let out = parked.end();
        assert_eq!(
            (out.status.code(), out.stdout),
            (Some(122), vec![]),
            "{length}"
        );
        assert!(parked.has("armed") && !parked.has("started") && !parked.has("record"));
    }
}

#[test]
fn a_whole_message_counts_though_its_sender_is_gone() {
    let mut parked = Parked::new();
    parked.tell(&message("exit 5"));
    parked.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(parked.end().status.code(), Some(5));
    assert!(parked.has("record"));
}

#[test]
fn one_whose_start_was_taken_away_runs_nothing() {
    let mut parked = Parked::new();
    std::fs::rename(parked.dir.join("armed"), parked.dir.join("withdrawn")).unwrap();
    parked.tell(&message("echo ran"));
    let out = parked.end();
    assert_eq!((out.status.code(), out.stdout), (Some(123), vec![]));
}

#[test]
fn it_ends_when_it_is_told_to_end() {
    let mut parked = Parked::new();
    let pid = parked.child.as_ref().unwrap().id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(parked.end().status.code(), Some(122));
    assert!(parked.has("armed"));
}
