//! A coordinator for tests: answers what it was told to, on a port of its own.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt, stream};
use muster_proto::v1;
use muster_proto::v1::job_service_server::{JobService, JobServiceServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::args::Format;
use crate::client::Client;
use crate::commands::Context;
use crate::console::fake::{Sink, console};
use crate::signals::{Asked, Signals};

pub(crate) const JOB: &str = "01jz8f5g3kq9w2m4n6p8r0t2v4";

/// What the mock answers, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) job: v1::Job,
    pub(crate) existed: bool,
    pub(crate) warnings: Vec<String>,
    /// In order; the position of an event is its place plus one.
    pub(crate) changes: Vec<v1::watch_event::Change>,
    /// The first watch breaks after so many events.
    pub(crate) watch_breaks_after: Option<usize>,
    /// By attempt; a log that is not complete stays open.
    pub(crate) logs: BTreeMap<u32, Log>,
    /// The first stream of logs breaks after so many entries.
    pub(crate) logs_break_after: Option<usize>,
    pub(crate) attempts: Vec<v1::Attempt>,
    pub(crate) tasks: Vec<v1::Task>,

    pub(crate) submitted: Vec<v1::SubmitRequest>,
    pub(crate) watched: Vec<v1::WatchRequest>,
    pub(crate) canceled: Vec<v1::CancelRequest>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<v1::LogEntry>,
    pub(crate) complete: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Mock(pub(crate) Arc<Mutex<Script>>);

/// A command's world: a connection to the mock, a console that remembers, signals to send.
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) out: Sink,
    pub(crate) err: Sink,
    pub(crate) signals: mpsc::Sender<Asked>,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl World {
    pub(crate) async fn new(script: Script, format: Format) -> Self {
        let mock = Mock(Arc::new(Mutex::new(script)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(JobServiceServer::new(mock.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let (console, out, err) = console(format);
        let (signals, received) = mpsc::channel(4);
        Self {
            context: Context {
                client: Client::connect(&addr, "default").await.unwrap(),
                console,
                signals: Signals { received },
            },
            out,
            err,
            signals,
            script: mock.0,
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Mock {
    type WatchStream = Answers<v1::WatchEvent>;
    type LogsStream = Answers<v1::LogEntries>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.submitted.push(request.into_inner());
        Ok(Response::new(v1::SubmitResponse {
            jobs: vec![v1::SubmittedJob {
                job: Some(script.job.clone()),
                existed: script.existed,
                warnings: script.warnings.clone(),
            }],
        }))
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let script = self.0.lock().unwrap();
        let id = request.into_inner().id;
        if !script.job.id.ends_with(&id) {
            return Err(Status::not_found(format!("team default has no job {id}")));
        }
        Ok(Response::new(script.job.clone()))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let states = request.into_inner().states;
        let job = self.0.lock().unwrap().job.clone();
        let is_asked_for = states.is_empty() || states.contains(&job.state);
        Ok(Response::new(v1::ListJobsResponse {
            jobs: is_asked_for.then_some(job).into_iter().collect(),
            next_page_token: String::new(),
        }))
    }

    async fn list_tasks(
        &self,
        _: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        Ok(Response::new(v1::ListTasksResponse {
            tasks: self.0.lock().unwrap().tasks.clone(),
            next_page_token: String::new(),
        }))
    }

    async fn list_attempts(
        &self,
        _: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        Ok(Response::new(v1::ListAttemptsResponse {
            attempts: self.0.lock().unwrap().attempts.clone(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        let after = usize::try_from(request.position).unwrap();
        script.watched.push(request);
        let ends = script.changes.iter().any(|change| {
            matches!(change, v1::watch_event::Change::Job(job) if job.state() == v1::JobState::Ended)
        });
        let mut events: Vec<_> = script
            .changes
            .iter()
            .enumerate()
            .skip(after)
            .map(|(place, change)| {
                Ok(v1::WatchEvent {
                    position: u64::try_from(place).unwrap() + 1,
                    change: Some(change.clone()),
                })
            })
            .collect();
        if let Some(count) = script.watch_breaks_after.take() {
            events.truncate(count);
            events.push(Err(Status::unavailable("the coordinator is stopping")));
            return Ok(Response::new(Box::pin(stream::iter(events))));
        }
        let events = stream::iter(events);
        Ok(Response::new(if ends {
            Box::pin(events)
        } else {
            Box::pin(events.chain(stream::pending()))
        }))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.0.lock().unwrap().canceled.push(request.into_inner());
        Ok(Response::new(v1::CancelResponse { tasks: 1 }))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        let newest = script.logs.keys().next_back().copied().unwrap_or(0);
        let number = if request.attempt == 0 {
            newest
        } else {
            request.attempt
        };
        let Some(Log { entries, complete }) = script.logs.get(&number).cloned() else {
            return Err(Status::not_found("no such attempt"));
        };
        // One message for each entry, so that a break falls between them.
        let mut messages: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                Ok(v1::LogEntries {
                    entries: vec![entry],
                    complete: false,
                })
            })
            .collect();
        if let Some(count) = script.logs_break_after.take() {
            messages.truncate(count);
            messages.push(Err(Status::unavailable("the coordinator is stopping")));
            return Ok(Response::new(Box::pin(stream::iter(messages))));
        }
        if complete {
            messages.push(Ok(v1::LogEntries {
                entries: Vec::new(),
                complete: true,
            }));
        }
        let messages = stream::iter(messages);
        Ok(Response::new(if complete || !request.follow {
            Box::pin(messages)
        } else {
            Box::pin(messages.chain(stream::pending()))
        }))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        Ok(Response::new(v1::Explanation::default()))
    }

    async fn list_quarantined(
        &self,
        _: Request<v1::ListQuarantinedRequest>,
    ) -> Result<Response<v1::ListQuarantinedResponse>, Status> {
        Ok(Response::new(v1::ListQuarantinedResponse::default()))
    }

    async fn requeue(
        &self,
        _: Request<v1::RequeueRequest>,
    ) -> Result<Response<v1::RequeueResponse>, Status> {
        Ok(Response::new(v1::RequeueResponse { tasks: 1 }))
    }

    async fn drop(
        &self,
        _: Request<v1::DropRequest>,
    ) -> Result<Response<v1::DropResponse>, Status> {
        Ok(Response::new(v1::DropResponse {}))
    }
}

/// A job with one task unless `array` says otherwise.
pub(crate) fn job(array: u32) -> v1::Job {
    v1::Job {
        id: JOB.to_owned(),
        team: "default".to_owned(),
        array,
        state: v1::JobState::Pending.into(),
        created: at(100),
        spec: Some(v1::JobSpec {
            name: "load-users".to_owned(),
            image: "analytics".to_owned(),
            ..v1::JobSpec::default()
        }),
        ..v1::Job::default()
    }
}

pub(crate) fn ended_job(array: u32, outcome: v1::Outcome, counts: v1::TaskCounts) -> v1::Job {
    v1::Job {
        state: v1::JobState::Ended.into(),
        outcome: outcome.into(),
        counts: Some(counts),
        ended: at(103),
        ..job(array)
    }
}

/// Task 0 on agent etl-1.
pub(crate) fn task(state: v1::TaskState, attempt: u32) -> v1::Task {
    v1::Task {
        job: JOB.to_owned(),
        index: 0,
        state: state.into(),
        attempt,
        agent: "etl-1".to_owned(),
        digest: format!("sha256:{}", "4c".repeat(32)),
        ..v1::Task::default()
    }
}

pub(crate) fn ended_task(attempt: u32, outcome: v1::Outcome, exit_code: Option<i32>) -> v1::Task {
    v1::Task {
        end: Some(end(outcome, exit_code)),
        ended: at(103),
        ..task(v1::TaskState::Ended, attempt)
    }
}

pub(crate) fn end(outcome: v1::Outcome, exit_code: Option<i32>) -> v1::End {
    v1::End {
        outcome: outcome.into(),
        exit_code,
        reason: "exited".to_owned(),
        message: String::new(),
    }
}

pub(crate) fn out(data: &'static str) -> v1::LogEntry {
    entry(v1::LogStream::Stdout, data)
}

pub(crate) fn err(data: &'static str) -> v1::LogEntry {
    entry(v1::LogStream::Stderr, data)
}

fn entry(stream: v1::LogStream, data: &'static str) -> v1::LogEntry {
    v1::LogEntry {
        stream: stream.into(),
        at: at(101),
        data: data.into(),
    }
}

pub(crate) fn whole(entries: Vec<v1::LogEntry>) -> Log {
    Log {
        entries,
        complete: true,
    }
}

pub(crate) fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}
