use super::*;

const IMAGE: &str =
    "r.example/x@sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn offer(change: impl Fn(&mut pb::Offer, &mut pb::JobSpec)) -> pb::Offer {
    let mut spec = pb::JobSpec {
        name: "etl".into(),
        pool: "default".into(),
        command: vec!["true".into()],
        resources: Some(pb::Resources {
            cpu_millis: 1000,
            memory_bytes: 64 << 20,
            pids: 256,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut offer = pb::Offer {
        attempt: Some(pb::AttemptId {
            job: "00000000000000000000000000".into(),
            index: 4,
            number: 2,
        }),
        team: "default".into(),
        array: 10,
        image: IMAGE.into(),
        ..Default::default()
    };
    change(&mut offer, &mut spec);
    offer.spec = Some(spec);
    offer
}

fn problem(change: impl Fn(&mut pb::Offer, &mut pb::JobSpec)) -> String {
    Task::check(&offer(change), &Policy::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_good_offer_is_read() {
    let task = Task::check(&offer(|_, _| {}), &Policy::default()).unwrap();
    assert_eq!(task.id.to_string(), "00000000000000000000000000.4-2");
    assert_eq!(task.run_timeout, Millis::from_secs(86_400));
    assert_eq!(task.kill_grace, Millis::from_secs(10));
    assert!(task.bridge && task.may_pull && task.entrypoint.is_none());
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    let resources = |s: &mut pb::JobSpec| s.resources.clone().unwrap();
    assert!(problem(|o, _| o.attempt = None).contains("attempt"));
    assert!(problem(|o, _| o.team = "Not A Team".into()).contains("team"));
    assert!(problem(|o, _| o.image = "x:latest".into()).contains("image"));
    let small = |_: &mut pb::Offer, s: &mut pb::JobSpec| {
        s.resources = Some(pb::Resources {
            memory_bytes: 1,
            ..resources(s)
        });
    };
    assert!(problem(small).contains("memory"));
    let none = |_: &mut pb::Offer, s: &mut pb::JobSpec| s.resources = None;
    assert!(problem(none).contains("memory"));
    assert!(problem(|_, s| s.command = vec!["a\0b".into()]).contains("command"));
    assert!(problem(|_, s| s.workdir = "tmp".into()).contains("workdir"));
    assert!(problem(|_, s| s.success_codes = vec![256]).contains("success_codes"));
    for name in ["MUSTER_FENCE", "A=B", ""] {
        let bad = problem(|_, s| drop(s.env.insert(name.into(), "1".into())));
        assert!(bad.contains("env"), "{name}: {bad}");
    }
    assert!(problem(|_, s| s.writable_root = true).contains("allow_writable_root"));
}

#[test]
fn what_is_no_trace_context_is_dropped() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(traceparent(good), good);
    assert_eq!(traceparent("00-zz"), "");
}
