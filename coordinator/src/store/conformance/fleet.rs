//! Channels and agents.

use muster_core::agent::{Link, Schedulable};
use muster_core::channel::Cause;
use muster_core::effect::Record;
use muster_core::event::Restored;
use muster_core::ids::SessionNo;
use muster_core::rollout::Conclusion;
use muster_core::time::Timestamp;

use super::Opener;
use super::samples::{agent, channel, release, rollout, team};
use crate::store::Store;

pub(in crate::store) async fn channels_and_their_history_are_kept(opener: &impl Opener) {
    let store = opener.open();
    let (one, two) = (release(1, Cause::Set), release(2, Cause::Webhook));
    let first = channel("analytics", one.clone(), None);
    let id = first.id.clone();
    let released = |release| Record::Released {
        channel: id.clone(),
        release,
    };
    store
        .commit(vec![
            released(one.clone()),
            Record::Channel(Box::new(first)),
        ])
        .await
        .unwrap();
    let second = channel("analytics", two.clone(), Some(one.clone()));
    store
        .commit(vec![
            Record::Channel(Box::new(second.clone())),
            released(two.clone()),
        ])
        .await
        .unwrap();

    assert_eq!(
        store.channel(id.clone()).await.unwrap(),
        Some(second.clone())
    );
    assert_eq!(
        store.list_channels(Some(team("default"))).await.unwrap(),
        [second]
    );
    assert_eq!(store.list_channels(Some(team("other"))).await.unwrap(), []);
    assert_eq!(
        store.history(id.clone(), 10).await.unwrap(),
        [two.clone(), one.clone()]
    );
    assert_eq!(store.history(id.clone(), 1).await.unwrap(), [two]);
    assert_eq!(store.release(id.clone(), 1).await.unwrap(), Some(one));
    assert_eq!(store.release(id, 3).await.unwrap(), None);
}

pub(in crate::store) async fn rollouts_are_kept_and_come_back_while_they_are_under_way(
    opener: &impl Opener,
) {
    let store = opener.open();
    let (one, two) = (release(1, Cause::Set), release(2, Cause::Webhook));
    let known = channel("analytics", one.clone(), None);
    let id = known.id.clone();
    let first = rollout(&one, &two, None);
    let records = vec![
        Record::Channel(Box::new(known)),
        Record::Rollout(Box::new(first.clone())),
    ];
    store.commit(records).await.unwrap();
    assert_eq!(
        store.rollout(id.clone(), 2).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(store.rollout(id.clone(), 3).await.unwrap(), None);
    let under_way = |row: &Restored| matches!(row, Restored::Rollout(_));
    let loaded = store.load().await.unwrap();
    let [Restored::Channel(_), Restored::Rollout(again)] = loaded.as_slice() else {
        panic!("{loaded:?}")
    };
    assert_eq!(**again, first);

    let ended = rollout(&one, &two, Some(Conclusion::RolledBack));
    let next = rollout(&one, &release(3, Cause::Start), None);
    let records = [ended.clone(), next.clone()].map(|rollout| Record::Rollout(Box::new(rollout)));
    store.commit(records.to_vec()).await.unwrap();
    let listed = store.list_rollouts(id.clone(), 10).await.unwrap();
    assert_eq!(listed, [next.clone(), ended]);
    assert_eq!(store.list_rollouts(id, 1).await.unwrap(), [next]);
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.iter().filter(|row| under_way(row)).count(), 1);
}

pub(in crate::store) async fn agents_are_kept(opener: &impl Opener) {
    let store = opener.open();
    let mut expected = agent("etl-1");
    store
        .commit(vec![Record::Agent(Box::new(expected.clone()))])
        .await
        .unwrap();
    assert_eq!(store.list_agents().await.unwrap(), [expected.clone()]);

    let schedulable = Schedulable::Draining {
        reason: "disk".to_owned(),
        deadline: None,
    };
    let link = Link::Unreachable {
        since: Timestamp(80),
        lost_at: Timestamp(90),
    };
    let last_contact = Timestamp(70);
    let agent = expected.id.clone();
    let records = vec![
        Record::AgentSchedulable {
            agent: agent.clone(),
            schedulable: schedulable.clone(),
        },
        Record::AgentLink {
            agent,
            link,
            last_contact,
        },
    ];
    store.commit(records).await.unwrap();
    expected.schedulable = schedulable;
    expected.link = link;
    expected.last_contact = last_contact;
    assert_eq!(store.list_agents().await.unwrap(), [expected.clone()]);

    expected.link = Link::Online {
        session: SessionNo(4),
    };
    store
        .commit(vec![Record::Agent(Box::new(expected.clone()))])
        .await
        .unwrap();
    assert_eq!(store.list_agents().await.unwrap(), [expected]);
}
