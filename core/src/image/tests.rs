use super::*;

const DIGEST: &str = "sha256:4c1a93000000000000000000000000000000000000000000000000000000beef";

#[test]
fn references_read_as_the_docker_command_reads_them() {
    for (text, whole) in [
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("acme/etl:main", "docker.io/acme/etl:main"),
        ("localhost/etl:1", "localhost/etl:1"),
        ("127.0.0.1:5000/etl:1", "127.0.0.1:5000/etl:1"),
        (
            "registry.example/acme/etl:V1_x",
            "registry.example/acme/etl:V1_x",
        ),
    ] {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole);
    }
    let digested = format!("registry.example:5000/etl:old@{DIGEST}");
    let whole = format!("registry.example:5000/etl@{DIGEST}");
    assert_eq!(digested.parse::<Reference>().unwrap().to_string(), whole);
}

#[test]
fn a_bad_reference_says_what_is_wrong() {
    let said = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
    assert_eq!(
        said("analytics"),
        r#""analytics" has neither a tag nor a digest"#
    );
    assert!(said("127.0.0.1:5000/etl").contains("neither a tag nor a digest"));
    assert!(said("Acme/etl:1").contains("lower-case"));
    assert!(said("etl:a b").contains("is not a tag"));
    assert!(said("etl@sha256:12").contains("is not a digest"));
    assert!(said("--privileged:1").contains("repository"));
    assert!(said(&format!("{}:1", "a".repeat(300))).contains("longer than 255"));
}

#[test]
fn an_image_survives_its_text() {
    for text in [
        DIGEST.to_owned(),
        format!("registry.example/acme/etl@{DIGEST}"),
    ] {
        assert_eq!(text.parse::<Image>().unwrap().to_string(), text);
    }
    assert_eq!(DIGEST.parse::<Digest>().unwrap().short(), "sha256:4c1a9300");
}

#[test]
fn the_beginning_of_a_digest_is_a_range_of_digests() {
    let range = |text: &str| text.parse::<DigestPrefix>().unwrap();
    let whole = range(DIGEST);
    assert_eq!(whole.first.to_string(), DIGEST);
    assert_eq!(whole.first, whole.last);
    let part = range(&DIGEST[..7 + 13]);
    assert_eq!(part, range(&DIGEST[7..7 + 13]), "without sha256:");
    let ends = |fill: &str| format!("{}{}", &DIGEST[..7 + 13], fill.repeat(51));
    assert_eq!(part.first.to_string(), ends("0"));
    assert_eq!(part.last.to_string(), ends("f"));
    let short = whole.first.short().parse::<DigestPrefix>().unwrap();
    assert!(short.first <= whole.first && whole.first <= short.last);
    for bad in [
        &DIGEST[..7 + 7],
        "sha256:",
        "ABCDEFABCDEF",
        "4c1a93004c1\u{e9}",
        &format!("{DIGEST}0"),
    ] {
        let said = bad.parse::<DigestPrefix>().unwrap_err().to_string();
        assert!(said.contains("8 to 64 lower-case"), "{said}");
    }
}
