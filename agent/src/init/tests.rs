use super::*;
use crate::outcome::{Run, RunEnd};
use muster_core::time::Timestamp;

const KEY: &str = "0123456789abcdef";

/// An attempt's directory with the program in it, as the agent prepares them.
fn prepared() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let program = install(dir.path()).unwrap();
    prepare(dir.path()).unwrap();
    (dir, program)
}

fn run(dir: &Path, program: &Path, script: &str) -> Option<i32> {
    let mut command = Command::new(program);
    command.env("MUSTER_INIT_KEY", KEY).arg("--records");
    command.arg(dir.join(RECORDS)).arg("--");
    command.args(["/bin/sh", "-c", script]);
    command.status().unwrap().code()
}

#[test]
fn what_the_program_writes_is_read() {
    let (dir, program) = prepared();
    assert_eq!(read(dir.path(), KEY), InitWord::Silent { ran: false });
    assert_eq!(run(dir.path(), &program, "exit 7"), Some(7));
    let InitWord::Record(found) = read(dir.path(), KEY) else {
        panic!("there is a record");
    };
    assert_eq!((found.end, found.signal), (RunEnd::Exited(7), None));
    assert!(!found.lease_ended);
    assert!(found.started <= found.ended && found.ended <= host::now());
    // Only who has the key is believed.
    assert_eq!(read(dir.path(), "another"), InitWord::Silent { ran: true });
    assert_eq!(read(dir.path(), ""), InitWord::Silent { ran: true });
}

#[test]
fn a_used_start_is_not_prepared_again() {
    let (dir, program) = prepared();
    assert_eq!(run(dir.path(), &program, "exit 7"), Some(7));
    prepare(dir.path()).unwrap();
    assert_eq!(run(dir.path(), &program, "exit 7"), Some(123));
}

#[test]
fn the_program_is_installed_once_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let program = install(dir.path()).unwrap();
    assert_eq!(install(dir.path()).unwrap(), program);
    fs::remove_file(&program).unwrap();
    fs::write(&program, "damaged").unwrap();
    assert_eq!(install(dir.path()).unwrap(), program);
    assert_eq!(fs::read(&program).unwrap(), PROGRAM);
    let mode = fs::metadata(&program).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    let names = fs::read_dir(dir.path().join(PROGRAMS)).unwrap();
    assert_eq!(names.count(), 1);
}

#[test]
fn a_record_that_is_cut_or_no_file_is_none() {
    let whole = format!(
        "muster-init 1\nkey {KEY}\nstarted 5 100\nended 9 200\nsignaled 15\nsignal 15 8 199\nnews of a later version\nlease_ended 8 199\noom_kills 2\nend\n"
    );
    let wanted = Run {
        started: Timestamp(100),
        ended: Timestamp(200),
        end: RunEnd::Signaled(15),
        signal: Some(15),
        lease_ended: true,
        oom_killed: true,
    };
    assert_eq!(record::parse(&whole, KEY), Some(wanted));
    for length in 0..whole.len() - "\n".len() {
        assert_eq!(record::parse(&whole[..length], KEY), None, "{length}");
    }
    let (dir, _) = prepared();
    let path = dir.path().join(RECORDS).join(RECORD);
    let silent = InitWord::Silent { ran: false };
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert_eq!(read(dir.path(), KEY), silent);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(read(dir.path(), KEY), silent);
}
