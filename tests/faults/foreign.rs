//! What others have on the engine stays as it is, whatever muster cleans up: containers, volumes, images and
//! networks, among them some that look almost like muster's own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, IMAGE, enabled};
use muster_tests::processes::{eventually, free_address, output_of};
use muster_tests::registry::Registry;

/// Of each kind.
const EACH: usize = 25;
/// Images that are pulled; of one repository the newest few stay.
const PUSHED: usize = 6;

/// Makes them all, on the engine that `docker` speaks to.
fn make_foreign(engine: &PrivateEngine) {
    let script = r#"
        set -e
        i=0
        while [ $i -lt $EACH ]; do
            case $((i % 5)) in
            0) docker create --name foreign-$i $IMAGE true ;;
            1) docker run -d --network none --name foreign-$i $IMAGE sleep 600 ;;
            2) docker run --network none --name foreign-$i $IMAGE false || true ;;
            # The same names and labels as muster's, but for the cluster, the agent or the name.
            3) docker create --name mu-01234567-01hf7z78n6fycvebxpbrfeag1b.$i-1 \
                --label muster.cluster=0123456789abcdef --label muster.agent=a1 \
                --label muster.task=01hf7z78n6fycvebxpbrfeag1b.$i --label muster.attempt=1 $IMAGE true ;;
            4) docker create --name lookalike-$i --label muster.cluster=$CLUSTER --label muster.agent=a9 \
                --label muster.task=01hf7z78n6fycvebxpbrfeag1b.$i --label muster.attempt=1 $IMAGE true ;;
            esac
            docker volume create foreign-$i
            if [ $((i % 2)) = 0 ]; then
                docker commit --change "LABEL n=$i" foreign-0 foreign/image:$i
            else
                docker commit --change "LABEL n=$i" foreign-0
            fi
            docker network create --subnet 198.19.$((i + 200)).0/29 \
                --label muster.cluster=0123456789abcdef muster-01234567-a1-team$i
            i=$((i + 1))
        done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.env("EACH", EACH.to_string()).env("IMAGE", IMAGE);
    command.env("DOCKER_HOST", engine.host());
    command.env("CLUSTER", "fedcba9876543210");
    output_of(&mut command);
}

/// Everything on the engine that is there now, each with what would show that it was touched.
fn everything(engine: &PrivateEngine) -> BTreeMap<String, String> {
    let kinds = [
        (
            "container",
            "ps --all --quiet --no-trunc",
            "{{.Id}} {{.Name}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}",
        ),
        (
            "volume",
            "volume ls --quiet",
            "{{.Name}} {{.CreatedAt}} {{.Mountpoint}}",
        ),
        (
            "image",
            "images --all --quiet --no-trunc",
            "{{.Id}} {{.RepoTags}} {{.RepoDigests}}",
        ),
        (
            "network",
            "network ls --quiet --no-trunc",
            "{{.Id}} {{.Name}} {{.Created}}",
        ),
    ];
    let mut all = BTreeMap::new();
    for (kind, list, format) in kinds {
        let listed = output_of(engine.docker().args(list.split(' ')));
        let mut ids: Vec<&str> = listed.lines().collect();
        ids.dedup();
        let mut inspect = engine.docker();
        inspect
            .args([kind, "inspect", "--format", format])
            .args(ids);
        for line in output_of(&mut inspect).lines() {
            let id = line.split(' ').next().unwrap_or_default();
            all.insert(format!("{kind} {id}"), line.to_owned());
        }
    }
    all
}

/// Pulls and runs one image after the other, each of the same repository.
fn run_images(fleet: &Fleet, registry: &Registry) {
    for number in 0..PUSHED {
        let reference = registry.push(None, &format!("word-{number}"));
        let run = ["run", "--network", "none", &reference];
        assert_eq!(fleet.ok(&run), format!("word-{number}"));
    }
}

#[test]
fn what_others_have_on_the_engine_stays_as_it_is() {
    if !enabled() {
        return;
    }
    let begin = Instant::now();
    let engine = PrivateEngine::start(true);
    make_foreign(&engine);
    let before = everything(&engine);
    assert!(before.len() >= 4 * EACH, "{} are not enough", before.len());

    let host = engine.host();
    let mut fleet = Fleet::start_in(0, &["--heartbeat", "1s"], &[("DOCKER_HOST", &host)]);
    // Any disk is fuller than that. What takes minutes takes seconds.
    let hurried = [
        ("MUSTER_AGENT_IMAGE_GC", "1-0"),
        ("MUSTER_FAILPOINT_HURRY", "1"),
    ];
    fleet.start_agent_in("a1", &hurried);
    fleet.wait_for_agents(1);
    let registry = Registry::start(free_address(), None, None);
    run_images(&fleet, &registry);

    // One that runs when the journals go, and one that has ended and nobody harvests.
    let lasting = fleet.submit(&[], &["sleep", "6"]);
    fleet.wait_for_running(&lasting, 1);
    let ending = fleet.submit(&["--retries", "infra=0"], &["sleep", "1"]);
    fleet.wait_for_running(&ending, 1);
    fleet.agent("a1").kill();
    eventually("one of the two containers ending", || {
        let running = output_of(engine.docker().args([
            "ps",
            "--quiet",
            "--filter",
            &format!("label=muster.cluster={}", fleet.cluster()),
        ]));
        (running.lines().count() == 1).then_some(())
    });
    std::fs::remove_dir_all(fleet.directory.path().join("a1/attempts")).unwrap();
    fleet.start_agent_in("a1", &hurried);
    assert_eq!(fleet.muster(&["wait", &lasting]).status.code(), Some(0));
    fleet.wait_for_no_containers();
    let log = fleet.agent("a1").log.clone();
    eventually("an image being removed", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("unused image removed").then_some(())
    });

    let after = everything(&engine);
    let touched: Vec<_> = before
        .iter()
        .filter(|(id, seen)| after.get(*id) != Some(*seen))
        .collect();
    println!(
        "{} of others beside muster's own, {} touched, in {:.0} s",
        before.len(),
        touched.len(),
        begin.elapsed().as_secs_f64()
    );
    assert!(touched.is_empty(), "{touched:#?}");
}
