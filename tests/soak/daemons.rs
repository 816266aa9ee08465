//! The daemons that a soak runs as processes of their own, and how it talks to them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_proto::v1::agent_service_client::AgentServiceClient;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::fleet::Fleet;
use muster_tests::gauge::Process;
use tonic::transport::Channel;

use crate::audit::patiently;

/// Answers may hold a thousand agents with their images.
const ANSWER_MAX: usize = 64 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Daemons(Fleet);

impl Daemons {
    /// A coordinator and so many agents, which use the engine at `engine`.
    pub(crate) fn start(agents: usize, engine: Option<&str>) -> Self {
        let mut environment = vec![("MUSTER_LOG", "warn")];
        environment.extend(engine.map(|host| ("DOCKER_HOST", host)));
        Self(Fleet::start_in(agents, &[], &environment))
    }

    /// A coordinator that pushes its metrics and exports its traces to `sides`.
    pub(crate) fn start_beside(sides: Option<&str>) -> Self {
        let Some(sides) = sides else {
            return Self::start(0, None);
        };
        let environment = [
            ("MUSTER_LOG", "error"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", sides),
        ];
        let flags = ["--pushgateway-url", sides];
        Self(Fleet::start_in(0, &flags, &environment))
    }

    /// Kills the coordinator as a crash would, starts it again, and says how long it took to serve.
    pub(crate) fn restart_coordinator(&mut self) -> Duration {
        tokio::task::block_in_place(|| {
            self.0.coordinator().kill();
            let began = Instant::now();
            self.0.start_coordinator();
            began.elapsed()
        })
    }

    pub(crate) fn restart_agent(&mut self, name: &str) {
        tokio::task::block_in_place(|| {
            self.0.agent(name).kill();
            self.0.start_agent(name);
        });
    }

    /// Ends the coordinator. Whatever is left then goes with the engine, also what Docker can't remove.
    pub(crate) fn stop(&mut self) {
        tokio::task::block_in_place(|| self.0.coordinator().terminate());
    }

    /// `HOST:PORT` of the coordinator, the same after each start.
    pub(crate) fn address(&self) -> &str {
        &self.0.grpc
    }

    /// Of an agent.
    pub(crate) fn data_dir(&self, agent: &str) -> PathBuf {
        self.0.directory.path().join(agent)
    }

    /// Bytes of the store without its write-ahead log, whose size is bounded.
    pub(crate) fn store_bytes(&self) -> u64 {
        let store = self.0.directory.path().join("coordinator/muster.db");
        std::fs::metadata(store).map_or(0, |found| found.len())
    }

    pub(crate) fn coordinator(&mut self) -> Process {
        Process(self.0.coordinator().pid())
    }

    pub(crate) fn agent(&mut self, name: &str) -> Process {
        Process(self.0.agent(name).pid())
    }

    /// A connection of its own.
    fn connect(&self) -> Channel {
        let endpoint = format!("http://{}", self.address());
        let endpoint = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
        endpoint.timeout(DEADLINE).connect_lazy()
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.connect()).max_decoding_message_size(ANSWER_MAX)
    }

    pub(crate) async fn job(&self, id: &str) -> pb::Job {
        patiently("job", || {
            let mut jobs = self.jobs();
            let id = id.to_owned();
            let request = pb::GetJobRequest {
                id,
                ..Default::default()
            };
            async move { jobs.get(request).await }
        })
        .await
    }

    pub(crate) fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.connect()).max_decoding_message_size(ANSWER_MAX)
    }
}
