//! Follows one task to its end: its state, and the output of its attempts one after the other.

mod ending;

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::watch_event::Change;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::Client;
use crate::console::Console;
use crate::exit::Failure;
use crate::printer::Printer;
use crate::render::{span, words};
use crate::signals::{Asked, Signals};
use crate::target::short;
use crate::watch::{self, LogPiece, News};

pub(crate) use ending::Ending;

/// An ended task's log may still be on its way from the agent for this long without a new piece.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// A task that has not started by then gets the reason printed.
const EXPLAIN_AFTER: Duration = Duration::from_secs(2);

/// Which attempts' output to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    None,
    /// All of them, from the first one on.
    All,
    /// The newest one of now and those after it.
    FromNewest,
    Only(u32),
}

/// What to follow and how to show it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The job's whole id.
    pub(crate) job: String,
    pub(crate) index: u32,
    pub(crate) array: u32,
    pub(crate) image: String,
    pub(crate) created: Option<prost_types::Timestamp>,
    pub(crate) attempts: Attempts,
    /// `tail`, `since` and `streams` of the first request; the rest is filled in.
    pub(crate) logs: v1::LogsRequest,
    pub(crate) printer: Printer,
    /// Say where the task runs and why it waits.
    pub(crate) announce: bool,
}

/// Why following paused or ended.
#[derive(Debug)]
pub(crate) enum Stop {
    Ended(Ending),
    Asked(Asked),
    /// Nobody reads the output any more.
    Closed,
}

/// A task being followed.
#[derive(Debug)]
pub(crate) struct Follower {
    client: Client,
    plan: Plan,
    news: mpsc::Receiver<News<Change>>,
    news_over: bool,
    log: Option<OpenLog>,
    /// The last attempt whose output is out.
    printed: u32,
    task: Option<v1::Task>,
    job: Option<v1::Job>,
    /// The last attempt whose end was told as a reason for another.
    told: u32,
    announced: bool,
    explain_at: Option<Instant>,
}

#[derive(Debug)]
struct OpenLog {
    attempt: u32,
    pieces: mpsc::Receiver<News<LogPiece>>,
    last_piece: Instant,
}

impl Follower {
    pub(crate) fn new(client: &Client, plan: Plan) -> Self {
        let request = v1::WatchRequest {
            team: client.team.clone(),
            jobs: vec![plan.job.clone()],
            position: 0,
            jobs_only: false,
        };
        Self {
            news: watch::jobs(client, request),
            client: client.clone(),
            news_over: false,
            log: None,
            printed: 0,
            task: None,
            job: None,
            told: 0,
            announced: !plan.announce,
            explain_at: plan.announce.then(|| Instant::now() + EXPLAIN_AFTER),
            plan,
        }
    }

    /// Goes on until the task has ended and its output is out, or a signal comes. After a signal it
    /// can be called again.
    pub(crate) async fn run(
        &mut self,
        console: &mut Console,
        signals: &mut Signals,
    ) -> Result<Stop, Failure> {
        loop {
            self.open_log(console).await;
            if let Some(ending) = self.ending() {
                self.plan.printer.end_line(console);
                return Ok(Stop::Ended(ending));
            }
            if console.out_closed {
                return Ok(Stop::Closed);
            }
            let give_up_at = self.log.as_ref().filter(|log| self.is_over(log.attempt));
            let give_up_at = give_up_at.map(|log| log.last_piece + LOG_PATIENCE);
            tokio::select! {
                asked = signals.next() => return Ok(Stop::Asked(asked)),
                news = self.news.recv(), if !self.news_over => self.on_news(news, console).await?,
                news = next_piece(self.log.as_mut()) => self.on_log(news, console)?,
                () = at(give_up_at) => self.give_up_log(console),
                () = at(self.explain_at) => self.explain(console).await,
            }
        }
    }

    /// Opens the next log whose turn it is.
    async fn open_log(&mut self, console: &mut Console) {
        if self.log.is_some() {
            return;
        }
        let newest = self.task.as_ref().map_or(0, |task| task.attempt);
        let next = match self.plan.attempts {
            Attempts::None => return,
            Attempts::Only(number) => number,
            Attempts::All => self.printed + 1,
            Attempts::FromNewest if self.printed == 0 => newest,
            Attempts::FromNewest => self.printed + 1,
        };
        let is_known = match self.plan.attempts {
            Attempts::Only(_) => self.printed == 0,
            _ => next > 0 && next <= newest,
        };
        if !is_known {
            return;
        }
        if self.printed > 0 {
            self.tell_retry(self.printed, console).await;
        }
        let request = v1::LogsRequest {
            team: self.client.team.clone(),
            job: self.plan.job.clone(),
            index: self.plan.index,
            attempt: next,
            follow: true,
            ..self.plan.logs.clone()
        };
        // They are about the first attempt that is shown; later ones are shown whole.
        self.plan.logs.tail = 0;
        self.log = Some(OpenLog {
            attempt: next,
            pieces: watch::logs(&self.client, request),
            last_piece: Instant::now(),
        });
    }

    /// The end, once there is nothing more to wait for.
    fn ending(&self) -> Option<Ending> {
        let newest = self.task.as_ref().map_or(0, |task| task.attempt);
        let is_printed = self.log.is_none()
            && match self.plan.attempts {
                Attempts::None => true,
                Attempts::Only(_) => self.printed > 0,
                Attempts::All | Attempts::FromNewest => self.printed >= newest,
            };
        if !is_printed {
            return None;
        }
        let ended = self
            .task
            .as_ref()
            .filter(|task| task.state() == v1::TaskState::Ended);
        match (ended, self.plan.attempts) {
            (Some(task), _) => Some(Ending::of_task(task, self.plan.created)),
            (None, Attempts::Only(_)) => Some(Ending::GOES_ON),
            // Canceled before it was ever assigned: there is no task to tell of.
            (None, _) if self.news_over => Some(Ending::of_job(self.job.as_ref())),
            (None, _) => None,
        }
    }

    /// Whether nothing will be added to this attempt's output by the task itself.
    fn is_over(&self, attempt: u32) -> bool {
        self.news_over
            || self.task.as_ref().is_some_and(|task| {
                task.attempt > attempt
                    || matches!(task.state(), v1::TaskState::Ended | v1::TaskState::Pending)
            })
    }

    async fn on_news(
        &mut self,
        news: Option<News<Change>>,
        console: &mut Console,
    ) -> Result<(), Failure> {
        match news {
            Some(News::Item(Change::Job(job))) => self.job = Some(job),
            Some(News::Item(Change::Task(task))) if task.index == self.plan.index => {
                self.on_task(task, console).await;
            }
            Some(News::Item(Change::Task(_))) => {}
            Some(News::Lost) => {
                self.plan.printer.end_line(console);
                console.note(
                    "the coordinator does not answer; the job runs on, and muster tries again",
                );
            }
            Some(News::Back) => console.note("the coordinator answers again"),
            Some(News::Failed(status)) => return Err(status.into()),
            Some(News::Ended) | None => {
                self.news_over = true;
                self.explain_at = None;
            }
        }
        Ok(())
    }

    async fn on_task(&mut self, task: v1::Task, console: &mut Console) {
        if task.attempt > 0 || task.state() == v1::TaskState::Ended {
            self.explain_at = None;
        }
        if !self.announced && !task.agent.is_empty() {
            self.announced = true;
            console.note(&announcement(&self.plan, &task));
        }
        let waits = task.state() == v1::TaskState::Pending && task.attempt > 0;
        let attempt = task.attempt;
        self.task = Some(task);
        if waits {
            self.tell_retry(attempt, console).await;
        }
    }

    fn on_log(
        &mut self,
        news: Option<News<LogPiece>>,
        console: &mut Console,
    ) -> Result<(), Failure> {
        match news {
            Some(News::Item(LogPiece::Entry(entry))) => {
                self.plan.printer.print(console, &entry)?;
                if let Some(log) = &mut self.log {
                    log.last_piece = Instant::now();
                }
            }
            Some(News::Item(LogPiece::Complete) | News::Ended) | None => self.close_log(),
            // The other stream says so.
            Some(News::Lost | News::Back) => {}
            Some(News::Failed(status)) => {
                let is_missing = status.code() == tonic::Code::NotFound;
                if !is_missing || matches!(self.plan.attempts, Attempts::Only(_)) {
                    return Err(status.into());
                }
                // An attempt that never started has no output.
                self.close_log();
            }
        }
        Ok(())
    }

    fn close_log(&mut self) {
        if let Some(log) = self.log.take() {
            self.printed = log.attempt;
        }
    }

    fn give_up_log(&mut self, console: &mut Console) {
        let Some(log) = &self.log else { return };
        let attempt = log.attempt;
        self.plan.printer.end_line(console);
        console.say(&format!(
            "the output of {} is incomplete: its agent has not sent the rest. later: muster logs {}",
            self.name_of(attempt),
            self.name_of(attempt),
        ));
        self.close_log();
    }

    /// Says why there is another attempt, once for each.
    async fn tell_retry(&mut self, ended: u32, console: &mut Console) {
        if !self.plan.announce || self.told >= ended {
            return;
        }
        self.told = ended;
        let request = v1::ListAttemptsRequest {
            team: self.client.team.clone(),
            job: self.plan.job.clone(),
            index: self.plan.index,
        };
        let attempts = self.client.jobs().list_attempts(request).await;
        let attempts = attempts
            .map(|reply| reply.into_inner().attempts)
            .unwrap_or_default();
        let end = attempts.iter().find(|attempt| attempt.number == ended);
        let end = end.and_then(|attempt| attempt.end.as_ref());
        let end = end.map_or_else(
            || "ended".to_owned(),
            |end| format!("ended {}", words::end(end)),
        );
        let task = self.task.as_ref();
        let next = match task.filter(|task| task.attempt > ended) {
            Some(task) => format!("#{} is on {}", ended + 1, task.agent),
            None => {
                let not_before = task.and_then(|task| task.not_before);
                let now = span::wire(jiff::Timestamp::now());
                match span::between(Some(now), not_before) {
                    Some(delay) if delay.0 > 0 => format!("another attempt in {delay}"),
                    _ => "another attempt follows".to_owned(),
                }
            }
        };
        self.plan.printer.end_line(console);
        console.note(&format!("{} {end}; {next}", self.name_of(ended)));
    }

    /// Says why the task still waits.
    async fn explain(&mut self, console: &mut Console) {
        self.explain_at = None;
        let request = v1::ExplainRequest {
            team: self.client.team.clone(),
            job: self.plan.job.clone(),
            index: Some(self.plan.index),
        };
        // Only a courtesy: without an answer the task waits all the same.
        let Ok(reply) = self.client.jobs().explain(request).await else {
            return;
        };
        let id = short(&self.plan.job);
        match reply.into_inner().reasons.first() {
            Some(reason) => console.note(&format!("job {id} is pending: {}", reason.message)),
            None => console.note(&format!("job {id} is pending. see: muster why {id}")),
        }
    }

    fn name_of(&self, attempt: u32) -> String {
        format!("{}.{}#{attempt}", short(&self.plan.job), self.plan.index)
    }
}

/// `job 7f3kq2mp on laptop, python:3.12-slim@sha256:4c1a93b2`.
fn announcement(plan: &Plan, task: &v1::Task) -> String {
    let id = short(&plan.job);
    let index = if plan.array > 1 {
        format!(".{}", plan.index)
    } else {
        String::new()
    };
    let mut text = format!("job {id}{index} on {}, {}", task.agent, plan.image);
    if !plan.image.contains('@') && !task.digest.is_empty() {
        let digest = task.digest.get(..15).unwrap_or(&task.digest);
        text.push('@');
        text.push_str(digest);
    }
    text
}

/// Never, while no log is open.
async fn next_piece(log: Option<&mut OpenLog>) -> Option<News<LogPiece>> {
    match log {
        Some(log) => log.pieces.recv().await,
        None => std::future::pending().await,
    }
}

/// Never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
