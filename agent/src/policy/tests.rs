use super::*;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn image(repository: &str) -> Image {
    format!("{repository}@{DIGEST}").parse().unwrap()
}

fn spec(change: impl Fn(&mut pb::JobSpec)) -> pb::JobSpec {
    let mut spec = pb::JobSpec {
        resources: Some(pb::Resources {
            cpu_millis: 1000,
            memory_bytes: 512 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    change(&mut spec);
    spec
}

#[test]
fn the_default_is_the_documented_one() {
    let policy = Policy::default();
    let any = image("r.example:5000/x");
    assert_eq!(policy.check(&any, &spec(|_| {})), Ok(()));
    assert_eq!(
        policy.check(&any, &spec(|s| s.writable_root = true)),
        Err(Forbidden::WritableRoot)
    );
    for user in ["0", "root", "00", "0:0", "1000:0", "root:users"] {
        let refused = policy.check(&any, &spec(|s| s.user = user.into()));
        assert!(matches!(refused, Err(Forbidden::RootUser { .. })), "{user}");
    }
    assert_eq!(
        policy.check(&any, &spec(|s| s.user = "1000:1000".into())),
        Ok(())
    );
}

#[test]
fn each_rule_is_named() {
    let policy = Policy::parse(
        "registries: [r.example]\nnetworks: [none]\nmax_memory: 256MiB\nmax_cpus: 2\n",
    )
    .unwrap();
    let good = image("r.example/x");
    let none = |s: &mut pb::JobSpec| {
        s.set_network(pb::Network::None);
        s.resources.as_mut().unwrap().memory_bytes = 1 << 20;
    };
    assert_eq!(policy.check(&good, &spec(none)), Ok(()));
    let text = |image: &Image, change: &dyn Fn(&mut pb::JobSpec)| {
        policy.check(image, &spec(change)).unwrap_err().to_string()
    };
    assert!(text(&image("x/y"), &none).contains("docker.io (registries)"));
    assert!(text(&DIGEST.parse().unwrap(), &none).contains("(registries)"));
    assert!(text(&good, &|_| {}).contains("(networks)"));
    let big = |s: &mut pb::JobSpec| s.set_network(pb::Network::None);
    assert!(text(&good, &big).contains("(max_memory)"));
    let wide = |s: &mut pb::JobSpec| {
        none(s);
        s.resources.as_mut().unwrap().cpu_millis = 2001;
    };
    assert!(text(&good, &wide).contains("(max_cpus)"));
}

#[test]
fn an_unknown_rule_is_an_error() {
    assert!(matches!(
        Policy::parse("allow_root: true\n"),
        Err(BadPolicy::Syntax { .. })
    ));
    assert!(matches!(
        Policy::parse("networks: [host]\n"),
        Err(BadPolicy::Network { .. })
    ));
    assert!(matches!(
        Policy::parse("max_memory: big\n"),
        Err(BadPolicy::Memory { .. })
    ));
    assert_eq!(Policy::parse("{}\n").unwrap(), Policy::default());
}

#[test]
fn a_runtime_and_the_pool_are_the_hosts_choice() {
    let default = Policy::parse("{}").unwrap();
    assert_eq!(
        (default.pooled_networks, default.oci_runtime),
        (false, None)
    );
    let own = Policy::parse("pooled_networks: true\nruntime: crun\n").unwrap();
    assert!(own.pooled_networks);
    assert_eq!(own.oci_runtime.as_deref(), Some("crun"));
}
