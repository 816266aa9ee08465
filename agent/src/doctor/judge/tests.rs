use super::*;

fn healthy() -> EngineReport {
    EngineReport {
        version: "27.5.1".to_owned(),
        live_restore: true,
        storage_driver: "overlay2".to_owned(),
        log_driver: "json-file".to_owned(),
        cgroup_version: "2".to_owned(),
        cgroup_driver: "systemd".to_owned(),
        runc: Some("1.3.3".to_owned()),
        missing_limits: Vec::new(),
        root: None,
    }
}

/// The only finding that is not ok, after a change.
fn only(change: impl FnOnce(&mut EngineReport)) -> (&'static str, HostVerdict) {
    let mut report = healthy();
    change(&mut report);
    let mut found = engine(&report)
        .into_iter()
        .filter(|one| one.verdict != HostVerdict::Ok);
    let one = found.next().expect("something is wrong");
    assert_eq!(found.next(), None);
    assert!(!one.advice.is_empty());
    (one.check, one.verdict)
}

#[test]
fn a_healthy_engine_passes() {
    let found = engine(&healthy());
    assert_eq!(found.len(), 6);
    assert!(
        found.iter().all(|one| one.verdict == HostVerdict::Ok),
        "{found:?}"
    );
}

#[test]
fn each_fault_of_an_engine_is_found() {
    let warning = HostVerdict::Warning;
    assert_eq!(
        only(|engine| engine.live_restore = false),
        ("live_restore", warning)
    );
    assert_eq!(
        only(|engine| engine.storage_driver = "vfs".to_owned()),
        ("storage_driver", warning)
    );
    assert_eq!(
        only(|engine| engine.runc = Some("1.1.5".to_owned())),
        ("runc", warning)
    );
    assert_eq!(
        only(|engine| engine.runc = None),
        ("runc", HostVerdict::Unknown)
    );
    let old = only(|engine| engine.version = "19.03.15".to_owned());
    assert_eq!(old, ("engine", HostVerdict::Problem));
    let limits = only(|engine| engine.missing_limits = vec!["pids"]);
    assert_eq!(limits, ("limits", HostVerdict::Problem));
}

#[test]
fn runc_is_judged_by_its_branch() {
    for (version, escapes) in [
        ("1.0.0", true),
        ("1.1.15", true),
        ("1.2.7", true),
        ("1.2.8", false),
        ("1.2.10", false),
        ("1.3.0-rc.1", true),
        ("1.3.2+dev", true),
        ("1.3.3", false),
        ("1.4.0-rc.2", true),
        ("1.4.0-rc.3", false),
        ("1.4.0", false),
        ("2.0.0", false),
        ("v1.2.7", true),
        ("unknown", false),
    ] {
        assert_eq!(has_known_escape(version), escapes, "{version}");
    }
}

#[test]
fn files_that_others_can_change_are_found() {
    let path = Path::new("/x");
    let verdict = |finding: Option<HostFinding>| finding.map(|one| one.verdict);
    assert_eq!(verdict(socket(path, None)), None);
    assert_eq!(verdict(socket(path, Some(0o660))), Some(HostVerdict::Ok));
    assert_eq!(
        verdict(socket(path, Some(0o666))),
        Some(HostVerdict::Problem)
    );
    assert_eq!(verdict(data_dir(path, None)), None);
    assert_eq!(verdict(data_dir(path, Some(0o700))), Some(HostVerdict::Ok));
    assert_eq!(
        verdict(data_dir(path, Some(0o755))),
        Some(HostVerdict::Warning)
    );
    assert_eq!(
        verdict(data_dir(path, Some(0o770))),
        Some(HostVerdict::Problem)
    );
}

#[test]
fn a_disk_is_judged_by_what_an_agent_keeps_free() {
    let path = Path::new("/x");
    let reserve = DiskReserve::default();
    let verdict = |free, all| disk(path, Some((free, all)), reserve).map(|one| one.verdict);
    assert_eq!(verdict(3 << 30, 20 << 30), Some(HostVerdict::Ok));
    assert_eq!(verdict(1 << 30, 20 << 30), Some(HostVerdict::Problem));
    assert_eq!(verdict(5 << 30, 100 << 30), Some(HostVerdict::Problem));
    assert_eq!(disk(path, None, reserve), None);
}

#[test]
fn a_clock_that_nobody_keeps_is_found() {
    let verdict = |said| clock_sync(said).verdict;
    assert_eq!(verdict(Some("yes")), HostVerdict::Ok);
    assert_eq!(verdict(Some("no")), HostVerdict::Warning);
    assert_eq!(verdict(Some("?")), HostVerdict::Unknown);
    assert_eq!(verdict(None), HostVerdict::Unknown);
}
