//! One delivery of each registry, and what is read out of its variants.

use muster_core::image::Reference;

use super::*;

pub(super) fn hint(image: &str) -> Hint {
    let reference: Reference = image.parse().unwrap();
    let muster_core::image::Version::Tag(tag) = reference.version else {
        panic!("{image} has a digest");
    };
    Hint {
        repository: reference.repository,
        tag: Some(tag),
        any_host: false,
    }
}

/// Three events of one push: a layer, the manifest, and somebody's pull.
pub(super) fn distribution() -> Value {
    let target = |media_type: &str, tag: Option<&str>| {
        let mut target = json!({
            "mediaType": media_type,
            "size": 708,
            "digest": "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
            "length": 708,
            "repository": "data/etl",
            "url": "http://registry.lan:5000/v2/data/etl/manifests/sha256:fea8",
        });
        if let Some(tag) = tag {
            target["tag"] = json!(tag);
        }
        target
    };
    let event = |action: &str, target: Value| {
        json!({
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2026-03-09T14:44:26.402973972Z",
            "action": action,
            "target": target,
            "request": {
                "id": "6df24a34-0959-4923-81ca-14f09767db19",
                "addr": "192.168.64.11:42961",
                "host": "registry.lan:5000",
                "method": "PUT",
                "useragent": "docker/20.10",
            },
            "actor": {},
            "source": {"addr": "registry:5000", "instanceID": "a53db899"},
        })
    };
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    json!({"events": [
        event("push", target("application/octet-stream", None)),
        event("push", target(manifest, Some("latest"))),
        event("pull", target(manifest, Some("latest"))),
    ]})
}

pub(super) fn dockerhub() -> Value {
    json!({
        "callback_url": "https://registry.hub.docker.com/u/acme/etl/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
        "push_data": {
            "pushed_at": 1_417_566_161,
            "pusher": "trustedbuilder",
            "tag": "latest",
            "images": [],
        },
        "repository": {
            "comment_count": 0,
            "is_private": true,
            "name": "etl",
            "namespace": "acme",
            "owner": "acme",
            "repo_name": "acme/etl",
            "repo_url": "https://registry.hub.docker.com/u/acme/etl/",
            "status": "Active",
        },
    })
}

pub(super) fn github() -> Value {
    json!({
        "action": "published",
        "registry_package": {
            "id": 4_817_316,
            "name": "etl",
            "namespace": "Acme",
            "ecosystem": "CONTAINER",
            "package_type": "CONTAINER",
            "html_url": "https://github.com/orgs/Acme/packages/container/package/etl",
            "package_version": {
                "id": 9_841_215,
                "version": "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c",
                "package_url": "ghcr.io/Acme/etl:latest",
                "container_metadata": {
                    "tag": {"name": "latest", "digest": "sha256:b5bb"},
                    "labels": {},
                },
            },
            "registry": {"name": "GitHub container registry", "type": "container"},
        },
        "organization": {"login": "Acme"},
        "sender": {"login": "octocat"},
    })
}

pub(super) fn harbor() -> Value {
    json!({
        "type": "PUSH_ARTIFACT",
        "occur_at": 1_586_922_308,
        "operator": "admin",
        "event_data": {
            "resources": [{
                "digest": "sha256:8a9e9863dbb6e10edb5adfe917c00da84e1700fa76e7ed02476aa6e6fb8ee0d8",
                "tag": "latest",
                "resource_url": "harbor.example/data/etl:latest",
            }],
            "repository": {
                "date_created": 1_586_922_308,
                "name": "etl",
                "namespace": "data",
                "repo_full_name": "data/etl",
                "repo_type": "private",
            },
        },
    })
}

pub(super) fn ecr() -> Value {
    json!({
        "version": "0",
        "id": "13cde686-328b-6117-af20-0e5566167482",
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": "2026-11-16T01:54:34Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": {
            "result": "SUCCESS",
            "repository-name": "data/etl",
            "image-digest": "sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd12340000",
            "action-type": "PUSH",
            "image-tag": "latest",
            "manifest-media-type": "application/vnd.oci.image.manifest.v1+json",
        },
    })
}

pub(super) fn gar() -> Value {
    pubsub(&json!({
        "action": "INSERT",
        "digest": "europe-docker.pkg.dev/acme/data/etl@sha256:6ec128e26cd5",
        "tag": "europe-docker.pkg.dev/acme/data/etl:latest",
    }))
}

fn pubsub(data: &Value) -> Value {
    json!({
        "message": {
            "attributes": {},
            "data": STANDARD.encode(data.to_string()),
            "messageId": "2070443601311540",
            "publishTime": "2026-02-26T19:13:55.749Z",
        },
        "subscription": "projects/acme/subscriptions/muster",
    })
}

/// Reads with no secret configured.
fn open(adapter: Adapter, body: &Value) -> Vec<Hint> {
    let event = ("x-github-event", "registry_package");
    let headers = header_map(&[event]);
    let body = body.to_string();
    let delivery = Delivery {
        headers: &headers,
        body: body.as_bytes(),
        path_token: None,
        query_token: None,
        now: NOW,
    };
    adapter.read(&delivery, &[]).unwrap().hints
}

/// `body` with the value at `pointer` replaced.
fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

#[test]
fn each_registrys_push_names_the_repository_and_the_tag() {
    for (adapter, body, image) in [
        (Adapter::DockerHub, dockerhub(), "docker.io/acme/etl:latest"),
        (Adapter::GitHub, github(), "ghcr.io/acme/etl:latest"),
        (Adapter::Harbor, harbor(), "harbor.example/data/etl:latest"),
        (
            Adapter::Ecr,
            ecr(),
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/data/etl:latest",
        ),
        (
            Adapter::Gar,
            gar(),
            "europe-docker.pkg.dev/acme/data/etl:latest",
        ),
    ] {
        assert_eq!(open(adapter, &body), [hint(image)], "{adapter:?}");
    }
    let any_host = Hint {
        any_host: true,
        ..hint("registry.lan:5000/data/etl:latest")
    };
    assert_eq!(open(Adapter::Distribution, &distribution()), [any_host]);
}

#[test]
fn what_moves_no_tag_is_no_hint() {
    let hub_tag = "/push_data/tag";
    let version = "/registry_package/package_version";
    let untagged =
        json!({"package_url": "ghcr.io/acme/etl:", "container_metadata": {"tag": {"name": ""}}});
    for (adapter, body) in [
        (Adapter::Distribution, json!({"events": []})),
        (
            Adapter::Distribution,
            with(distribution(), "/events/1/action", json!("delete")),
        ),
        (
            Adapter::Distribution,
            with(distribution(), "/events/1/target/tag", Value::Null),
        ),
        (Adapter::DockerHub, with(dockerhub(), hub_tag, Value::Null)),
        (Adapter::GitHub, with(github(), "/action", json!("deleted"))),
        (Adapter::GitHub, with(github(), version, untagged)),
        (
            Adapter::GitHub,
            with(github(), "/registry_package/package_type", json!("npm")),
        ),
        (
            Adapter::Harbor,
            with(harbor(), "/type", json!("PULL_ARTIFACT")),
        ),
        (
            Adapter::Ecr,
            with(ecr(), "/detail/action-type", json!("DELETE")),
        ),
        (
            Adapter::Ecr,
            with(ecr(), "/detail/result", json!("FAILURE")),
        ),
        (
            Adapter::Ecr,
            with(ecr(), "/detail-type", json!("ECR Image Scan")),
        ),
        (
            Adapter::Gar,
            pubsub(&json!({"action": "DELETE", "tag": "europe-docker.pkg.dev/a/b:c"})),
        ),
        (
            Adapter::Gar,
            pubsub(&json!({"action": "INSERT", "digest": "europe-docker.pkg.dev/a/b@sha256:1"})),
        ),
    ] {
        assert_eq!(open(adapter, &body), [], "{adapter:?} {body}");
    }
}

#[test]
fn other_ways_to_say_the_same_are_understood() {
    let cloud_event = json!({
        "specversion": "1.0",
        "type": "harbor.artifact.pushed",
        "source": "/projects/1/webhook/policies/1",
        "data": harbor()["event_data"],
    });
    assert_eq!(
        open(Adapter::Harbor, &cloud_event),
        [hint("harbor.example/data/etl:latest")]
    );

    let names_only = with(
        github(),
        "/registry_package/package_version/package_url",
        Value::Null,
    );
    assert_eq!(
        open(Adapter::GitHub, &names_only),
        [hint("ghcr.io/acme/etl:latest")]
    );

    let china = with(ecr(), "/region", json!("cn-north-1"));
    assert_eq!(
        open(Adapter::Ecr, &china),
        [hint(
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/data/etl:latest"
        )]
    );

    // A name that only the sender's network knows: the path has to do.
    let inside = with(distribution(), "/events/1/request/host", json!("registry"));
    let hints = open(Adapter::Distribution, &inside);
    assert_eq!(hints[0].repository.path(), "data/etl");
    assert!(hints[0].any_host);

    let any_tag = json!({"image": "reg.example:5000/etl"});
    let hints = open(Adapter::Generic, &any_tag);
    assert_eq!((hints.len(), &hints[0].tag), (1, &None));
}

#[test]
fn a_delivery_makes_each_hint_once_and_not_too_many() {
    let event = &distribution()["events"][1];
    let events = |count: usize, path: &dyn Fn(usize) -> String| {
        let one = |n| {
            let mut event = event.clone();
            event["target"]["repository"] = json!(path(n));
            event
        };
        json!({"events": (0..count).map(one).collect::<Vec<_>>()})
    };
    let same = events(5, &|_| "data/etl".to_owned());
    assert_eq!(open(Adapter::Distribution, &same).len(), 1);
    let many = events(500, &|n| format!("data/etl{n}"));
    assert_eq!(open(Adapter::Distribution, &many).len(), HINTS_MAX);
}

#[test]
fn a_ping_of_github_is_taken() {
    let headers = header_map(&[("x-github-event", "ping")]);
    let delivery = Delivery {
        headers: &headers,
        body: b"{\"zen\": \"Keep it logically awesome.\"}",
        path_token: None,
        query_token: None,
        now: NOW,
    };
    let accepted = Adapter::GitHub.read(&delivery, &[]).unwrap();
    assert_eq!(accepted, Accepted::default());
}
