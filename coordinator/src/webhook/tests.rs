//! Adapters, by tables: deliveries shaped as each registry's documentation shows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

mod limits;
mod payloads;

const SECRET: &str = "correct-horse-battery";
const NEXT_SECRET: &str = "staple-for-next-month";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn secrets(adapter: Adapter) -> Secrets {
    let text = format!(
        "{}:\n  secrets: [{SECRET}, {NEXT_SECRET}]\n",
        adapter.as_str()
    );
    Secrets::parse(&text).unwrap()
}

/// Has `adapter` read a delivery, with secrets configured.
fn read(adapter: Adapter, headers: &[(&str, &str)], body: &[u8]) -> Result<Accepted, Rejected> {
    let headers = header_map(headers);
    let delivery = Delivery {
        headers: &headers,
        body,
        path_token: None,
        query_token: None,
        now: NOW,
    };
    adapter.read(&delivery, secrets(adapter).of(adapter))
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: http::HeaderName = name.parse().unwrap();
        (name, value.parse().unwrap())
    };
    headers.iter().map(pair).collect()
}

fn hmac(secret: &str, message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_unauthorized(result: &Result<Accepted, Rejected>) -> bool {
    matches!(result, Err(Rejected::Unauthorized))
}

#[test]
fn adapters_with_a_fixed_header_take_either_secret_and_nothing_else() {
    for (adapter, body, name) in [
        (
            Adapter::Distribution,
            payloads::distribution(),
            "authorization",
        ),
        (Adapter::Harbor, payloads::harbor(), "authorization"),
        (Adapter::Ecr, payloads::ecr(), "x-api-key"),
        (Adapter::Gar, payloads::gar(), "authorization"),
    ] {
        let body = body.to_string();
        let try_with = |value: &str| read(adapter, &[(name, value)], body.as_bytes());
        for good in [SECRET, NEXT_SECRET] {
            assert_eq!(try_with(good).unwrap().hints.len(), 1, "{adapter:?}");
        }
        for bad in ["", "correct", "correct-horse-batterz", "Basic Zm9vOmJhcg=="] {
            assert!(is_unauthorized(&try_with(bad)), "{adapter:?} {bad}");
        }
        assert!(is_unauthorized(&read(adapter, &[], body.as_bytes())));
        if name == "authorization" {
            let bearer = format!("Bearer {SECRET}");
            assert!(try_with(&bearer).is_ok(), "{adapter:?}");
        }
    }
}

#[test]
fn tokens_in_the_address_are_compared_too() {
    let headers = HeaderMap::new();
    let hub = payloads::dockerhub().to_string();
    let gar = payloads::gar().to_string();
    for (token, good) in [
        (None, false),
        (Some("wrong-token-wrong"), false),
        (Some(SECRET), true),
    ] {
        let mut delivery = Delivery {
            headers: &headers,
            body: hub.as_bytes(),
            path_token: token,
            query_token: None,
            now: NOW,
        };
        let adapter = Adapter::DockerHub;
        let result = adapter.read(&delivery, secrets(adapter).of(adapter));
        assert_eq!(result.is_ok(), good, "{token:?}");

        (delivery.body, delivery.path_token, delivery.query_token) = (gar.as_bytes(), None, token);
        let adapter = Adapter::Gar;
        let result = adapter.read(&delivery, secrets(adapter).of(adapter));
        assert_eq!(result.is_ok(), good, "{token:?}");
    }
}

#[test]
fn github_signs_the_body() {
    let body = payloads::github().to_string();
    let sign = |secret: &str| format!("sha256={}", hex(&hmac(secret, body.as_bytes())));
    let try_with = |signature: &str, body: &str| {
        let headers = [
            ("x-github-event", "registry_package"),
            ("x-hub-signature-256", signature),
        ];
        read(Adapter::GitHub, &headers, body.as_bytes())
    };

    for secret in [SECRET, NEXT_SECRET] {
        assert_eq!(try_with(&sign(secret), &body).unwrap().hints.len(), 1);
    }
    let good = sign(SECRET);
    for (signature, body) in [
        (sign("some-other-secret"), body.clone()),
        (good.clone(), format!("{body} ")),
        (good.replace("sha256=", "sha1="), body.clone()),
        (good[..40].to_owned(), body.clone()),
        ("sha256=zz".to_owned(), body.clone()),
        (String::new(), body.clone()),
    ] {
        assert!(is_unauthorized(&try_with(&signature, &body)), "{signature}");
    }
}

/// Headers of a generic delivery, signed for a time `offset` seconds from now.
fn signed(secret: &str, id: &str, offset: i64, body: &str) -> [(&'static str, String); 3] {
    let seconds = i64::try_from(NOW.0 / 1000).unwrap() + offset;
    let message = format!("{id}.{seconds}.{body}");
    let signature = STANDARD.encode(hmac(secret, message.as_bytes()));
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn read_generic(headers: &[(&'static str, String)], body: &str) -> Result<Accepted, Rejected> {
    let headers: Vec<_> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    read(Adapter::Generic, &headers, body.as_bytes())
}

#[test]
fn generic_deliveries_are_signed_with_their_id_and_time() {
    let body = json!({"image": "reg.example/data/etl:latest"}).to_string();
    for offset in [-299, 0, 299] {
        let accepted = read_generic(&signed(NEXT_SECRET, "msg_1", offset, &body), &body).unwrap();
        assert_eq!(accepted.id.as_deref(), Some("msg_1"));
        assert_eq!(
            accepted.hints,
            [payloads::hint("reg.example/data/etl:latest")]
        );
    }
    for offset in [-301, 301, -1_800_000_000] {
        let result = read_generic(&signed(SECRET, "msg_1", offset, &body), &body);
        assert!(
            matches!(result, Err(Rejected::Stale)),
            "{offset}: {result:?}"
        );
    }

    let wrong = signed("some-other-secret", "msg_1", 0, &body);
    assert!(is_unauthorized(&read_generic(&wrong, &body)));
    let good = signed(SECRET, "msg_1", 0, &body);
    for missing in 0..3 {
        let mut headers = good.to_vec();
        headers.remove(missing);
        assert!(is_unauthorized(&read_generic(&headers, &body)));
    }
    let mut other_id = good.clone();
    other_id[0].1 = "msg_2".to_owned();
    assert!(is_unauthorized(&read_generic(&other_id, &body)));
    assert!(is_unauthorized(&read_generic(&good, &format!("{body} "))));

    let mut several = good.clone();
    several[2].1 = format!("v1a,AAAA v1,bm90IGl0 {}", good[2].1);
    assert!(read_generic(&several, &body).is_ok());
}

#[test]
fn a_secret_of_standard_webhooks_is_base64() {
    let key = b"0123456789abcdef0123456789abcdef";
    let text = format!("generic: {{secrets: ['whsec_{}']}}", STANDARD.encode(key));
    let secrets = Secrets::parse(&text).unwrap();
    let tag = hmac(std::str::from_utf8(key).unwrap(), b"message");
    assert!(secrets.of(Adapter::Generic)[0].signed(b"message", &tag));
}

#[test]
fn without_a_secret_nothing_is_checked() {
    for (adapter, headers, body) in [
        (Adapter::Distribution, vec![], payloads::distribution()),
        (Adapter::DockerHub, vec![], payloads::dockerhub()),
        (Adapter::Ecr, vec![], payloads::ecr()),
        (Adapter::Gar, vec![], payloads::gar()),
        (
            Adapter::Generic,
            vec![],
            json!({"image": "reg.example/etl:latest"}),
        ),
        (
            Adapter::GitHub,
            vec![("x-github-event", "package")],
            payloads::github(),
        ),
        (Adapter::Harbor, vec![], payloads::harbor()),
    ] {
        let headers = header_map(&headers);
        let body = body.to_string();
        let delivery = Delivery {
            headers: &headers,
            body: body.as_bytes(),
            path_token: None,
            query_token: None,
            now: NOW,
        };
        let accepted = adapter.read(&delivery, &[]).unwrap();
        assert_eq!(accepted.hints.len(), 1, "{adapter:?}");
        assert_eq!(accepted.id, None);
    }
}

#[test]
fn bodies_that_are_not_the_registrys_are_refused() {
    let no_secrets = |adapter: Adapter, body: &Value| {
        let headers = header_map(&[("x-github-event", "package")]);
        let body = body.to_string();
        let delivery = Delivery {
            headers: &headers,
            body: body.as_bytes(),
            path_token: None,
            query_token: None,
            now: NOW,
        };
        adapter.read(&delivery, &[])
    };
    for adapter in Adapter::ALL {
        for body in [json!([]), json!(7), json!({}), json!({"events": "none"})] {
            let result = no_secrets(adapter, &body);
            assert!(result.is_err(), "{adapter:?} {body}: {result:?}");
        }
    }
    for body in [
        json!({"image": "no/such image:latest"}),
        json!({"image": "reg.example/etl:bad tag"}),
        json!({"image": "reg.example/etl:latest", "digest": "sha256:short"}),
    ] {
        let result = no_secrets(Adapter::Generic, &body);
        assert!(
            matches!(result, Err(Rejected::BadField { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_file_of_secrets_is_checked_and_never_quoted() {
    for (text, problem) in [
        (
            "generic: {secrets: [short]}",
            "a webhook secret of generic is shorter than 16 characters",
        ),
        (
            "quay: {secrets: []}",
            "the file of webhook secrets names an adapter \"quay\"",
        ),
        (
            "generic: {secret: hush-hush-hush-hush}",
            "is not of the form",
        ),
        ("generic: [hush-hush-hush-hush", "is not of the form"),
    ] {
        let error = Secrets::parse(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(problem), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
    let secrets = secrets(Adapter::Harbor);
    assert!(!format!("{secrets:?}").contains("horse"));
    assert_eq!(Secrets::parse("{}").unwrap(), Secrets::default());
}
