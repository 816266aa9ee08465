use super::*;

/// The cases of docker's own parser, `units.RAMInBytes`.
#[test]
fn sizes_are_those_of_docker() {
    let cases = [
        ("32", 32),
        ("32b", 32),
        ("32B", 32),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("32kb", 32 << 10),
        ("32Kib", 32 << 10),
        ("32Mb", 32 << 20),
        ("32Gb", 32 << 30),
        ("32Tb", 32 << 40),
        ("32Pb", 32 << 50),
        ("32.5kB", 33_280),
        ("32.5 kB", 33_280),
        ("1.5g", 3 << 29),
        ("512Mi", 512 << 20),
        ("4g", 4 << 30),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in [
        "", "hello", "-32", ".3kB", "32m3", "32bm", "32.", "1.2.3k", "9999999p",
    ] {
        assert_eq!(parse_size(text), Err(BadQuantity::Size), "{text}");
    }
}

#[test]
fn cpus_are_thousandths() {
    for (text, millis) in [
        ("1", 1000),
        ("0.5", 500),
        (".25", 250),
        ("2.125", 2125),
        ("64", 64_000),
    ] {
        assert_eq!(parse_cpus(text), Ok(millis), "{text}");
    }
    for text in ["", "0", "0.0", "1.", "0.0001", "-1", "one", "9999999"] {
        assert_eq!(parse_cpus(text), Err(BadQuantity::Cpus), "{text}");
    }
}

#[test]
fn pairs_and_budgets() {
    let pair: KeyValue = "a=b=c".parse().unwrap();
    assert_eq!((pair.key.as_str(), pair.value.as_str()), ("a", "b=c"));
    assert!("=b".parse::<KeyValue>().is_err());
    assert!("a".parse::<KeyValue>().is_err());

    let key: Concurrency = "db=main=4".parse().unwrap();
    assert_eq!((key.key.as_str(), key.limit), ("db=main", 4));
    assert!("db=0".parse::<Concurrency>().is_err());

    let retries = |text: &str| text.parse::<Retries>().map(|r| (r.user, r.infra));
    assert_eq!(retries(""), Ok((None, None)));
    assert_eq!(retries("3"), Ok((Some(3), None)));
    assert_eq!(retries("user=3,infra=5"), Ok((Some(3), Some(5))));
    assert_eq!(retries("user=3,user=5"), Err(BadQuantity::Retries));
    assert_eq!(retries("all=3"), Err(BadQuantity::Retries));
    for bad in [
        "",
        "2",
        "2:",
        ":fail",
        "2:stop",
        "x:fail",
        "2-:fail",
        "unspecified:fail",
        "oom:grow",
        "oom:grow=2",
        "oom:grow=2.125,8g",
        "oom:grow=2.,8g",
        "oom:grow=-2,8g",
        "oom:grow=2,much",
    ] {
        assert_eq!(
            bad.parse::<RetryRule>(),
            Err(BadQuantity::RetryRule),
            "{bad}"
        );
    }
}

#[test]
fn how_memory_grows_is_a_factor_and_the_most() {
    let grow = |text: &str| text.parse::<RetryRule>().unwrap().grow;
    for (text, percent) in [("2", 200), ("1.5", 150), ("1.05", 105), ("10", 1_000)] {
        let wanted = v1::MemoryGrowth {
            percent,
            max_bytes: 8 << 30,
        };
        assert_eq!(grow(&format!("oom:grow={text},8g")), Some(wanted), "{text}");
    }
    assert_eq!(grow("oom:retry"), None);
}

#[test]
fn moments_are_spans_or_times() {
    assert_eq!("10m".parse(), Ok(Moment::Ago(Millis(600_000))));
    assert_eq!("2h ago".parse(), Ok(Moment::Ago(Millis(7_200_000))));
    let at: jiff::Timestamp = "2026-08-21T14:02:00Z".parse().unwrap();
    assert_eq!("2026-08-21T14:02:00Z".parse(), Ok(Moment::At(at)));
    let earlier = Moment::Ago(Millis(120_000)).resolve(at);
    assert_eq!(earlier.to_string(), "2026-08-21T14:00:00Z");
    assert_eq!("yesterday".parse::<Moment>(), Err(BadQuantity::Moment));
}

#[test]
fn amounts_for_people() {
    assert_eq!(size_text(0), "0 B");
    assert_eq!(size_text(512 << 20), "512 MiB");
    assert_eq!(size_text(16_642_998_272), "15.5 GiB");
    assert_eq!(size_text(1000 << 10), "1000 KiB");
    assert_eq!(cpus_text(8000), "8");
    assert_eq!(cpus_text(500), "0.5");
    assert_eq!(count_text(0), "0");
    assert_eq!(count_text(999), "999");
    assert_eq!(count_text(17_400), "17,400");
    assert_eq!(count_text(1_000_000), "1,000,000");
}
