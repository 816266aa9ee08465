//! The shapes are a contract: a change here breaks somebody's script.

use muster_proto::v1;

use super::*;
use crate::mock::{at, end, ended_job, ended_task, job};

#[test]
fn a_job_has_every_field_always() {
    assert_eq!(
        text(&JobJson::from(job(1))),
        concat!(
            r#"{"id":"01jz8f5g3kq9w2m4n6p8r0t2v4","team":"default","state":"pending","outcome":null,"array":1,"#,
            r#""counts":{"pending":0,"preparing":0,"running":0,"succeeded":0,"failed":0,"oom":0,"timeout":0,"canceled":0,"#,
            r#""lost":0,"preempted":0,"image_error":0,"infra_error":0,"retries":0},"#,
            r#""created":"1970-01-01T00:01:40.000Z","started":null,"ended":null,"digest":null,"idempotency_key":null,"#,
            r#""cancel_requested":false,"cancel_reason":null,"#,
            r#""spec":{"name":"load-users","image":"analytics","pin":null,"pull":null,"entrypoint":null,"command":[],"env":{},"#,
            r#""labels":{},"workdir":null,"user":null,"#,
            r#""resources":{"cpu_millis":0,"memory_bytes":0,"pids":0,"gpus":0,"custom":{}},"#,
            r#""pool":null,"require":{},"agent":null,"priority":0,"queue_timeout_seconds":null,"run_timeout_seconds":null,"#,
            r#""kill_grace_seconds":null,"retry":{"user":null,"infra":null,"backoff":{"kind":null,"initial_seconds":null,"#,
            r#""cap_seconds":null,"no_jitter":false},"rules":[]},"success_codes":[],"delivery":null,"concurrency":[],"network":null,"#,
            r#""writable_root":false,"stop_after_seconds":null}}"#
        )
    );
}

#[test]
fn an_ended_job_has_its_outcome_as_state() {
    let ended = ended_job(1, v1::Outcome::Oom, v1::TaskCounts::default());
    let json = serde_json::to_value(JobJson::from(ended)).unwrap();
    assert_eq!(
        (&json["state"], &json["outcome"]),
        (&"oom".into(), &"oom".into())
    );
}

#[test]
fn spans_are_seconds() {
    let spec = v1::JobSpec {
        run_timeout: Some(prost_types::Duration {
            seconds: 90,
            nanos: 500_000_000,
        }),
        retry: Some(v1::RetryPolicy {
            user: Some(3),
            rules: vec![v1::RetryRule {
                outcomes: vec![v1::Outcome::ImageError.into()],
                exit_codes: vec![v1::ExitCodes {
                    first: 64,
                    last: Some(78),
                }],
                action: v1::retry_rule::Action::Retry.into(),
                grow: None,
            }],
            ..v1::RetryPolicy::default()
        }),
        ..v1::JobSpec::default()
    };
    let json = serde_json::to_value(SpecJson::from(spec)).unwrap();
    assert_eq!(json["run_timeout_seconds"], 90.5);
    assert_eq!(json["retry"]["user"], 3);
    assert_eq!(
        json["retry"]["rules"][0],
        serde_json::json!({"outcomes": ["image_error"], "exit_codes": ["64-78"], "action": "retry", "grow": null})
    );
}

#[test]
fn a_task_and_its_attempt() {
    assert_eq!(
        text(&TaskJson::from(ended_task(2, v1::Outcome::Failed, Some(7)))),
        concat!(
            r#"{"id":"01jz8f5g3kq9w2m4n6p8r0t2v4.0","job":"01jz8f5g3kq9w2m4n6p8r0t2v4","index":0,"state":"failed","#,
            r#""end":{"outcome":"failed","exit_code":7,"reason":"exited","message":""},"attempt":2,"agent":"etl-1","#,
            r#""digest":"sha256:4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c","#,
            r#""started":null,"ended":"1970-01-01T00:01:43.000Z","not_before":null,"user_retries_used":0,"infra_retries_used":0,"#,
            r#""quarantined":false,"deaths":0,"memory_bytes":null}"#
        )
    );
    let attempt = v1::Attempt {
        job: "01jz8f5g3kq9w2m4n6p8r0t2v4".to_owned(),
        number: 1,
        agent: "etl-1".to_owned(),
        end: Some(end(v1::Outcome::Succeeded, Some(0))),
        usage: Some(v1::Usage {
            peak_memory_bytes: Some(1024),
            cpu_seconds: Some(0.25),
            run: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..v1::Usage::default()
        }),
        because: "first".to_owned(),
        ..v1::Attempt::default()
    };
    assert_eq!(
        text(&AttemptJson::from(attempt)),
        concat!(
            r#"{"id":"01jz8f5g3kq9w2m4n6p8r0t2v4.0#1","number":1,"agent":"etl-1","image":"","assigned":null,"started":null,"#,
            r#""ended":null,"end":{"outcome":"succeeded","exit_code":0,"reason":"exited","message":""},"#,
            r#""usage":{"peak_memory_bytes":1024,"cpu_seconds":0.25,"pull_seconds":null,"start_seconds":null,"run_seconds":1.0},"#,
            r#""because":"first","late_report":null}"#
        )
    );
}

#[test]
fn an_agent() {
    let agent = v1::Agent {
        id: "etl-1".to_owned(),
        pool: "etl".to_owned(),
        state: v1::AgentState::Online.into(),
        schedulable: v1::Schedulable::Draining.into(),
        drain_deadline: at(60),
        capacity: Some(v1::Capacity {
            cpu_millis: 8000,
            places: 16,
            ..v1::Capacity::default()
        }),
        ..v1::Agent::default()
    };
    assert_eq!(
        text(&AgentJson::from(agent)),
        concat!(
            r#"{"id":"etl-1","pool":"etl","labels":{},"state":"online","schedulable":"draining","reason":null,"#,
            r#""drain_deadline":"1970-01-01T00:01:00.000Z","#,
            r#""capacity":{"cpu_millis":8000,"memory_bytes":0,"places":16,"gpus":0,"custom":{}},"#,
            r#""reserved":{"cpu_millis":0,"memory_bytes":0,"places":0,"gpus":0,"custom":{}},"#,
            r#""running":0,"version":"","engine":"","last_contact":null,"load":null,"images":[]}"#
        )
    );
}

#[test]
fn a_channel_with_its_release() {
    let channel = v1::Channel {
        name: "analytics".to_owned(),
        tag: "main".to_owned(),
        current: Some(v1::Release {
            number: 41,
            cause: "webhook".to_owned(),
            ..v1::Release::default()
        }),
        warm: Some(v1::WarmBounds { min: 1, max: 4 }),
        poll_interval: Some(prost_types::Duration {
            seconds: 90,
            nanos: 0,
        }),
        credentials: "acme".to_owned(),
        ..v1::Channel::default()
    };
    assert_eq!(
        text(&ChannelJson::from(channel)),
        concat!(
            r#"{"team":"","name":"analytics","repository":"","tag":"main","#,
            r#""current":{"number":41,"digest":"","at":null,"cause":"webhook","reason":null,"#,
            r#""by":null,"revision":null,"created":null,"repository":null,"carries_policy":false},"previous":null,"#,
            r#""held_by":0,"agents":0,"resolved":null,"problem":null,"policy_from":null,"warm":{"min":1,"max":4},"#,
            r#""poll_interval_seconds":90.0,"credentials":"acme"}"#
        )
    );
}

#[test]
fn a_page_names_what_it_holds() {
    let page = Page {
        name: "jobs",
        things: &[1, 2],
        next_page_token: "x",
    };
    assert_eq!(text(&page), r#"{"jobs":[1,2],"next_page_token":"x"}"#);
}
