use std::path::Path;

use muster_core::effect::Record;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use super::{OpenError, SqliteStore};
use crate::store::conformance::{self, Opener, model, samples};
use crate::store::{CommitError, JobQuery, JobState, Revision, Store};

impl Opener for TempDir {
    type Store = SqliteStore;

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path()).unwrap()
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn the_term_rises_with_each_opening() {
    conformance::the_term_rises_with_each_opening(&directory()).await;
}

#[tokio::test]
async fn revisions_go_on_after_a_restart() {
    conformance::revisions_go_on_after_a_restart(&directory()).await;
}

#[tokio::test]
async fn a_commit_is_all_or_nothing() {
    conformance::a_commit_is_all_or_nothing(&directory()).await;
}

#[tokio::test]
async fn a_key_is_found_in_its_team() {
    conformance::jobs::a_key_is_found_in_its_team(&directory()).await;
}

#[tokio::test]
async fn an_id_is_found_by_its_end() {
    conformance::jobs::an_id_is_found_by_its_end(&directory()).await;
}

#[tokio::test]
async fn pages_are_stable_under_inserts() {
    conformance::jobs::pages_are_stable_under_inserts(&directory()).await;
}

#[tokio::test]
async fn jobs_are_filtered() {
    conformance::jobs::jobs_are_filtered(&directory()).await;
}

#[tokio::test]
async fn jobs_are_found_by_the_images_of_their_attempts() {
    conformance::jobs::jobs_are_found_by_the_images_of_their_attempts(&directory()).await;
}

#[tokio::test]
async fn two_digests_with_one_beginning_are_both_found() {
    conformance::jobs::two_digests_with_one_beginning_are_both_found(&directory()).await;
}

#[tokio::test]
async fn tasks_are_listed_by_index() {
    conformance::tasks::tasks_are_listed_by_index(&directory()).await;
}

#[tokio::test]
async fn attempts_keep_their_history() {
    conformance::tasks::attempts_keep_their_history(&directory()).await;
}

#[tokio::test]
async fn quarantine_survives_a_restart() {
    conformance::tasks::quarantine_survives_a_restart(&directory()).await;
}

#[tokio::test]
async fn a_waiting_task_can_end() {
    conformance::tasks::a_waiting_task_can_end(&directory()).await;
}

#[tokio::test]
async fn changes_miss_nothing() {
    conformance::tasks::changes_miss_nothing(&directory()).await;
}

#[tokio::test]
async fn channels_and_their_history_are_kept() {
    conformance::fleet::channels_and_their_history_are_kept(&directory()).await;
}

#[tokio::test]
async fn rollouts_are_kept_and_come_back_while_they_are_under_way() {
    conformance::fleet::rollouts_are_kept_and_come_back_while_they_are_under_way(&directory())
        .await;
}

#[tokio::test]
async fn agents_are_kept() {
    conformance::fleet::agents_are_kept(&directory()).await;
}

#[tokio::test]
async fn only_live_jobs_and_tasks_are_loaded() {
    conformance::only_live_jobs_and_tasks_are_loaded(&directory()).await;
}

#[test]
fn reopened_it_is_as_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&model::steps(), |steps| {
            runtime.block_on(model::reopened_it_is_as_it_was(&directory(), steps));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_second_opening_names_the_holder() {
    let directory = directory();
    let _held = directory.open();

    let refused = SqliteStore::open(directory.path()).unwrap_err();

    let holder = format!("is in use by process {}, since ", std::process::id());
    assert!(refused.to_string().contains(&holder), "{refused}");
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = directory();
    drop(directory.open());
    database(directory.path())
        .pragma_update(None, "user_version", 99)
        .unwrap();

    let refused = SqliteStore::open(directory.path()).unwrap_err();

    assert!(
        matches!(
            refused,
            OpenError::Newer {
                found: 99,
                known: 10
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_full_disk_is_fatal_and_loses_nothing_older() {
    let directory = directory();
    drop(directory.open());
    // The database may not grow: what a full disk does, without filling one.
    let mut connection = super::open::writing(&directory.path().join(super::FILE)).unwrap();
    let pages: u32 = connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    super::open::migrate(&mut connection).unwrap();
    let writer = super::Writer::start(connection, Revision(0));
    let jobs = (0..500)
        .map(|number| Record::JobSubmitted(samples::job(number)))
        .collect();
    writer
        .commit(vec![Record::JobSubmitted(samples::job(900))])
        .await
        .unwrap();

    let failed = writer.commit(jobs).await.unwrap_err();

    assert!(matches!(failed, CommitError::Failed { .. }), "{failed}");
    let after = writer.commit(Vec::new()).await.unwrap_err();
    assert!(matches!(after, CommitError::Stopped), "{after}");
    drop(writer);
    let store = directory.open();
    assert!(store.job(samples::job(900).id).await.unwrap().is_some());
    assert!(store.job(samples::job(0).id).await.unwrap().is_none());
}

/// What a compiler would do for checked queries. Statements built at run time are run by the suite above.
#[test]
fn every_statement_can_be_prepared() {
    let directory = directory();
    drop(directory.open());
    let connection = database(directory.path());
    let statements = [
        super::agents::STATEMENTS.as_slice(),
        &super::attempts::STATEMENTS,
        &super::changes::STATEMENTS,
        &super::channels::STATEMENTS,
        &super::digests::STATEMENTS,
        &super::jobs::STATEMENTS,
        &super::rollouts::STATEMENTS,
        &super::safe_mode::STATEMENTS,
        &super::writer::STATEMENTS,
    ];
    for sql in statements.concat() {
        connection
            .prepare(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn questions_are_served_by_indexes() {
    let directory = directory();
    drop(directory.open());
    let connection = database(directory.path());
    let team = Some(samples::team("default"));
    let live = vec![JobState::Pending, JobState::Running];
    let digest = Some(samples::image(3).digest());
    let jobs = |query: JobQuery| super::jobs::list_statement(&query, 100).0;
    for (sql, expected) in [
        (
            super::changes::STATEMENTS[0],
            "COVERING INDEX task_rev (job=? AND rev>?)",
        ),
        (
            super::jobs::STATEMENTS[3],
            "INDEX job_key (team=? AND key=?)",
        ),
        (super::jobs::STATEMENTS[5], "INDEX job_short (short=?)"),
        (
            super::attempts::STATEMENTS[5],
            "PRIMARY KEY (job=? AND idx=?)",
        ),
        (
            &jobs(JobQuery {
                team: team.clone(),
                ..JobQuery::default()
            }),
            "INDEX job_team (team=?)",
        ),
        (
            &jobs(JobQuery {
                team: team.clone(),
                states: live.clone(),
                ..JobQuery::default()
            }),
            "INDEX job_live",
        ),
        (
            &jobs(JobQuery {
                digest,
                before: Some(samples::job(1).id),
                ..JobQuery::default()
            }),
            "SEARCH d USING PRIMARY KEY (digest=? AND job<?); SEARCH j USING INDEX",
        ),
        (
            &jobs(JobQuery {
                digest,
                states: live,
                ..JobQuery::default()
            }),
            "SEARCH job_digest EXISTS USING PRIMARY KEY (digest=? AND job=?)",
        ),
        (
            super::digests::STATEMENTS[2],
            "PRIMARY KEY (digest>? AND digest<?)",
        ),
    ] {
        let plan = plan(&connection, sql);
        assert!(plan.contains(expected), "{sql}: {plan}");
        // The few jobs of one short id may be sorted; a list is read in its index's order.
        let sorts = plan.contains("TEMP B-TREE");
        assert_eq!(sorts, expected.contains("job_short"), "{sql}: {plan}");
    }
}

fn plan(connection: &rusqlite::Connection, sql: &str) -> String {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
    let values = rusqlite::params_from_iter(nulls);
    let steps = statement
        .query_map(values, |row| row.get::<_, String>(3))
        .unwrap();
    steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

fn database(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join(super::FILE)).unwrap()
}
