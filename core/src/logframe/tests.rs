use proptest::prelude::*;

use super::*;

fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(
        LogStream::Stdout,
        1_700_000_000_000_001,
        b"one\n",
        &mut bytes,
    );
    encode(LogStream::Stderr, 2, b"two", &mut bytes);
    encode(LogStream::Gap, 3, b"5 bytes are missing\n", &mut bytes);
    bytes
}

#[test]
fn a_frame_has_the_documented_bytes() {
    let mut bytes = Vec::new();
    encode(LogStream::Stderr, 0x0102, b"hi", &mut bytes);
    assert_eq!(bytes, [2, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'h', b'i']);
}

#[test]
fn frames_come_back_in_order() {
    let bytes = sample();
    let frames: Vec<_> = decode(&bytes).collect::<Result<_, _>>().unwrap();
    let texts: Vec<_> = frames
        .iter()
        .map(|f| (f.stream, f.at_micros, f.data))
        .collect();
    assert_eq!(
        texts,
        [
            (LogStream::Stdout, 1_700_000_000_000_001, &b"one\n"[..]),
            (LogStream::Stderr, 2, b"two"),
            (LogStream::Gap, 3, b"5 bytes are missing\n"),
        ]
    );
}

#[test]
fn a_cut_anywhere_loses_only_the_last_frame() {
    let bytes = sample();
    let whole: Vec<_> = decode(&bytes).map(Result::unwrap).collect();
    for cut in 0..bytes.len() {
        let mut frames = decode(&bytes[..cut]);
        let read: Vec<_> = frames.by_ref().map(Result::unwrap).collect();
        assert_eq!(read, whole[..read.len()], "cut at {cut}");
        let size: usize = read.iter().map(Frame::size).sum();
        assert_eq!(frames.position(), size, "cut at {cut}");
    }
}

#[test]
fn long_data_becomes_several_frames() {
    let mut bytes = Vec::new();
    encode(LogStream::Stdout, 1, &vec![7; DATA_MAX + 1], &mut bytes);
    let lengths: Vec<_> = decode(&bytes).map(|f| f.unwrap().data.len()).collect();
    assert_eq!(lengths, [DATA_MAX, 1]);
}

#[test]
fn what_is_no_frame_is_said_once() {
    let mut bytes = sample();
    let position = bytes.len();
    bytes.extend([9; HEADER]);
    let last: Vec<_> = decode(&bytes).skip(3).collect();
    assert_eq!(last, [Err(BadFrame::Stream { position, code: 9 })]);

    let mut long = vec![1; 9];
    long.extend(u32::MAX.to_le_bytes());
    assert!(matches!(
        decode(&long).next(),
        Some(Err(BadFrame::Length { position: 0, .. }))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut frames = decode(&bytes);
        let count = frames.by_ref().count();
        prop_assert!(count <= bytes.len() / HEADER + 1);
        prop_assert!(frames.position() <= bytes.len());
    }
}
