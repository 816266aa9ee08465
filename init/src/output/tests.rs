use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("muster-init-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Stream, time and data of all frames.
    fn frames(&self) -> Vec<(u8, u64, Vec<u8>)> {
        let mut all = Vec::new();
        for name in self.names() {
            let bytes = fs::read(self.0.join(name)).unwrap();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let at = u64::from_le_bytes(rest[1..9].try_into().unwrap());
                let length = u32::from_le_bytes(rest[9..13].try_into().unwrap());
                let end = 13 + usize::try_from(length).unwrap();
                all.push((rest[0], at, rest[13..end].to_vec()));
                rest = &rest[end..];
            }
        }
        all
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn capture(dir: &Dir, script: &str) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let writer = Writer::start(&dir.0).unwrap();
    writer.write_from(child.stdout.take(), child.stderr.take());
    writer.finish();
    child.wait().unwrap();
}

fn text(frames: &[(u8, u64, Vec<u8>)], stream: u8) -> String {
    let of = frames.iter().filter(|frame| frame.0 == stream);
    let bytes: Vec<u8> = of.flat_map(|frame| frame.2.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn lines_of_both_streams_come_with_times_that_grow() {
    let dir = Dir::new("lines");
    capture(&dir, "echo one; echo two; echo three >&2; printf 'no end'");
    let frames = dir.frames();
    assert_eq!(text(&frames, OUT), "one\ntwo\nno end");
    assert_eq!(text(&frames, ERR), "three\n");
    let mut times: Vec<u64> = frames.iter().map(|frame| frame.1).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 4, "{frames:?}");
}

#[test]
fn a_long_line_comes_in_parts_of_one_time() {
    let dir = Dir::new("long");
    capture(
        &dir,
        "head -c 40000 /dev/zero | tr '\\0' x; echo; echo next",
    );
    let frames = dir.frames();
    let parts: Vec<_> = frames
        .iter()
        .filter(|frame| frame.1 == frames[0].1)
        .collect();
    let lengths: usize = parts.iter().map(|frame| frame.2.len()).sum();
    assert_eq!(lengths, 40_001);
    assert!(parts.iter().all(|frame| frame.2.len() <= 16_384));
    assert_eq!(frames.last().unwrap().2, b"next\n");
}

#[test]
fn a_line_that_waits_for_its_end_is_seen() {
    let dir = Dir::new("prompt");
    let mut child = Command::new("/bin/sh")
        .args(["-c", "printf 'sure? '; read answer; echo $answer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let writer = Writer::start(&dir.0).unwrap();
    writer.write_from(child.stdout.take(), None);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while dir.names().is_empty() || dir.frames().is_empty() {
        assert!(std::time::Instant::now() < deadline, "no prompt");
        thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(text(&dir.frames(), OUT), "sure? ");
    child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    writer.finish();
    child.wait().unwrap();
    assert_eq!(text(&dir.frames(), OUT), "sure? yes\n");
}

#[test]
fn what_finds_no_room_is_counted_and_the_newest_is_kept() {
    let dir = Dir::new("full");
    let mut segments = Segments::new(&dir.0);
    let mut frames = Frames::default();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    // Twice as much as there is room for, and nobody reads.
    let lines = 2 * u64::from(SEGMENTS) * SEGMENT / 1013;
    for _ in 0..lines {
        frames.add(Stream::Out, &line);
        segments.write(frames.take());
    }
    frames.add(Stream::Out, b"the last words\n");
    segments.write(frames.take());
    segments.finish();
    assert_eq!(dir.names().len(), usize::try_from(SEGMENTS).unwrap());
    let all = dir.frames();
    let kept = u64::try_from(text(&all, OUT).len()).unwrap();
    let note = text(&all, NOTE);
    let missing: u64 = note.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(kept + missing, lines * 1000 + 15, "{note}");
    assert_eq!(all.last().unwrap().2, b"the last words\n");
}

#[test]
fn segments_that_were_read_make_room() {
    let dir = Dir::new("room");
    let mut segments = Segments::new(&dir.0);
    let mut frames = Frames::default();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    let lines = 2 * u64::from(SEGMENTS) * SEGMENT / 1013;
    for _ in 0..lines {
        frames.add(Stream::Out, &line);
        segments.write(frames.take());
        let names = dir.names();
        if names.len() > 2 {
            fs::remove_file(dir.0.join(&names[0])).unwrap();
        }
    }
    segments.finish();
    assert_eq!(text(&dir.frames(), NOTE), "");
}

const OUT: u8 = 1;
const ERR: u8 = 2;
const NOTE: u8 = 3;
