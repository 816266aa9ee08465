use std::path::Path;

use base64::Engine as _;
use serde_json::json;

use crate::contract::{self, Service};

use super::*;

fn repository(text: &str) -> Repository {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

/// A client whose docker configuration is `config`.
fn client(directory: &Path, config: &serde_json::Value) -> OciRegistry {
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    OciRegistry::new(Config {
        docker_config: Some(directory.to_owned()),
        ..Config::default()
    })
}

#[test]
fn this_machine_and_what_is_listed_are_spoken_to_in_plain_http() {
    let registry = OciRegistry::new(Config {
        insecure_registries: vec!["reg.lan:5000".to_owned()],
        ..Config::default()
    });
    for (name, plain) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.0.0.1:5000", true),
        ("127.1.2.3", true),
        ("[::1]:5000", true),
        ("reg.lan:5000", true),
        ("reg.lan", false),
        ("localhost.example:5000", false),
        ("10.0.0.1:5000", false),
        ("docker.io", false),
    ] {
        assert_eq!(registry.is_plain(name), plain, "{name}");
    }
}

#[test]
fn answers_of_registries_are_told_apart() {
    let code = |code| OciDistributionError::ServerError {
        code,
        url: "http://reg/v2/".to_owned(),
        message: String::new(),
    };
    let envelope = |word: &str| OciDistributionError::RegistryError {
        envelope: serde_json::from_value(json!({"errors": [{"code": word}]})).unwrap(),
        url: "http://reg/v2/".to_owned(),
    };
    for (error, word, transient) in [
        (code(404), "no_such_tag", false),
        (code(403), "denied", false),
        (code(429), "throttled", true),
        (code(503), "unreachable", true),
        (envelope("MANIFEST_UNKNOWN"), "no_such_tag", false),
        (envelope("NAME_UNKNOWN"), "no_such_tag", false),
        (envelope("DENIED"), "denied", false),
        (envelope("TOOMANYREQUESTS"), "throttled", true),
        (envelope("SOMETHING_NEW"), "unreachable", true),
    ] {
        let shown = error.to_string();
        let missing = || ResolveError::NoSuchTag {
            repository: repository("reg.example/etl"),
            tag: tag("latest"),
        };
        let error = classify(error, &repository("reg.example/etl"), missing);
        assert_eq!(
            (error.word(), error.is_transient()),
            (word, transient),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn credentials_come_from_the_file_or_a_helper_and_may_be_absent() {
    let directory = tempfile::tempdir().unwrap();
    let auth = base64::engine::general_purpose::STANDARD.encode("bob:pass:word");
    let config = json!({"auths": {
        "reg.example": {"auth": auth},
        "https://index.docker.io/v1/": {"auth": auth},
        "token.example": {"identitytoken": "long-token"},
    }});
    let registry = client(directory.path(), &config);
    let bob = RegistryAuth::Basic("bob".to_owned(), "pass:word".to_owned());

    for (name, expected) in [
        ("reg.example", bob.clone()),
        ("docker.io", bob),
        (
            "token.example",
            RegistryAuth::Basic(
                "00000000-0000-0000-0000-000000000000".to_owned(),
                "long-token".to_owned(),
            ),
        ),
        ("other.example", RegistryAuth::Anonymous),
    ] {
        assert_eq!(
            registry.credentials.of(name, None).await.unwrap(),
            expected,
            "{name}"
        );
    }
}

#[tokio::test]
async fn no_file_means_no_credentials_and_a_bad_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials::new(Some(directory.path().to_owned()), None);
    let none = credentials.of("reg.example", None).await.unwrap();
    assert_eq!(none, RegistryAuth::Anonymous);

    std::fs::write(directory.path().join("config.json"), "{").unwrap();
    let error = credentials.of("reg.example", None).await.unwrap_err();
    assert!(matches!(error, CredentialError::Malformed { .. }));
}

#[tokio::test]
async fn named_credentials_are_files_that_have_to_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let (own, named) = (directory.path().join("own"), directory.path().join("named"));
    for (path, secret) in [
        (own.join("config.json"), "us:1"),
        (named.join("acme.json"), "acme:2"),
    ] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode(secret);
        let config = json!({"auths": {"reg.example": {"auth": auth}}});
        std::fs::write(path, config.to_string()).unwrap();
    }
    let name = |text: &str| CredentialsName::parse(text).unwrap();
    let credentials = Credentials::new(Some(own.clone()), Some(named));
    let of = async |registry, name: Option<&CredentialsName>| credentials.of(registry, name).await;
    let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());

    assert_eq!(of("reg.example", None).await.unwrap(), basic("us", "1"));
    let acme = name("acme");
    let shown = of("reg.example", Some(&acme)).await.unwrap();
    assert_eq!(shown, basic("acme", "2"));
    // A file has no secret for other registries than those it lists.
    let elsewhere = of("evil.example", Some(&acme)).await.unwrap();
    assert_eq!(elsewhere, RegistryAuth::Anonymous);
    let error = of("reg.example", Some(&name("acne"))).await.unwrap_err();
    assert!(!error.is_transient());
    let said = error.to_string();
    assert!(
        said.contains("acne") && said.contains("named/acne.json does not exist"),
        "{said}"
    );
    let error = Credentials::new(Some(own), None)
        .of("reg.example", Some(&acme))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no --credentials-dir"),
        "{error}"
    );
    for bad in ["../own/config", "/etc/shadow", ".hidden", ""] {
        assert!(CredentialsName::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_helper_that_is_not_there_is_an_error_without_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"credHelpers": {"reg.example": "muster-test-absent"}});
    let registry = client(directory.path(), &config);

    let error = registry
        .resolve((&repository("reg.example/etl")).into(), &tag("latest"))
        .await
        .unwrap_err();

    assert!(
        matches!(&error, ResolveError::Credentials { registry, .. } if registry == "reg.example")
    );
    assert_eq!(
        error.to_string(),
        "no credentials for reg.example could be read"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_so_soon() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let directory = tempfile::tempdir().unwrap();
    let registry = client(directory.path(), &json!({}));

    let result = registry
        .resolve(
            (&repository(&format!("{address}/etl"))).into(),
            &tag("latest"),
        )
        .await;

    assert!(
        matches!(result, Err(ResolveError::Unreachable { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_real_registry_says_what_a_tag_means() {
    if !contract::wanted("a_real_registry_says_what_a_tag_means") {
        return;
    }
    let service = Service::registry("");
    let base = format!("http://{}", service.address);
    let registry = client(service.directory(), &json!({}));
    let etl = repository(&format!("{}/data/etl", service.address));
    let latest = tag("latest");

    let first = contract::push_image(&base, "data/etl", "latest", "1").await;
    assert_eq!(
        registry.resolve((&etl).into(), &latest).await.unwrap(),
        first
    );

    let second = contract::push_image(&base, "data/etl", "latest", "2").await;
    assert_ne!(first, second);
    assert_eq!(
        registry.resolve((&etl).into(), &latest).await.unwrap(),
        second
    );

    // For an image of several platforms it is the digest of the index.
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": second.to_string(),
            "size": 1,
            "platform": {"architecture": "amd64", "os": "linux"},
        }],
    });
    let both = contract::push_manifest(&base, "data/etl", "multi", &index).await;
    assert_eq!(
        registry
            .resolve((&etl).into(), &tag("multi"))
            .await
            .unwrap(),
        both
    );

    for (repository, tag) in [
        (etl, tag("absent")),
        (repository(&format!("{}/absent", service.address)), latest),
    ] {
        let result = registry.resolve((&repository).into(), &tag).await;
        assert!(
            matches!(result, Err(ResolveError::NoSuchTag { .. })),
            "{result:?}"
        );
    }
}

/// `bob:open-sesame`, as htpasswd would write it with bcrypt.
const HTPASSWD: &str = "bob:$2b$04$Oi1lkbAMrjO4xk/oTAGuy.VVTKV9tFEKmVcWLFsqqqL0NdTuamRlO\n";

#[tokio::test]
async fn a_real_private_registry_wants_the_password_of_the_moment() {
    if !contract::wanted("a_real_private_registry_wants_the_password_of_the_moment") {
        return;
    }
    let service = Service::registry("auth: {htpasswd: {realm: test, path: DIR/htpasswd}}\n");
    let directory = service.directory();
    std::fs::write(directory.join("htpasswd"), HTPASSWD).unwrap();
    let base = format!("http://bob:open-sesame@{}", service.address);
    let digest = contract::push_image(&base, "etl", "latest", "1").await;
    let etl = repository(&format!("{}/etl", service.address));
    let auth = |password: &str| {
        let pair = format!("bob:{password}");
        let auth = base64::engine::general_purpose::STANDARD.encode(pair);
        json!({"auths": {&service.address: {"auth": auth}}})
    };

    let registry = client(directory, &json!({}));
    let look = async || registry.resolve((&etl).into(), &tag("latest")).await;
    assert!(matches!(look().await, Err(ResolveError::Denied { .. })));

    // The same client goes on, with whatever the file says now.
    for (password, good) in [("wrong", false), ("open-sesame", true), ("wrong", false)] {
        std::fs::write(directory.join("config.json"), auth(password).to_string()).unwrap();
        let result = look().await;
        assert_eq!(result.as_ref().ok(), good.then_some(&digest), "{result:?}");
    }
}
