use super::*;

fn read(words: &[&str]) -> Result<Settings, String> {
    Settings::read(words.iter().map(OsString::from))
}

#[test]
fn a_whole_command_line_is_read() {
    let whole = [
        "--records",
        "/r",
        "--output",
        "/r/o",
        "--lease",
        "/l/f",
        "--lease-ms",
        "30000",
        "--grace-ms",
        "10",
        "--",
        "sh",
        "--",
        "-c",
    ];
    let wanted = Settings {
        records: "/r".into(),
        output: Some("/r/o".into()),
        lease: Some(Lease {
            file: "/l/f".into(),
            limit: Duration::from_secs(30),
            grace: Duration::from_millis(10),
        }),
        program: "sh".into(),
        arguments: vec!["--".into(), "-c".into()],
    };
    assert_eq!(read(&whole), Ok(wanted));
    let least = read(&["--records", "/r", "--", "sh"]).unwrap();
    assert_eq!((least.output, least.lease), (None, None));
}

#[test]
fn what_can_not_be_used_is_named() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "-- and a program are missing"),
        (&["--records"], "--records has no value"),
        (&["--", "sh"], "--records is missing"),
        (&["--records", "/r", "--"], "there is no program after --"),
        (&["--what", "x"], "--what is no option"),
        (
            &["--grace-ms", "1s"],
            "--grace-ms 1s is not a number of milliseconds",
        ),
        (
            &["--records", "/r", "--lease", "/l", "--", "sh"],
            "--lease, --lease-ms and --grace-ms go together",
        ),
    ];
    for (words, wanted) in cases {
        assert_eq!(read(words).unwrap_err(), wanted);
    }
}
