use super::*;

fn host() -> HostFacts {
    HostFacts {
        name: "etl-1".into(),
        cpus: 2,
        memory_bytes: 10 << 30,
    }
}

fn parse(vars: &[(&str, &str)]) -> Result<Config, BadSetting> {
    let mut all = BTreeMap::from([("MUSTER_AGENT_COORDINATOR".into(), "http://c:7380".into())]);
    all.extend(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Config::parse_on(&all, &host())
}

fn problem(name: &str, value: &str) -> String {
    parse(&[(name, value)]).unwrap_err().to_string()
}

#[test]
fn defaults_come_from_the_host() {
    let config = parse(&[]).unwrap();
    assert_eq!(
        (config.name.as_str(), config.pool.as_str()),
        ("etl-1", "default")
    );
    assert_eq!(
        (config.places, config.cpu_millis, config.starts),
        (4, 2000, 8)
    );
    assert_eq!(config.memory_bytes, 9 << 30);
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.policy, Policy::default());
    let DiskReserve { bytes, percent } = config.disk_reserve;
    assert_eq!((bytes, percent), (2 << 30, 10));
    assert_eq!(config.image_gc, Some(ImageGc { high: 80, low: 70 }));
    let off = parse(&[("MUSTER_AGENT_IMAGE_GC", "off")]).unwrap();
    assert_eq!(off.image_gc, None);
}

#[test]
fn settings_are_read() {
    let config = parse(&[
        ("MUSTER_AGENT_LABELS", "disk=ssd, zone=a"),
        ("MUSTER_AGENT_CPUS", "1.5"),
        ("MUSTER_AGENT_MEMORY", "512MiB"),
        ("MUSTER_AGENT_GPUS", "2"),
        ("MUSTER_AGENT_RESOURCES", "license=3, scratch-gb=500"),
        ("MUSTER_AGENT_METRICS_LISTEN", "127.0.0.1:9184"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(config.labels["zone"], "a");
    assert_eq!((config.cpu_millis, config.memory_bytes), (1500, 512 << 20));
    assert!(config.metrics_listen.is_some());
    assert_eq!(config.gpus, 2);
    assert_eq!(
        (config.resources["license"], config.resources["scratch-gb"]),
        (3, 500)
    );
}

#[test]
fn a_misspelling_is_never_silently_a_default() {
    assert_eq!(
        problem("MUSTER_AGENT_PLACE", "4"),
        "MUSTER_AGENT_PLACE is no setting of the agent; did you mean MUSTER_AGENT_PLACES?"
    );
    assert_eq!(
        problem("MUSTER_AGENT_SOMETHING_ELSE", "4"),
        "MUSTER_AGENT_SOMETHING_ELSE is no setting of the agent"
    );
}

#[test]
fn a_bad_setting_is_named_with_its_value() {
    let none = Config::parse_on(&BTreeMap::new(), &host()).unwrap_err();
    assert!(
        none.to_string()
            .starts_with("MUSTER_AGENT_COORDINATOR is not set")
    );
    for (name, value) in [
        ("MUSTER_AGENT_COORDINATOR", "c:7380"),
        ("MUSTER_AGENT_NAME", "Etl 1"),
        ("MUSTER_AGENT_LABELS", "ssd"),
        ("MUSTER_AGENT_PLACES", "0"),
        ("MUSTER_AGENT_CPUS", "0"),
        ("MUSTER_AGENT_CPUS", "1.2345"),
        ("MUSTER_AGENT_MEMORY", "much"),
        ("MUSTER_AGENT_GPUS", "65"),
        ("MUSTER_AGENT_IMAGE_GC", "no"),
        ("MUSTER_AGENT_INIT", "tini"),
        ("MUSTER_AGENT_IMAGE_GC", "70-80"),
        ("MUSTER_AGENT_DISK_FREE", "lots"),
        ("MUSTER_AGENT_DISK_FREE_PERCENT", "91"),
        ("MUSTER_AGENT_RESOURCES", "license"),
        ("MUSTER_AGENT_RESOURCES", "license=0"),
        ("MUSTER_AGENT_RESOURCES", "Not A Name=1"),
        ("MUSTER_AGENT_METRICS_LISTEN", "0.0.0.0:9184"),
    ] {
        let text = problem(name, value);
        assert!(text.starts_with(name) && text.contains(value), "{text}");
    }
}

#[test]
fn a_resource_is_offered_once() {
    let text = problem("MUSTER_AGENT_RESOURCES", "license=1,license=2");
    assert!(text.contains("each name once"), "{text}");
    let none = parse(&[]).unwrap();
    assert!(none.gpus == 0 && none.resources.is_empty());
}

#[test]
fn sizes_have_units() {
    let sizes = [("1", 1), ("2k", 2048), ("3 MiB", 3 << 20), ("4GB", 4 << 30)];
    for (text, size) in sizes {
        assert_eq!(parse_size(text), Some(size), "{text}");
    }
    for text in ["", "m", "-1", "1.5g", "99999999t", "0"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}
