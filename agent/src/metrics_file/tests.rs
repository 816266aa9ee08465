use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn read_text(text: &[u8]) -> Result<Option<Vec<u8>>, BadFile> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), text).unwrap();
    read(dir.path())
}

#[test]
fn a_good_file_comes_back_as_it_is() {
    let text = b"# TYPE rows_total counter\nrows_total 5\n";
    assert_eq!(read_text(text), Ok(Some(text.to_vec())));
}

#[test]
fn no_file_and_an_empty_one_are_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()), Ok(None));
    assert_eq!(read_text(b""), Ok(None));
    assert_eq!(read_text(b"# only a comment\n"), Ok(None));
}

#[test]
fn what_is_not_a_small_text_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc/hostname", dir.path().join(FILE)).unwrap();
    assert_eq!(read(dir.path()), Err(BadFile::NotAFile));

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    assert_eq!(read(dir.path()), Err(BadFile::NotAFile));

    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join(FILE);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(read(dir.path()), Err(BadFile::NotAFile));

    assert_eq!(read_text(&vec![b'#'; 65_537]), Err(BadFile::TooLarge));
    assert_eq!(read_text(b"x\xff 1\n"), Err(BadFile::NotText));
}

#[test]
fn what_would_collide_is_refused() {
    assert!(matches!(
        read_text(b"muster_x 1\n"),
        Err(BadFile::ReservedName { .. })
    ));
    assert!(matches!(
        read_text(b"x{job=\"a\"} 1\n"),
        Err(BadFile::ReservedLabel { .. })
    ));
    let summary = b"# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n";
    assert!(matches!(read_text(summary), Err(BadFile::Summary { .. })));
    assert_eq!(
        read_text(b"x 1\ny oops\n").unwrap_err().to_string(),
        "the metrics file is not used: line 2: \"oops\" is not a number"
    );
}
