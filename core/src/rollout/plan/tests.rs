use super::*;
use crate::rollout::policy::{Gates, Newer};

fn agents(count: u32) -> BTreeSet<AgentId> {
    (0..count)
        .map(|n| AgentId::parse(&format!("a{n}")).unwrap())
        .collect()
}

fn validate(command: &[&str]) -> Validate {
    Validate {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout: Millis::from_secs(60),
        exit_code: 0,
        pool: PoolName::parse("default").unwrap(),
    }
}

fn everything() -> Policy {
    Policy {
        prefetch: Some(Prefetch::default()),
        validate: Some(validate(&["check"])),
        canary: Some(Canary {
            share: Share::First(5),
            jobs: BTreeSet::new(),
            sample: 30,
            patience: Millis::from_secs(600),
            after_patience: AfterPatience::Promote,
        }),
        restart: Some(Restart {
            jobs: BTreeSet::new(),
            healthy_after: Millis::from_secs(30),
            patience: Millis::from_secs(600),
        }),
        bake: Some(Bake {
            lasts: Millis::from_secs(600),
        }),
        gates: Gates::default(),
        newer: Newer::Supersede,
    }
}

#[test]
fn without_a_policy_a_push_is_promoted_at_once() {
    let plan = plan(&Policy::default(), &Facts::default(), &agents(3)).unwrap();
    assert_eq!(plan.steps, [Step::Promote]);
}

#[test]
fn the_steps_come_in_the_order_in_which_less_and_less_can_go_wrong() {
    let plan = plan(&everything(), &Facts::default(), &agents(3)).unwrap();
    let phases: Vec<&str> = plan
        .steps
        .iter()
        .map(|step| step.phase().as_str())
        .collect();
    let expected = [
        "prefetch", "validate", "canary", "promote", "restart", "bake",
    ];
    assert_eq!(phases, expected);
}

#[test]
fn enough_agents_is_rounded_up() {
    for (agents_known, percent, wanted) in [
        (0, 80, 0),
        (1, 1, 1),
        (3, 80, 3),
        (10, 80, 8),
        (10, 100, 10),
    ] {
        let policy = Policy {
            prefetch: Some(Prefetch {
                enough_percent: percent,
                ..Prefetch::default()
            }),
            ..Policy::default()
        };
        let plan = plan(&policy, &Facts::default(), &agents(agents_known)).unwrap();
        let Step::Prefetch { enough, .. } = &plan.steps[0] else {
            panic!("{plan:?}")
        };
        assert_eq!(*enough, wanted, "{percent} % of {agents_known}");
    }
}

#[test]
fn a_sample_is_no_larger_than_the_canary() {
    let plan = plan(&everything(), &Facts::default(), &agents(0)).unwrap();
    let Step::Canary { sample, .. } = plan.steps[2] else {
        panic!("{plan:?}")
    };
    assert_eq!(sample, 5);
}

#[test]
fn the_image_may_bring_the_command_of_its_validation() {
    let policy = Policy {
        validate: Some(validate(&[])),
        ..Policy::default()
    };
    let facts = Facts {
        validate: vec!["smoke".into()],
        ..Facts::default()
    };
    let with_label = plan(&policy, &facts, &agents(1)).unwrap();
    let Step::Validate { command, .. } = &with_label.steps[0] else {
        panic!("{with_label:?}")
    };
    assert_eq!(command, &["smoke"]);
    let without = plan(&policy, &Facts::default(), &agents(1));
    assert_eq!(without, Err(Unplannable::NothingToValidate));
}

#[test]
fn an_image_that_was_objected_to_is_not_planned() {
    let facts = Facts {
        objection: Some("its signature is wrong".into()),
        ..Facts::default()
    };
    let refused = plan(&Policy::default(), &facts, &agents(1)).unwrap_err();
    assert_eq!(refused.to_string(), "its signature is wrong");
}
