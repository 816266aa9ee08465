use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

/// The files in a tar.
fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut tar = tar::Archive::new(fs::File::open(file).unwrap());
    let entries = tar.entries().unwrap();
    let read = entries.map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path, text)
    });
    read.collect()
}

#[test]
fn a_bundle_is_written_without_secrets_and_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("b.tar");
    let mut gathered = Gathered::default();
    gathered.add(
        "logs/a.txt",
        "to http://ann:c4n4ry@gate/ with Bearer c4n4ry\n",
    );
    let thing = json!({
        "password": "c4n4ry", "tokens": ["c4n4ry"], "secret": {"deep": "c4n4ry"}, "pin": 7,
        "mirrors": ["https://ann:c4n4ry@mirror"], "has_token": true, "token": null,
    });
    gathered.add_json("a.json", &thing);
    gathered.miss("engine", "refused http://ann:c4n4ry@h/");
    write(&file, &gathered).unwrap();
    let files = unpacked(&file);
    assert_eq!(
        files["muster-bundle/logs/a.txt"],
        "to http://***@gate/ with Bearer ***\n"
    );
    assert_eq!(
        files["muster-bundle/missing.txt"],
        "engine: refused http://***@h/\n"
    );
    let read: Value = serde_json::from_str(&files["muster-bundle/a.json"]).unwrap();
    let expected = json!({
        "password": "***", "tokens": "***", "secret": "***", "pin": 7,
        "mirrors": ["https://***@mirror"], "has_token": true, "token": null,
    });
    assert_eq!(read, expected);
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn a_file_that_is_there_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("b.tar");
    fs::write(&file, "mine").unwrap();
    let refused = |result: Result<(), Failure>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Failure::BundleExists { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    };
    refused(check_target(&file));
    refused(write(&file, &Gathered::default()));
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
    // A link that leads nowhere is somebody's, too.
    let link = directory.path().join("link.tar");
    std::os::unix::fs::symlink("/nonexistent", &link).unwrap();
    assert!(check_target(&link).is_err());
    let nowhere = directory.path().join("absent/b.tar");
    let error = write(&nowhere, &Gathered::default()).unwrap_err();
    assert!(matches!(error, Failure::Bundle { .. }), "{error:?}");
}

#[test]
fn a_bundle_is_bounded_and_says_what_found_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("b.tar");
    let mut gathered = Gathered::default();
    gathered.add_json("long.json", &vec!["x".repeat(100); 50_000]);
    let log = "ä\n".repeat(2 << 20) + "the last line\n";
    for number in 0..10 {
        gathered.add(&format!("logs/{number}"), &log);
    }
    write(&file, &gathered).unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 33 << 20);
    let files = unpacked(&file);
    let first = &files["muster-bundle/logs/0"];
    assert!(first.len() <= FILE_MAX && first.ends_with("the last line\n"));
    let missing = &files["muster-bundle/missing.txt"];
    assert!(
        missing.contains("long.json: it is longer than 4 MiB"),
        "{missing}"
    );
    assert!(
        missing.contains("logs/9: the bundle would be longer than 32 MiB"),
        "{missing}"
    );
}
