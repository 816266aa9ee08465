//! What the engine is asked for: the one place where a container's configuration is made.

use std::collections::HashMap;
use std::path::Path;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, DeviceRequest, HostConfig, HostConfigLogConfig,
    Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::init::{OUTPUT, SOCKET};
use crate::runtime::{
    Credentials, InitProcess, LeaseTerms, Limits, NewContainer, NewParked, RunTerms,
};

/// Where the task finds the directory it shares with the agent.
const RUN_DIR: &str = "/run/muster";
/// muster's own init process, and what it uses, as the container sees them.
const INIT: &str = "/run/muster-init";
const RECORDS: &str = "/run/muster-records";
const LEASE: &str = "/run/muster-lease";
/// In the lease's directory: when it was renewed, in milliseconds of the clock since the host's start.
const LEASE_FILE: &str = crate::contact::FILE;
/// Handed to the init process in its environment, which the task can't read; it can read arguments.
const KEY: &str = "MUSTER_INIT_KEY";
const TMP: &str = "rw,noexec,nosuid,nodev,size=64m,mode=1777";
const OPEN_FILES: i64 = 1024;
/// What runs in a parked container.
pub(super) const PARK: [&str; 2] = ["/muster-init", "--park"];
/// Of a parked container, which needs much less; the engine's own helper runs in there first.
const PARKED_MEMORY: i64 = 32 << 20;
const PARKED_PIDS: i64 = 32;

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
        limits: _,
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

/// A container that holds a network namespace: a process that waits, with no rights at all.
pub(super) fn parked(new: &NewParked) -> ContainerCreateBody {
    let NewParked {
        name: _, // travels in the URL
        image,
        network,
        labels,
    } = new;
    ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint: Some(PARK.map(str::to_owned).to_vec()),
        labels: Some(labels.clone().into_iter().collect()),
        user: Some("65532:65532".to_owned()),
        host_config: Some(HostConfig {
            memory: Some(PARKED_MEMORY),
            memory_swap: Some(PARKED_MEMORY),
            pids_limit: Some(PARKED_PIDS),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            network_mode: Some(network.clone()),
            ipc_mode: Some("none".to_owned()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The task's program and arguments, below the init process; or where that is told of them.
fn under(init: &InitProcess) -> Vec<String> {
    let InitProcess {
        program: _,
        records: _,
        lease,
        run,
    } = init;
    let mut words = vec![
        INIT.to_owned(),
        "--records".to_owned(),
        RECORDS.to_owned(),
        "--output".to_owned(),
        format!("{RECORDS}/{OUTPUT}"),
    ];
    if lease.is_some() {
        words.extend(["--lease".to_owned(), format!("{LEASE}/{LEASE_FILE}")]);
    }
    let Some(RunTerms {
        key: _,
        argv,
        lease,
    }) = run
    else {
        words.extend(["--parked".to_owned(), format!("{RECORDS}/{SOCKET}")]);
        return words;
    };
    if let Some(LeaseTerms {
        limit,
        grace,
        start_by,
    }) = lease
    {
        words.extend([
            "--lease-ms".to_owned(),
            limit.as_millis().to_string(),
            "--grace-ms".to_owned(),
            grace.as_millis().to_string(),
            "--start-by-ms".to_owned(),
            start_by.to_string(),
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
    let key = init.run.as_ref().map(|run| format!("{KEY}={}", run.key));
    others.chain(key).collect()
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
            all.push(bind(lease, LEASE, true));
        }
    }
    all
}

/// Limits as the engine counts them.
struct Amounts {
    memory: i64,
    nano_cpus: i64,
    pids: i64,
}

impl Amounts {
    fn of(limits: Limits) -> Self {
        let Limits {
            cpu_millis,
            memory_bytes,
            pids,
        } = limits;
        Self {
            memory: i64::try_from(memory_bytes).unwrap_or(i64::MAX),
            nano_cpus: i64::from(cpu_millis) * 1_000_000,
            pids: i64::from(pids),
        }
    }
}

/// The body of a request for other limits.
pub(super) fn update(limits: Limits) -> ContainerUpdateBody {
    let limits = Amounts::of(limits);
    ContainerUpdateBody {
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory),
        nano_cpus: Some(limits.nano_cpus),
        pids_limit: Some(limits.pids),
        ..Default::default()
    }
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
    let limits = Amounts::of(new.limits);
    HostConfig {
        memory: Some(limits.memory),
        // Equal to the memory: no swap.
        memory_swap: Some(limits.memory),
        nano_cpus: Some(limits.nano_cpus),
        device_requests: gpus(new.gpus),
        pids_limit: Some(limits.pids),
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

/// How the registry of an image is told who asks.
pub(super) fn credentials(known: Credentials, image: &str) -> DockerCredentials {
    let serveraddress = image.split_once('/').map(|(host, _)| host.to_owned());
    match known {
        Credentials::Password { user, password } => DockerCredentials {
            username: Some(user),
            password: Some(password),
            serveraddress,
            ..Default::default()
        },
        Credentials::Token(token) => DockerCredentials {
            identitytoken: Some(token),
            serveraddress,
            ..Default::default()
        },
    }
}
