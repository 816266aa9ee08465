use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_job_id_survives_its_text(bits: u128) {
        let id = JobId(Uuid::from_u128(bits));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(is_job_id_end(&id.short()));
        prop_assert!(id.to_string().ends_with(&id.short()));
    }

    #[test]
    fn an_attempt_id_survives_its_text(bits: u128, index: u32, number: u32) {
        let task = TaskId { job: JobId(Uuid::from_u128(bits)), index };
        let id = AttemptId { task, number: AttemptNo(number) };
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn order_of_ids_is_order_of_texts(a: u128, b: u128) {
        let (a, b) = (JobId(Uuid::from_u128(a)), JobId(Uuid::from_u128(b)));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }
}

#[test]
fn what_is_no_job_id_is_refused() {
    for text in [
        "",
        "abc",
        "01arz3ndektsv4rrffq69g5fai",
        "81arz3ndektsv4rrffq69g5fav",
    ] {
        assert_eq!(text.parse::<JobId>(), Err(BadJobId), "{text}");
    }
}

#[test]
fn a_bad_name_is_told_what_is_wrong() {
    let said = |text: &str| TeamName::parse(text).unwrap_err().to_string();
    assert_eq!(said(""), "is empty");
    assert_eq!(said(&"a".repeat(64)), "is 64 bytes long; at most 63");
    assert_eq!(
        said("Etl"),
        "has 'E'; allowed are a-z, 0-9, '.', '_' and '-'"
    );
    assert_eq!(
        said("-etl"),
        "begins with '-'; the first must be a-z or 0-9"
    );
    assert_eq!(TeamName::parse("etl-2.x_y").unwrap().as_str(), "etl-2.x_y");
}
