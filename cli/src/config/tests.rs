use super::*;

fn resolve(flags: &Global, vars: &[(&str, &str)], dir: &Path) -> Result<Settings, BadConfig> {
    let variable = |name: &str| {
        let found = vars.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::resolve(
        flags,
        &Sources {
            variable: &variable,
            user_file: Some(dir.join("config.yaml")),
            system_file: dir.join("client.yaml"),
        },
    )
}

fn files(user: &str, system: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.yaml"), user).unwrap();
    std::fs::write(dir.path().join("client.yaml"), system).unwrap();
    dir
}

const USER: &str = "current_context: prod\ncontexts:\n  prod:\n    addr: http://prod:7380\n  lab:\n    team: science\n";

#[test]
fn without_anything_the_defaults_hold() {
    let dir = tempfile::tempdir().unwrap();
    let settings = resolve(&Global::default(), &[], dir.path()).unwrap();
    let rows: Vec<_> = settings
        .rows()
        .into_iter()
        .map(|(name, value, origin)| (name, value, origin.clone()))
        .collect();
    let default = |name, value: &str| (name, value.to_owned(), Origin::Default);
    assert_eq!(
        rows,
        [
            default("addr", "http://127.0.0.1:7380"),
            default("team", "default"),
            default("context", ""),
            default("output", "table"),
            default("color", "auto"),
        ]
    );
}

#[test]
fn the_nearer_source_wins() {
    let dir = files(USER, "addr: http://host:1\nteam: everyone\noutput: json\n");
    let at = dir.path();
    let none = Global::default();

    let settings = resolve(&none, &[], at).unwrap();
    assert_eq!(settings.addr.value, "http://prod:7380");
    assert_eq!(settings.team.value, "everyone");
    assert_eq!(settings.output.value, Format::Json);
    assert_eq!(settings.team.origin, Origin::File(at.join("client.yaml")));

    let vars = [("MUSTER_ADDR", "http://var:1"), ("MUSTER_CONTEXT", "lab")];
    let settings = resolve(&none, &vars, at).unwrap();
    assert_eq!(settings.addr.origin, Origin::Variable("MUSTER_ADDR"));
    assert_eq!(settings.team.value, "science");

    let flags = Global {
        addr: Some("unix:///flag".to_owned()),
        ..Global::default()
    };
    let settings = resolve(&flags, &vars, at).unwrap();
    assert_eq!(settings.addr.value, "unix:///flag");
    assert_eq!(settings.addr.origin.to_string(), "flag --addr");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let dir = files(USER, "");
    let none = Global::default();
    let error = resolve(&none, &[("MUSTER_CONTEXT", "nowhere")], dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("there is no context \"nowhere\" in /")
    );

    let error = resolve(&none, &[("MUSTER_OUTPUT", "xml")], dir.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "variable MUSTER_OUTPUT: \"xml\" is not an output format: table, wide, json, jsonl, yaml or name"
    );

    let dir = files("current_kontext: prod\n", "");
    let error = resolve(&none, &[], dir.path()).unwrap_err();
    assert!(matches!(error, BadConfig::Parse { .. }), "{error}");
}

#[test]
fn colours_can_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let none = Global::default();
    let settings = resolve(&none, &[("NO_COLOR", "1")], dir.path()).unwrap();
    assert_eq!(settings.color.value, ColorChoice::Never);
    let settings = resolve(&none, &[("NO_COLOR", "")], dir.path()).unwrap();
    assert_eq!(settings.color.value, ColorChoice::Auto);
}
