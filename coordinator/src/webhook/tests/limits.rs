//! Windows and remembered ids.

use std::net::{IpAddr, Ipv4Addr};

use super::super::limit::{Kind, Limits, Source};
use super::*;

fn after(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1000)
}

fn source(last: u8, kind: Kind) -> Source {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    (Some(address), Adapter::Generic, kind)
}

#[test]
fn a_source_may_send_sixty_a_minute() {
    let mut limits = Limits::default();
    let one = source(1, Kind::Hints);
    for _ in 0..60 {
        assert!(!limits.is_spent(NOW, one));
        limits.count(NOW, one);
    }
    assert!(limits.is_spent(after(59), one));
    assert!(!limits.is_spent(NOW, source(2, Kind::Hints)));
    assert!(!limits.is_spent(NOW, source(1, Kind::Rejected)));
    assert!(!limits.is_spent(after(60), one));
    limits.count(after(60), one);
    assert!(!limits.is_spent(after(60), one));
}

#[test]
fn an_id_is_remembered_for_longer_than_its_signature_is_good() {
    let mut limits = Limits::default();
    let id = || "msg_1".to_owned();
    assert!(limits.is_new(NOW, id()));
    assert!(!limits.is_new(after(600), id()));
    assert!(limits.is_new(after(661), id()));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut limits = Limits::default();
    for n in 0..10_050 {
        assert!(limits.is_new(NOW, format!("msg_{n:05}")));
    }
    assert!(!limits.is_new(NOW, "msg_10049".to_owned()));
    for n in 0..10_100_u16 {
        let [high, low] = n.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, high, low));
        limits.count(NOW, (Some(address), Adapter::Generic, Kind::Hints));
    }
    assert!(!limits.is_spent(NOW, source(1, Kind::Hints)));
}
