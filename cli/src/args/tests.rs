use super::*;
use crate::args::agent::AgentVerb;
use crate::args::job::{JobVerb, StateWord, TaskVerb};

fn parse(line: &str) -> Result<Args, clap::Error> {
    let args = Args::try_parse_from(std::iter::once("muster").chain(line.split(' ')))?;
    args.check().map(|()| args)
}

fn command(line: &str) -> Command {
    parse(line).unwrap().command
}

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn after_the_image_everything_is_the_tasks() {
    let line = "run -e A=1 --array 3 analytics python3 -c x -d --array 9 -o json -- -q";
    let Command::Run(run) = command(line) else {
        panic!("not run");
    };
    let rest = [
        "analytics",
        "python3",
        "-c",
        "x",
        "-d",
        "--array",
        "9",
        "-o",
        "json",
        "--",
        "-q",
    ];
    assert_eq!(run.argv, rest);
    assert_eq!(run.job.array, Some(3));
    assert!(!run.container.detach);
}

#[test]
fn global_flags_stand_before_and_behind_the_verb() {
    for line in [
        "-o json -T etl agent list",
        "agent list -o json --team etl",
        "agent -o json list --namespace etl",
    ] {
        let args = parse(line).unwrap();
        assert_eq!(args.global.output, Some(Format::Json), "{line}");
        assert_eq!(args.global.team.as_deref(), Some("etl"), "{line}");
        assert!(
            matches!(
                args.command,
                Command::Agent(AgentArgs {
                    verb: Some(AgentVerb::List { .. }),
                    ..
                })
            ),
            "{line}"
        );
    }
}

#[test]
fn agent_without_a_verb_is_the_daemon() {
    let Command::Agent(agent) =
        command("agent --coordinator http://c:7380 --label a=1 --label b=2 --policy /p")
    else {
        panic!("not agent");
    };
    assert!(agent.verb.is_none());
    assert_eq!(
        agent.daemon.settings(),
        [
            ("MUSTER_AGENT_COORDINATOR", "http://c:7380".to_owned()),
            ("MUSTER_AGENT_LABELS", "a=1,b=2".to_owned()),
            ("MUSTER_AGENT_POLICY_FILE", "/p".to_owned()),
        ]
    );
    // The two are never mixed.
    assert!(parse("agent --pool etl list").is_err());
}

#[test]
fn coordinator_flags_are_settings() {
    let Command::Coordinator(flags) =
        command("coordinator --data-dir /d --listen unix:/s --insecure-dev-network")
    else {
        panic!("not coordinator");
    };
    assert_eq!(
        flags.daemon.settings(),
        [
            ("MUSTER_COORDINATOR_DATA_DIR", "/d".to_owned()),
            ("MUSTER_COORDINATOR_LISTEN", "unix:/s".to_owned()),
            ("MUSTER_COORDINATOR_INSECURE_DEV_NETWORK", "true".to_owned()),
        ]
    );
}

#[test]
fn daily_verbs_are_short_for_the_noun_form() {
    assert!(matches!(command("ps -a"), Command::Ps(_)));
    assert!(matches!(command("undo analytics"), Command::Rollback(_)));
    let Command::Job(job) = command("job list --state failed,image_error") else {
        panic!("not job");
    };
    let JobVerb::List(list) = job.verb else {
        panic!("not list");
    };
    assert_eq!(
        list.filter.state,
        [StateWord::Failed, StateWord::ImageError]
    );
    let Command::Task(task) = command("task logs -f -n 10 p8r0t2v4.3") else {
        panic!("not task");
    };
    let TaskVerb::Logs(logs) = task.verb else {
        panic!("not logs");
    };
    assert_eq!((logs.follow, logs.tail), (true, Some(10)));
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sent() {
    for line in [
        "run",
        "run --array 0 x",
        "run -d --wait x",
        "run --memory 5x x",
        "run --timeout 5 x",
        "run --no-such-flag x",
        "logs p8r0",
        "logs --exit-code p8r0t2v4",
        "logs --stdout --stderr p8r0t2v4",
        "wait",
        "ps --limit 0",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
