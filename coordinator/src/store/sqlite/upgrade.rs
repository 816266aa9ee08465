//! Stores of every schema that was ever used, as dumps: today's binary opens them and goes on with what ran.

use std::path::Path;

use muster_core::agent::{Hello, Link};
use muster_core::effect::{Effect, Effects, Order, Record};
use muster_core::event::{AttemptEnd, Event, News, Report, Restored};
use muster_core::fleet::{Fleet, Limits};
use muster_core::ids::{AttemptId, AttemptNo, SessionNo, TaskId, Term};
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::time::Timestamp;
use rusqlite::Connection;

use super::{FILE, SqliteStore};
use crate::store::conformance::samples;
use crate::store::{JobQuery, Store};

/// By schema, from 1 on. A new migration comes with a dump of the schema before it.
const DUMPS: [&str; 9] = [
    include_str!("upgrade/schema-1.sql"),
    include_str!("upgrade/schema-2.sql"),
    include_str!("upgrade/schema-3.sql"),
    include_str!("upgrade/schema-4.sql"),
    include_str!("upgrade/schema-5.sql"),
    include_str!("upgrade/schema-6.sql"),
    include_str!("upgrade/schema-7.sql"),
    include_str!("upgrade/schema-8.sql"),
    include_str!("upgrade/schema-9.sql"),
];

fn fill(directory: &Path, schema: usize) {
    let database = Connection::open(directory.join(FILE)).unwrap();
    database.execute_batch(DUMPS[schema - 1]).unwrap();
    database
        .pragma_update(None, "user_version", i64::try_from(schema).unwrap())
        .unwrap();
}

#[test]
fn there_is_a_dump_of_every_schema_but_the_newest() {
    assert_eq!(DUMPS.len() + 1, super::open::MIGRATIONS.len());
}

/// In each dump one task of a job runs on the sample agent as its first attempt, and others wait.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one history, told in its order")]
async fn attempts_that_ran_under_an_older_schema_go_on() {
    for schema in 1..=DUMPS.len() {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), schema);
        let store = SqliteStore::open(directory.path()).unwrap();
        assert_eq!(store.identity().term, Term(8), "the dump's is 7");
        let (mut fleet, mut out) = (Fleet::new(Limits::default()), Effects::default());
        let now = Timestamp(1_000_000);
        let on_the_image = JobQuery {
            digest: Some(samples::image(3).digest()),
            limit: 9,
            ..JobQuery::default()
        };
        let found = store.list_jobs(on_the_image).await.unwrap().rows;
        let found: Vec<_> = found.iter().map(|row| row.job.id).collect();
        assert_eq!(found, [samples::job(1).id], "schema {schema}");
        let mut agents = Vec::new();
        for row in store.load().await.unwrap() {
            if let Restored::Agent(agent) = &row {
                agents.push(agent.clone());
            }
            fleet.handle(now, Event::Restored(row), &mut out);
        }
        let attempt = AttemptId {
            task: TaskId {
                job: samples::job(1).id,
                index: 0,
            },
            number: AttemptNo(1),
        };
        let [agent] = &agents[..] else {
            panic!("schema {schema} has agents {agents:?}");
        };
        assert!(matches!(
            agent.link,
            Link::Online { .. } | Link::Unreachable { .. }
        ));
        let hello = Hello {
            agent: agent.id.clone(),
            session: SessionNo(99),
            profile: agent.profile.clone(),
            term: Term(7),
            attempts: [attempt].into(),
            details: Default::default(),
            orphans: Default::default(),
            held: Vec::new(),
        };
        fleet.handle(now, Event::AgentHello(hello), &mut out);
        let ended = AttemptEnd {
            end: End::of(Outcome::Succeeded, EndReason::Exited),
            started: None,
            ended: now,
            usage: Usage::default(),
            metrics: None,
        };
        let report = Report {
            agent: agent.id.clone(),
            session: SessionNo(99),
            attempt,
            seq: 3,
            news: News::Ended(Box::new(ended)),
        };
        fleet.handle(now, Event::Reported(report), &mut out);
        fleet.settle(now, &mut out);
        assert_eq!(fleet.broken_invariants(), []);
        let effects = out.drain();
        let stopped = effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::Order {
                    order: Order::Stop { .. },
                    ..
                }
            )
        });
        assert!(!stopped, "schema {schema}");
        let records: Vec<Record> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Record(record) => Some(record),
                _ => None,
            })
            .collect();
        store.commit(records).await.unwrap();
        let job = store.job(samples::job(1).id).await.unwrap().unwrap();
        assert_eq!(job.progress.counts.succeeded, 1, "schema {schema}");
    }
}
