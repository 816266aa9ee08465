//! The daemons' flags. Each stands for one variable, and the daemon's own parser reads the value: a
//! setting means the same as a flag, as a variable and in a file.

/// A flag as the variable it stands for.
pub(crate) type Setting = (&'static str, String);

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct CoordinatorArgs {
    /// Where the store and the logs are [env: MUSTER_COORDINATOR_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// gRPC: ADDR:PORT or unix:/PATH [env: MUSTER_COORDINATOR_LISTEN] [default: 127.0.0.1:7380]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Webhooks, /metrics and /healthz [env: MUSTER_COORDINATOR_HTTP_LISTEN] [default: 127.0.0.1:7381]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http_listen: Option<String>,
    /// Listen beyond loopback although nothing is encrypted or authenticated
    #[arg(long)]
    pub(crate) insecure_dev_network: bool,
    /// Push gateway for the tasks' metrics [env: MUSTER_COORDINATOR_PUSHGATEWAY_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) pushgateway_url: Option<String>,
    /// A job name idle for so long loses its group [env: MUSTER_COORDINATOR_PUSHGATEWAY_IDLE] [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub(crate) pushgateway_idle: Option<String>,
    /// How often followed tags are resolved without a webhook [env: MUSTER_COORDINATOR_REGISTRY_POLL] [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) registry_poll: Option<String>,
    /// Registries spoken to without TLS, with commas [env: MUSTER_COORDINATOR_INSECURE_REGISTRIES]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) insecure_registries: Option<String>,
    /// Registries and repositories that channels may follow, with commas [env: MUSTER_COORDINATOR_ALLOWED_REPOSITORIES]
    /// [default: any]
    #[arg(long, value_name = "NAME,...")]
    pub(crate) allowed_repositories: Option<String>,
    /// Directory of docker configurations, NAME.json, that channels can name [env: MUSTER_COORDINATOR_CREDENTIALS_DIR]
    /// [default: none]
    #[arg(long, value_name = "DIR")]
    pub(crate) credentials_dir: Option<String>,
    /// Decides whether an image may be rolled out: exit code 0 takes it [env: MUSTER_COORDINATOR_VERIFY_COMMAND]
    #[arg(long, value_name = "PATH")]
    pub(crate) verify_command: Option<String>,
    /// What the senders of webhooks prove themselves with [env: MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_secrets_file: Option<String>,
    /// An agent silent for so long is lost [env: MUSTER_COORDINATOR_LOST_AFTER] [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) lost_after: Option<String>,
    /// How often agents say that they are there [env: MUSTER_COORDINATOR_HEARTBEAT] [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) heartbeat: Option<String>,
    /// Retries of one team that go each minute at least [env: MUSTER_COORDINATOR_RETRIES_PER_MINUTE] [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) retries_per_minute: Option<String>,
}

impl CoordinatorArgs {
    /// The flags that were given.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let Self {
            data_dir,
            listen,
            http_listen,
            insecure_dev_network,
            pushgateway_url,
            pushgateway_idle,
            registry_poll,
            insecure_registries,
            allowed_repositories,
            credentials_dir,
            verify_command,
            webhook_secrets_file,
            lost_after,
            heartbeat,
            retries_per_minute,
        } = self;
        let insecure = insecure_dev_network.then(|| "true".to_owned());
        given([
            ("MUSTER_COORDINATOR_DATA_DIR", data_dir),
            ("MUSTER_COORDINATOR_LISTEN", listen),
            ("MUSTER_COORDINATOR_HTTP_LISTEN", http_listen),
            ("MUSTER_COORDINATOR_INSECURE_DEV_NETWORK", &insecure),
            ("MUSTER_COORDINATOR_PUSHGATEWAY_URL", pushgateway_url),
            ("MUSTER_COORDINATOR_PUSHGATEWAY_IDLE", pushgateway_idle),
            ("MUSTER_COORDINATOR_REGISTRY_POLL", registry_poll),
            (
                "MUSTER_COORDINATOR_INSECURE_REGISTRIES",
                insecure_registries,
            ),
            (
                "MUSTER_COORDINATOR_ALLOWED_REPOSITORIES",
                allowed_repositories,
            ),
            ("MUSTER_COORDINATOR_CREDENTIALS_DIR", credentials_dir),
            ("MUSTER_COORDINATOR_VERIFY_COMMAND", verify_command),
            (
                "MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE",
                webhook_secrets_file,
            ),
            ("MUSTER_COORDINATOR_LOST_AFTER", lost_after),
            ("MUSTER_COORDINATOR_HEARTBEAT", heartbeat),
            ("MUSTER_COORDINATOR_RETRIES_PER_MINUTE", retries_per_minute),
        ])
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AgentDaemonArgs {
    /// Where to dial: http://HOST:PORT [env: MUSTER_AGENT_COORDINATOR]
    #[arg(long, value_name = "ADDR")]
    pub(crate) coordinator: Option<String>,
    /// This agent's name, the same after each restart [env: MUSTER_AGENT_NAME] [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// [env: MUSTER_AGENT_POOL] [default: default]
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// A label that jobs can require [env: MUSTER_AGENT_LABELS]
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Where the agent keeps what it has to report [env: MUSTER_AGENT_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Attempts at a time [env: MUSTER_AGENT_PLACES]
    #[arg(long, value_name = "N")]
    pub(crate) places: Option<String>,
    /// CPUs to give to tasks [env: MUSTER_AGENT_CPUS] [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory to give to tasks [env: MUSTER_AGENT_MEMORY]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Whole GPUs to give to tasks [env: MUSTER_AGENT_GPUS] [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<String>,
    /// Any other resource to give to tasks [env: MUSTER_AGENT_RESOURCES]
    #[arg(long = "resource", value_name = "NAME=AMOUNT")]
    pub(crate) resources: Vec<String>,
    /// Free disk below which no task is taken [env: MUSTER_AGENT_DISK_FREE] [default: 2GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_free: Option<String>,
    /// The same as a part of the disk; the larger counts [env: MUSTER_AGENT_DISK_FREE_PERCENT] [default: 10]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) disk_free_percent: Option<String>,
    /// Remove unused images from so much used disk, down to so much: HIGH-LOW or off [env: MUSTER_AGENT_IMAGE_GC] [default: 80-70]
    #[arg(long, value_name = "PERCENTS")]
    pub(crate) image_gc: Option<String>,
    /// Init process of containers: muster or engine [env: MUSTER_AGENT_INIT] [default: muster]
    #[arg(long, value_name = "WHOSE")]
    pub(crate) init: Option<String>,
    /// What this host allows tasks, whatever the coordinator says [env: MUSTER_AGENT_POLICY_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<String>,
    /// Serve the agent's own metrics on a loopback port [env: MUSTER_AGENT_METRICS_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<String>,
    /// Given to tasks as PUSHGATEWAY_URL [env: MUSTER_AGENT_PUSHGATEWAY_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) pushgateway_url: Option<String>,
    /// Given to tasks as OTEL_EXPORTER_OTLP_ENDPOINT [env: MUSTER_AGENT_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Images pulled at a time [env: MUSTER_AGENT_PULLS] [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) pulls: Option<String>,
    /// Most containers created and started at a time [env: MUSTER_AGENT_STARTS] [default: four for each CPU]
    #[arg(long, value_name = "N")]
    pub(crate) starts: Option<String>,
    /// Containers that may wait for tasks of channels that want such; 0: none [env: MUSTER_AGENT_WARM] [default: 8]
    #[arg(long, value_name = "N")]
    pub(crate) warm: Option<String>,
    /// Memory that has to be available for another one of them [env: MUSTER_AGENT_WARM_MEMORY_FREE] [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) warm_memory_free: Option<String>,
}

impl AgentDaemonArgs {
    /// The flags that were given.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let Self {
            coordinator,
            name,
            pool,
            labels,
            data_dir,
            places,
            cpus,
            memory,
            gpus,
            resources,
            disk_free,
            disk_free_percent,
            image_gc,
            init,
            policy,
            metrics_listen,
            pushgateway_url,
            otlp_endpoint,
            pulls,
            starts,
            warm,
            warm_memory_free,
        } = self;
        let labels = (!labels.is_empty()).then(|| labels.join(","));
        let resources = (!resources.is_empty()).then(|| resources.join(","));
        given([
            ("MUSTER_AGENT_COORDINATOR", coordinator),
            ("MUSTER_AGENT_NAME", name),
            ("MUSTER_AGENT_POOL", pool),
            ("MUSTER_AGENT_LABELS", &labels),
            ("MUSTER_AGENT_DATA_DIR", data_dir),
            ("MUSTER_AGENT_PLACES", places),
            ("MUSTER_AGENT_CPUS", cpus),
            ("MUSTER_AGENT_MEMORY", memory),
            ("MUSTER_AGENT_GPUS", gpus),
            ("MUSTER_AGENT_RESOURCES", &resources),
            ("MUSTER_AGENT_DISK_FREE", disk_free),
            ("MUSTER_AGENT_DISK_FREE_PERCENT", disk_free_percent),
            ("MUSTER_AGENT_IMAGE_GC", image_gc),
            ("MUSTER_AGENT_INIT", init),
            ("MUSTER_AGENT_POLICY_FILE", policy),
            ("MUSTER_AGENT_METRICS_LISTEN", metrics_listen),
            ("MUSTER_AGENT_PUSHGATEWAY_URL", pushgateway_url),
            ("MUSTER_AGENT_OTLP_ENDPOINT", otlp_endpoint),
            ("MUSTER_AGENT_PULLS", pulls),
            ("MUSTER_AGENT_STARTS", starts),
            ("MUSTER_AGENT_WARM", warm),
            ("MUSTER_AGENT_WARM_MEMORY_FREE", warm_memory_free),
        ])
    }
}

/// Coordinator, agent and SQLite in one process. The variables of both daemons apply too.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept [default: ~/.local/share/muster]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// gRPC [default: 127.0.0.1:7380]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Webhooks, /metrics and /healthz [default: 127.0.0.1:7381]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http_listen: Option<String>,
    /// The agent's name [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Attempts at a time
    #[arg(long, value_name = "N")]
    pub(crate) places: Option<String>,
}

fn given<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> Vec<Setting> {
    let given = flags
        .into_iter()
        .filter_map(|(variable, value)| Some((variable, value.clone()?)));
    given.collect()
}
