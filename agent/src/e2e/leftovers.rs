//! Removing things on the real engine.

use std::process::{Command, Stdio};

use super::*;
use crate::runtime::ImageRemoval;

fn docker(args: &[&str]) -> String {
    let run = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(run.status.success(), "docker {args:?}: {run:?}");
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_removed_only_when_no_container_is_left_of_it() {
    let Some((engine, base)) = engine().await else {
        return;
    };
    let name = format!("muster-test-{}", uuid::Uuid::now_v7().simple());
    let tag = format!("{name}:1");
    docker(&["create", "--name", &name, &base, "true"]);
    docker(&["commit", &name, &tag]);
    docker(&["rm", &name]);
    docker(&["create", "--name", &name, &tag, "true"]);
    assert_eq!(
        engine.remove_image(&tag).await.unwrap(),
        ImageRemoval::InUse
    );
    docker(&["rm", &name]);
    for _ in 0..2 {
        // Gone already is as good as removed.
        let removed = engine.remove_image(&tag).await.unwrap();
        assert_eq!(removed, ImageRemoval::Removed);
    }
    assert_eq!(engine.inspect_image(&tag).await.unwrap(), None);
    assert!(engine.inspect_image(TESTBOX).await.unwrap().is_some());
    let info = engine.engine().await.unwrap();
    assert!(crate::host::disk(&info.root.unwrap()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_found_by_its_label_and_kept_while_it_is_used() {
    let Some((engine, image)) = engine().await else {
        return;
    };
    let name = format!("muster-test-{}", uuid::Uuid::now_v7().simple());
    let labels = std::collections::BTreeMap::from([("muster.cluster".to_owned(), name.clone())]);
    engine.ensure_network(&name, &labels).await.unwrap();
    let found = engine.list_networks(&labels).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].name, &found[0].labels), (&name, &labels));
    docker(&[
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        &name,
        &image,
        "sleep",
        "60",
    ]);
    let used = engine.remove_network(&name).await;
    docker(&["rm", "-f", &name]);
    assert!(used.is_err());
    for _ in 0..2 {
        engine.remove_network(&name).await.unwrap();
    }
    assert_eq!(engine.list_networks(&labels).await.unwrap(), []);
}
