use super::*;

fn body(words: &[&str]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| [word.as_bytes(), &[0]].concat())
        .collect()
}

#[test]
fn a_message_says_everything_about_a_task() {
    let words = [
        "key",
        "k",
        "env",
        "A=b=c",
        "env",
        "EMPTY=",
        "lease-ms",
        "100",
        "grace-ms",
        "5",
        "start-by-ms",
        "77",
        "arg",
        "sh",
        "arg",
        "",
        "arg",
        "-c",
    ];
    let task = read(&body(&words), Some("/l".into())).unwrap();
    let wanted = Task {
        program: "sh".into(),
        arguments: vec!["".into(), "-c".into()],
        environment: vec![("A".into(), "b=c".into()), ("EMPTY".into(), "".into())],
        key: "k".to_owned(),
        lease: Some(Lease {
            file: "/l".into(),
            limit: Duration::from_millis(100),
            grace: Duration::from_millis(5),
            start_by: Duration::from_millis(77),
        }),
    };
    assert_eq!(task, wanted);
    let least = read(&body(&["key", "k", "arg", "true"]), Some("/l".into())).unwrap();
    assert_eq!(least.lease, None);
}

#[test]
fn what_is_no_task_is_not_run() {
    let cases: [&[&str]; 7] = [
        &[],
        &["key", "k"],
        &["arg", "true"],
        &["key", "k", "arg"],
        &["key", "k", "env", "A", "arg", "true"],
        // A lease in a container that has none.
        &[
            "key",
            "k",
            "lease-ms",
            "1",
            "grace-ms",
            "1",
            "start-by-ms",
            "1",
            "arg",
            "true",
        ],
        &["key", "k", "what", "x", "arg", "true"],
    ];
    for words in cases {
        assert_eq!(read(&body(words), None), None, "{words:?}");
    }
}
