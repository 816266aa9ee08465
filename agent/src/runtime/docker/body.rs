//! What the engine is asked for: the one place where a container's configuration is made.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::init::OUTPUT;
use crate::runtime::{InitProcess, LeaseTerms, NewContainer};

/// Where the task finds the directory it shares with the agent.
const RUN_DIR: &str = "/run/muster";
/// muster's own init process, and what it uses, as the container sees them.
const INIT: &str = "/run/muster-init";
const RECORDS: &str = "/run/muster-records";
const LEASE: &str = "/run/muster-lease";
/// In the lease's directory: when it was renewed, in milliseconds of the clock since the host's start.
const LEASE_FILE: &str = "renewed";
/// Handed to the init process in its environment, which the task can't read; it can read arguments.
const KEY: &str = "MUSTER_INIT_KEY";
const TMP: &str = "rw,noexec,nosuid,nodev,size=64m,mode=1777";
const OPEN_FILES: i64 = 1024;

/// The body of a create request.
pub(super) fn container(new: &NewContainer) -> ContainerCreateBody {
    let NewContainer {
        name: _, // travels in the URL
        image,
        entrypoint,
        command,
        env,
        labels,
        workdir,
        user,
        network,
        cpu_millis: _,
        memory_bytes: _,
        pids: _,
        gpus: _,
        writable_root: _,
        run_dir: _,
        cgroup_parent: _,
        init,
    } = new;
    let (entrypoint, command) = match init {
        Some(init) => (Some(under(init)), None),
        None => (
            entrypoint.clone(),
            (!command.is_empty()).then(|| command.clone()),
        ),
    };
    ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint,
        cmd: command,
        env: Some(environment(env, init.as_ref())),
        labels: Some(labels.clone().into_iter().collect()),
        working_dir: workdir.clone(),
        user: Some(user.clone()),
        network_disabled: Some(network.is_none()),
        host_config: Some(host(new)),
        ..Default::default()
    }
}

/// The task's program and arguments, below the init process.
fn under(init: &InitProcess) -> Vec<String> {
    let InitProcess {
        program: _,
        records: _,
        key: _,
        argv,
        lease,
    } = init;
    let mut words = vec![
        INIT.to_owned(),
        "--records".to_owned(),
        RECORDS.to_owned(),
        "--output".to_owned(),
        format!("{RECORDS}/{OUTPUT}"),
    ];
    if let Some(lease) = lease {
        let LeaseTerms {
            dir: _,
            limit,
            grace,
        } = lease;
        words.extend([
            "--lease".to_owned(),
            format!("{LEASE}/{LEASE_FILE}"),
            "--lease-ms".to_owned(),
            limit.as_millis().to_string(),
            "--grace-ms".to_owned(),
            grace.as_millis().to_string(),
        ]);
    }
    words.push("--".to_owned());
    words.extend_from_slice(argv);
    words
}

fn environment(env: &[String], init: Option<&InitProcess>) -> Vec<String> {
    let Some(init) = init else {
        return env.to_vec();
    };
    let is_key = |pair: &&String| pair.split_once('=').is_some_and(|(name, _)| name == KEY);
    let others = env.iter().filter(|pair| !is_key(pair)).cloned();
    others.chain([format!("{KEY}={}", init.key)]).collect()
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Default::default()
    }
}

fn mounts(new: &NewContainer) -> Vec<Mount> {
    let mut all = vec![bind(&new.run_dir, RUN_DIR, false)];
    if let Some(init) = &new.init {
        all.push(bind(&init.program, INIT, true));
        all.push(bind(&init.records, RECORDS, false));
        if let Some(lease) = &init.lease {
            all.push(bind(&lease.dir, LEASE, true));
        }
    }
    all
}

/// What `docker run --gpus N` asks for.
fn gpus(count: u32) -> Option<Vec<DeviceRequest>> {
    (count > 0).then(|| {
        vec![DeviceRequest {
            count: Some(i64::from(count)),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..Default::default()
        }]
    })
}

/// The typed allow-list. What is not named here is the engine's default, and the defaults are the
/// closed ones: no devices but the GPUs asked for, no host namespaces, no privileges, no other mounts.
fn host(new: &NewContainer) -> HostConfig {
    let memory = i64::try_from(new.memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        memory: Some(memory),
        // Equal to the memory: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(new.cpu_millis) * 1_000_000),
        device_requests: gpus(new.gpus),
        pids_limit: Some(i64::from(new.pids)),
        cgroup_parent: new.cgroup_parent.clone(),
        init: Some(new.init.is_none()),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(OPEN_FILES),
            hard: Some(OPEN_FILES),
        }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(!new.writable_root),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP.to_owned())])),
        mounts: Some(mounts(new)),
        network_mode: Some(new.network.clone().unwrap_or_else(|| "none".to_owned())),
        ipc_mode: Some("private".to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        // The exit code and the log would go with the container.
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "10m".to_owned()),
                ("max-file".to_owned(), "3".to_owned()),
            ])),
        }),
        ..Default::default()
    }
}
