//! Jobs: keys, ids and lists.

use std::collections::BTreeMap;

use muster_core::effect::{Because, Record};
use muster_core::event::Prior;
use muster_core::ids::JobId;
use muster_core::image::{Digest, Image};
use muster_core::job::Job;
use muster_core::outcome::Outcome;
use muster_core::time::Timestamp;
use uuid::Uuid;

use super::samples::{self, job, progress, team};
use super::{ALL, Opener};
use crate::store::{JobQuery, JobRow, JobState, Page, Resolved, Store};

pub(in crate::store) async fn a_key_is_found_in_its_team(opener: &impl Opener) {
    let store = opener.open();
    let with_key = samples::with_key(job(1), "nightly");
    store
        .commit(vec![Record::JobSubmitted(with_key.clone())])
        .await
        .unwrap();

    let body = with_key.key.as_ref().unwrap().body;
    let found = store.find_key(&team("default"), "nightly").await.unwrap();
    assert_eq!(
        found,
        Some(Prior {
            id: with_key.id,
            body
        })
    );
    assert_eq!(
        store.find_key(&team("other"), "nightly").await.unwrap(),
        None
    );
    assert_eq!(
        store.find_key(&team("default"), "nightl").await.unwrap(),
        None
    );
}

pub(in crate::store) async fn an_id_is_found_by_its_end(opener: &impl Opener) {
    let store = opener.open();
    // The same last 40 bits, and below them the same last 45.
    let ids = [(1_u128 << 100) | 0x77, (1 << 101) | 0x77, (1 << 44) | 0x77];
    let jobs = ids.map(|id| samples::with_id(job(1), JobId(Uuid::from_u128(id))));
    store
        .commit(jobs.clone().map(Record::JobSubmitted).to_vec())
        .await
        .unwrap();
    let [a, b, c] = jobs.map(|job| job.id);
    let resolve = async |text: &str| store.resolve_job(&team("default"), text).await.unwrap();

    assert_eq!(
        resolve(&a.short()).await,
        Resolved::Ambiguous(vec![c, a, b])
    );
    assert_eq!(resolve(&c.to_string()[17..]).await, Resolved::One(c));
    assert_eq!(
        resolve(&a.to_string()[17..]).await,
        Resolved::Ambiguous(vec![a, b])
    );
    assert_eq!(resolve(&b.to_string()).await, Resolved::One(b));
    assert_eq!(resolve("zzzzzzzz").await, Resolved::None);
    assert_eq!(resolve("77").await, Resolved::None);
    let elsewhere = store
        .resolve_job(&team("other"), &b.to_string())
        .await
        .unwrap();
    assert_eq!(elsewhere, Resolved::None);
}

pub(in crate::store) async fn pages_are_stable_under_inserts(opener: &impl Opener) {
    let store = opener.open();
    let submit = async |numbers: [u32; 3]| {
        let records = numbers.map(|number| Record::JobSubmitted(job(number)));
        store.commit(records.to_vec()).await.unwrap();
    };
    submit([1, 2, 3]).await;
    submit([4, 5, 6]).await;
    let page = async |before| {
        store
            .list_jobs(JobQuery {
                before,
                limit: 4,
                ..ALL
            })
            .await
            .unwrap()
    };

    let first = page(None).await;
    submit([7, 8, 9]).await;
    let second = page(first.next).await;

    assert_eq!(ids(&first), [6, 5, 4, 3].map(|number| job(number).id));
    assert_eq!(ids(&second), [2, 1].map(|number| job(number).id));
    assert_eq!(second.next, None);
}

/// Pending, running and labeled, ended, and one of another team.
async fn four_jobs(store: &impl Store) -> [JobId; 4] {
    let labeled = samples::with_label(job(2), "stage", "prod");
    let jobs = [job(1), labeled, job(3), samples::with_team(job(4), "other")];
    let submitted = jobs.clone().map(Record::JobSubmitted);
    store.commit(submitted.to_vec()).await.unwrap();
    let mut running = progress(&jobs[1]);
    running.started = Some(Timestamp(5));
    let mut ended = progress(&jobs[2]);
    ended.ended = Some(Timestamp(9));
    ended.counts.succeeded = 1;
    ended.counts.failed = 1;
    let changed = [(&jobs[1], running), (&jobs[2], ended)];
    let changed = changed.map(|(job, progress)| Record::JobProgress {
        job: job.id,
        progress,
    });
    store.commit(changed.to_vec()).await.unwrap();
    jobs.map(|job| job.id)
}

pub(in crate::store) async fn jobs_are_filtered(opener: &impl Opener) {
    let store = opener.open();
    let [one, two, three, four] = four_jobs(&store).await;
    let list = async |set: &dyn Fn(&mut JobQuery)| {
        let mut query = ALL;
        set(&mut query);
        ids(&store.list_jobs(query).await.unwrap())
    };
    let live = vec![JobState::Pending, JobState::Running];
    let begun = vec![JobState::Running, JobState::Ended];
    let label = |value: &str| BTreeMap::from([("stage".to_owned(), value.to_owned())]);

    assert_eq!(list(&|_| ()).await, [four, three, two, one]);
    assert_eq!(
        list(&|all| all.team = Some(team("default"))).await,
        [three, two, one]
    );
    assert_eq!(
        list(&|all| all.states = live.clone()).await,
        [four, two, one]
    );
    assert_eq!(list(&|all| all.states = begun.clone()).await, [three, two]);
    let bad = vec![Outcome::Failed, Outcome::Lost];
    assert_eq!(list(&|all| all.outcomes = bad.clone()).await, [three]);
    assert_eq!(list(&|all| all.labels = label("prod")).await, [two]);
    assert_eq!(list(&|all| all.labels = label("test")).await, []);
    assert_eq!(
        list(&|all| all.name = Some("load".to_owned())).await.len(),
        4
    );
    assert_eq!(list(&|all| all.name = Some("loa".to_owned())).await, []);
    let both = |all: &mut JobQuery| (all.team, all.states) = (Some(team("default")), live.clone());
    assert_eq!(list(&both).await, [two, one]);
}

pub(in crate::store) async fn jobs_are_found_by_the_images_of_their_attempts(opener: &impl Opener) {
    let store = opener.open();
    let [one, two, three, four] = [1, 2, 3, 4].map(job);
    let on = |job: &Job, index, number, seed| {
        let because = Because::First;
        samples::attempt_on(samples::image(seed), job, index, number, because)
    };
    let all = [&one, &two, &three, &four].map(|job| Record::JobSubmitted(job.clone()));
    store.commit(all.to_vec()).await.unwrap();
    // The second task and the retry of the first are on another image; the fourth has no attempt.
    let made = [on(&one, 0, 1, 7), on(&one, 1, 1, 8), on(&two, 0, 1, 8)];
    store.commit(made.to_vec()).await.unwrap();
    let retried = [on(&two, 0, 2, 7), on(&three, 0, 1, 7), on(&three, 1, 1, 7)];
    store.commit(retried.to_vec()).await.unwrap();
    let mut over = progress(&three);
    over.ended = Some(Timestamp(9));
    let over = Record::JobProgress {
        job: three.id,
        progress: over,
    };
    store.commit(vec![over]).await.unwrap();
    drop(store);
    let store = opener.open();
    let list = async |seed, states: Vec<JobState>, before, limit| {
        let query = JobQuery {
            digest: Some(samples::image(seed).digest()),
            states,
            before,
            limit,
            ..ALL
        };
        store.list_jobs(query).await.unwrap()
    };

    let first = list(7, vec![], None, 2).await;
    assert_eq!(ids(&first), [three.id, two.id]);
    assert_eq!(ids(&list(7, vec![], first.next, 2).await), [one.id]);
    assert_eq!(ids(&list(8, vec![], None, 9).await), [two.id, one.id]);
    assert_eq!(ids(&list(9, vec![], None, 9).await), []);
    let live = vec![JobState::Pending, JobState::Running];
    assert_eq!(ids(&list(7, live, None, 9).await), [two.id, one.id]);
    let ended = vec![JobState::Ended];
    assert_eq!(ids(&list(7, ended, None, 9).await), [three.id]);
    let begins = async |text: &str| store.find_digests(text.parse().unwrap()).await.unwrap();
    let [seven, eight] = [7, 8].map(|seed| samples::image(seed).digest());
    assert_eq!(begins(&seven.to_string()).await, [seven]);
    assert_eq!(begins("sha256:080808080808").await, [eight]);
    assert_eq!(begins("090909090909").await, []);
}

pub(in crate::store) async fn two_digests_with_one_beginning_are_both_found(opener: &impl Opener) {
    let store = opener.open();
    let one = job(1);
    let mut batch = vec![Record::JobSubmitted(one.clone())];
    let digests = [1, 2, 3].map(|last| {
        let mut bytes = [0xab; 32];
        bytes[31] = last;
        Digest::from_bytes(bytes)
    });
    for (index, digest) in (0..).zip(digests) {
        let image = Image::Local { digest };
        batch.push(samples::attempt_on(image, &one, index, 1, Because::First));
    }
    store.commit(batch).await.unwrap();

    let found = store.find_digests("abababababab".parse().unwrap()).await;

    assert_eq!(found.unwrap(), digests[..2]);
}

fn ids(page: &Page<JobRow, JobId>) -> Vec<JobId> {
    page.rows.iter().map(|row| row.job.id).collect()
}
