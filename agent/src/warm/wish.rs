//! What containers have to have in common for a task to run in one that was parked before it.

use muster_core::spec::limits;

use crate::offer::Task;
use crate::runtime::Limits;

/// What can't be changed about a container once it runs, besides its image, as far as tasks differ in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `None`: the image's, unless that is root.
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// On the team's bridge; otherwise without a network.
    pub bridge: bool,
    pub writable_root: bool,
    /// The lease is mounted.
    pub lease: bool,
}

impl Default for Wish {
    /// Of a task that asks for nothing.
    fn default() -> Self {
        Self {
            user: None,
            workdir: None,
            bridge: true,
            writable_root: false,
            lease: false,
        }
    }
}

impl Wish {
    /// `None`: no parked container serves such a task.
    pub(crate) fn of(task: &Task) -> Option<Self> {
        let Task {
            // What the init process is told.
            id: _,
            job_name: _,
            phase: _,
            pool: _,
            tasks: _,
            channel: _,
            release: _,
            traceparent: _,
            entrypoint: _,
            command: _,
            env: _,
            kill_grace: _,
            // Whose container it is.
            team: _,
            image: _,
            // What can be set while it runs.
            cpu_millis: _,
            memory_bytes: _,
            pids: _,
            // What the agent alone minds.
            run_timeout: _,
            success_codes: _,
            may_pull: _,
            // The rest.
            user,
            workdir,
            gpus,
            stop_after,
            bridge,
            writable_root,
        } = task;
        (*gpus == 0).then(|| Self {
            user: user.clone(),
            workdir: workdir.clone(),
            bridge: *bridge,
            writable_root: *writable_root,
            lease: stop_after.is_some(),
        })
    }
}

/// Until a task has said what it wants.
pub(super) const DEFAULT_LIMITS: Limits = Limits {
    cpu_millis: 1000,
    memory_bytes: 512 << 20,
    pids: 256,
};

const _: () = assert!(DEFAULT_LIMITS.memory_bytes >= limits::MEMORY_MIN);
