use std::collections::BTreeMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerInspectResponse, HostConfig};
use muster_core::logframe::LogStream;
use proptest::prelude::*;

use super::{body, read};
use crate::plan::Seen;
use crate::runtime::{InitProcess, LeaseTerms, Limits, NewContainer, RunTerms};

fn new() -> NewContainer {
    NewContainer {
        name: "mu-x".into(),
        image: "sha256:1".into(),
        entrypoint: None,
        command: vec!["--rm".into(), "$(id)".into()],
        env: vec!["A=b".into()],
        labels: BTreeMap::new(),
        workdir: None,
        user: "65532".into(),
        limits: Limits {
            cpu_millis: 1500,
            memory_bytes: 64 << 20,
            pids: 256,
        },
        gpus: 0,
        network: None,
        writable_root: false,
        run_dir: "/data/run".into(),
        cgroup_parent: Some("/muster/x".into()),
        init: None,
    }
}

/// Every field of the host configuration that is not the engine's default, by name.
fn set_fields(host: &HostConfig) -> BTreeMap<String, serde_json::Value> {
    let value = serde_json::to_value(host).unwrap();
    let fields = value.as_object().unwrap().clone();
    fields.into_iter().filter(|(_, v)| !v.is_null()).collect()
}

#[test]
fn the_host_configuration_is_the_allow_list_and_nothing_else() {
    let body = body::container(&new());
    let fields = set_fields(body.host_config.as_ref().unwrap());
    let wanted = serde_json::json!({
        "Memory": 64 << 20,
        "MemorySwap": 64 << 20,
        "NanoCpus": 1_500_000_000_i64,
        "PidsLimit": 256,
        "CgroupParent": "/muster/x",
        "Init": true,
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": false,
        "ReadonlyRootfs": true,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"},
        "Mounts": [{"Target": "/run/muster", "Source": "/data/run", "Type": "bind", "ReadOnly": false}],
        "NetworkMode": "none",
        "IpcMode": "private",
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": false,
        "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}},
    });
    let wanted: BTreeMap<_, _> = wanted.as_object().unwrap().clone().into_iter().collect();
    assert_eq!(fields, wanted);
    // Arguments are never joined, split or interpreted.
    assert_eq!(body.cmd.unwrap(), ["--rm", "$(id)"]);
    assert_eq!(body.network_disabled, Some(true));
}

fn with_init() -> NewContainer {
    let mut new = new();
    new.env.push("MUSTER_INIT_KEY=forged".into());
    new.init = Some(InitProcess {
        program: "/data/bin/muster-init".into(),
        records: "/data/records".into(),
        lease: None,
        run: Some(RunTerms {
            key: "k".into(),
            argv: vec!["/bin/true".into(), "--".into()],
            lease: None,
        }),
    });
    new
}

#[test]
fn a_parked_one_has_no_task_and_no_key() {
    let mut new = with_init();
    let init = new.init.as_mut().unwrap();
    (init.run, init.lease) = (None, Some("/data/lease".into()));
    let body = body::container(&new);
    let words = body.entrypoint.as_deref().unwrap();
    let wanted = [
        "--lease",
        "/run/muster-lease/renewed",
        "--parked",
        "/run/muster-records/socket",
    ];
    assert_eq!(words[5..], wanted);
    assert_eq!(body.cmd, None);
    assert_eq!(body.env.as_deref().unwrap(), ["A=b"]);
}

#[test]
fn other_limits_are_the_ones_that_it_would_have_been_created_with() {
    let body = body::update(new().limits);
    let host = body::container(&new()).host_config.unwrap();
    assert_eq!(body.memory, host.memory);
    assert_eq!(body.memory_swap, host.memory_swap);
    assert_eq!(body.nano_cpus, host.nano_cpus);
    assert_eq!(body.pids_limit, host.pids_limit);
}

#[test]
fn the_init_process_stands_before_the_task_and_the_engines_own_is_off() {
    let mut new = with_init();
    let body = body::container(&new);
    let words = [
        "/run/muster-init",
        "--records",
        "/run/muster-records",
        "--output",
        "/run/muster-records/output",
    ];
    let wanted = [&words[..], &["--", "/bin/true", "--"]].concat();
    assert_eq!(body.entrypoint.as_deref().unwrap(), wanted);
    assert_eq!(body.cmd, None);
    assert_eq!(body.env.as_deref().unwrap(), ["A=b", "MUSTER_INIT_KEY=k"]);
    let fields = set_fields(body.host_config.as_ref().unwrap());
    assert_eq!(fields["Init"], false);
    let bind = |target: &str, source: &str, read_only: bool| serde_json::json!({"Target": target, "Source": source, "Type": "bind", "ReadOnly": read_only});
    let usual = [
        bind("/run/muster", "/data/run", false),
        bind("/run/muster-init", "/data/bin/muster-init", true),
        bind("/run/muster-records", "/data/records", false),
    ];
    assert_eq!(fields["Mounts"], serde_json::json!(usual));

    let init = new.init.as_mut().unwrap();
    init.lease = Some("/data/lease".into());
    init.run.as_mut().unwrap().lease = Some(LeaseTerms {
        limit: Duration::from_secs(30),
        grace: Duration::from_millis(500),
        start_by: 77,
    });
    let body = body::container(&new);
    let leased = [
        "--lease",
        "/run/muster-lease/renewed",
        "--lease-ms",
        "30000",
    ];
    let wanted = [
        &words[..],
        &leased,
        &["--grace-ms", "500", "--start-by-ms", "77"],
        &["--", "/bin/true", "--"],
    ]
    .concat();
    assert_eq!(body.entrypoint.unwrap(), wanted);
    let fields = set_fields(body.host_config.as_ref().unwrap());
    let mounts = fields["Mounts"].as_array().unwrap();
    assert_eq!(mounts[3], bind("/run/muster-lease", "/data/lease", true));
}

#[test]
fn gpus_are_the_only_device_that_can_be_asked_for() {
    let mut with = new();
    with.gpus = 2;
    let mut fields = set_fields(body::container(&with).host_config.as_ref().unwrap());
    assert_eq!(
        fields.remove("DeviceRequests").unwrap(),
        serde_json::json!([{"Count": 2, "Capabilities": [["gpu"]]}])
    );
    let without = set_fields(body::container(&new()).host_config.as_ref().unwrap());
    assert_eq!(fields, without);
}

#[test]
fn a_container_that_never_started_is_told_from_one_that_could_not() {
    let read = |state: serde_json::Value| {
        let found: ContainerInspectResponse =
            serde_json::from_value(serde_json::json!({ "State": state })).unwrap();
        read::container(found)
    };
    let zero = "0001-01-01T00:00:00Z";
    let created = read(serde_json::json!({
        "Status": "created", "ExitCode": 0, "Error": "", "StartedAt": zero, "FinishedAt": zero,
    }));
    assert_eq!((created.seen, created.started), (Seen::Created, None));
    let failed = read(serde_json::json!({
        "Status": "created", "ExitCode": 127, "Error": "no such file", "StartedAt": zero,
    }));
    assert_eq!((failed.seen, failed.exit_code), (Seen::StartFailed, 127));
    let exited = read(serde_json::json!({
        "Status": "exited", "ExitCode": 3, "OOMKilled": true,
        "StartedAt": "2026-11-21T03:00:00.5Z", "FinishedAt": "2026-11-21T03:00:01.123456789Z",
    }));
    assert_eq!(
        (exited.seen, exited.exit_code, exited.oom_killed),
        (Seen::Exited, 3, true)
    );
    assert_eq!(exited.finished.unwrap().0 - exited.started.unwrap().0, 623);
    assert_eq!(read(serde_json::json!({"Status": "dead"})).seen, Seen::Dead);
}

#[test]
fn the_time_is_split_off_a_piece_of_output() {
    let piece = LogOutput::StdErr {
        message: "2026-11-21T03:00:00.000001999Z a b\n".into(),
    };
    let output = read::output(piece);
    assert_eq!(output.stream, LogStream::Stderr);
    assert_eq!(output.at_micros % 1_000_000, 1);
    assert_eq!(&output.data[..], b"a b\n");

    let bare = LogOutput::StdOut {
        message: "no time here".into(),
    };
    assert_eq!(&read::output(bare).data[..], b"no time here");
}

proptest! {
    #[test]
    fn no_task_widens_the_host_configuration(
        words in proptest::collection::vec(".{0,40}", 8),
        numbers in any::<(u32, u32, u32)>(),
        flags in any::<(bool, bool)>(),
    ) {
        let mut hostile = new();
        hostile.command = words.clone();
        hostile.entrypoint = flags.0.then(|| words.clone());
        hostile.env = words.clone();
        hostile.user = words[0].clone();
        hostile.workdir = Some(words[1].clone());
        hostile.network = flags.1.then(|| words[2].clone());
        hostile.limits = Limits {
            cpu_millis: numbers.0,
            pids: numbers.1,
            memory_bytes: numbers.2.into(),
        };
        let body = body::container(&hostile);
        let fields = set_fields(body.host_config.as_ref().unwrap());
        let usual = set_fields(body::container(&new()).host_config.as_ref().unwrap());
        // What a task may move; everything else is as it always is.
        let own = ["Memory", "MemorySwap", "NanoCpus", "PidsLimit", "NetworkMode"];
        prop_assert!(fields.keys().eq(usual.keys()));
        for (name, value) in &fields {
            prop_assert!(own.contains(&name.as_str()) || value == &usual[name], "{name}: {value}");
        }
    }
}
