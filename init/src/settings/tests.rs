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
        "--start-by-ms",
        "77",
        "--",
        "sh",
        "--",
        "-c",
    ];
    let wanted = Settings {
        records: "/r".into(),
        output: Some("/r/o".into()),
        given: Given::Now(Task {
            lease: Some(Lease {
                file: "/l/f".into(),
                limit: Duration::from_secs(30),
                grace: Duration::from_millis(10),
                start_by: Duration::from_millis(77),
            }),
            program: "sh".into(),
            arguments: vec!["--".into(), "-c".into()],
            environment: Vec::new(),
            key: String::new(),
        }),
    };
    assert_eq!(read(&whole), Ok(wanted));
    let least = read(&["--records", "/r", "--", "sh"]).unwrap();
    assert_eq!(least.output, None);
    let Given::Now(task) = least.given else {
        panic!("{least:?}");
    };
    assert_eq!(task.lease, None);
}

#[test]
fn a_parked_one_has_no_program_yet() {
    let words = ["--records", "/r", "--lease", "/l/f", "--parked", "/r/s"];
    let wanted = Settings {
        records: "/r".into(),
        output: None,
        given: Given::Later {
            socket: "/r/s".into(),
            lease: Some("/l/f".into()),
        },
    };
    assert_eq!(read(&words), Ok(wanted));
}

#[test]
fn what_can_not_be_used_is_named() {
    let cases: [(&[&str], &str); 9] = [
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
            "--lease, --lease-ms, --grace-ms and --start-by-ms go together",
        ),
        (
            &["--records", "/r", "--parked", "/s", "--", "sh"],
            "a program does not go with --parked",
        ),
        (
            &["--records", "/r", "--parked", "/s", "--grace-ms", "1"],
            "the terms of a lease do not go with --parked",
        ),
    ];
    for (words, wanted) in cases {
        assert_eq!(read(words).unwrap_err(), wanted);
    }
}
