use super::*;
use crate::args::Format;
use crate::console::fake::console;

fn change(field: &str, before: Option<&str>, after: Option<&str>) -> v1::FieldChange {
    v1::FieldChange {
        field: field.into(),
        before: before.map(Into::into),
        after: after.map(Into::into),
    }
}

fn object(kind: &str, action: ApplyAction, changes: Vec<v1::FieldChange>) -> v1::AppliedObject {
    v1::AppliedObject {
        kind: kind.into(),
        team: "default".into(),
        name: "analytics".into(),
        file: "deploy/analytics.yaml".into(),
        line: 1,
        action: action.into(),
        changes,
        note: String::new(),
    }
}

fn three() -> Vec<v1::AppliedObject> {
    let mut rollout = object("Rollout", ApplyAction::Unchanged, Vec::new());
    rollout.note = "the rollout is under way".into();
    vec![
        object(
            "Channel",
            ApplyAction::Created,
            vec![
                change("repository", None, Some("registry.example/acme/etl")),
                change("tag", None, Some("main")),
            ],
        ),
        object(
            "Channel",
            ApplyAction::Changed,
            vec![
                change("tag", Some("main"), Some("stable")),
                change("policy.canary.percent", None, Some("10%")),
                change("policy.bake.lasts", Some("1h"), None),
            ],
        ),
        rollout,
    ]
}

#[test]
fn a_plan_shows_each_field_before_and_after() {
    let (mut console, out, _) = console(Format::Table);
    show(&mut console, three(), Mode::Plan).unwrap();
    let expected = "\
Channel analytics  created
    repository  registry.example/acme/etl
    tag         main
Channel analytics  changed
    tag                    main -> stable
    policy.canary.percent  (none) -> 10%
    policy.bake.lasts      1h -> (none)
Rollout analytics  unchanged
    the rollout is under way
Would be: 1 created, 1 changed, 1 unchanged.
";
    assert_eq!(out.text(), expected);
}

#[test]
fn nothing_to_do_is_said() {
    let (mut console, out, _) = console(Format::Table);
    let unchanged = vec![object("Channel", ApplyAction::Unchanged, Vec::new())];
    show(&mut console, unchanged, Mode::Plan).unwrap();
    assert_eq!(out.text(), "Channel analytics  unchanged\nNo changes.\n");
}

#[test]
fn programs_get_the_same() {
    let (mut console, out, _) = console(Format::Json);
    let changed = three().remove(1);
    show(&mut console, vec![changed], Mode::Apply).unwrap();
    let page: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
    let expected = serde_json::json!({
        "objects": [{
            "kind": "Channel", "team": "default", "name": "analytics",
            "file": "deploy/analytics.yaml", "line": 1, "action": "changed",
            "changes": [
                {"field": "tag", "before": "main", "after": "stable"},
                {"field": "policy.canary.percent", "before": null, "after": "10%"},
                {"field": "policy.bake.lasts", "before": "1h", "after": null},
            ],
            "note": null,
        }],
        "next_page_token": "",
    });
    assert_eq!(page, expected);
}
