use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

fn failure(code: Code) -> Failure {
    Status::new(code, "no").into()
}

#[test]
fn each_status_has_its_exit_code() {
    let cases = [
        (Code::InvalidArgument, 2),
        (Code::NotFound, 3),
        (Code::PermissionDenied, 4),
        (Code::Unauthenticated, 4),
        (Code::AlreadyExists, 5),
        (Code::Aborted, 5),
        (Code::FailedPrecondition, 5),
        (Code::Unavailable, 6),
        (Code::DeadlineExceeded, 8),
        (Code::ResourceExhausted, 9),
        (Code::Internal, 1),
        (Code::Unknown, 1),
        (Code::Unimplemented, 1),
    ];
    for (code, exit) in cases {
        assert_eq!(failure(code).exit(), Exit(exit), "{code:?}");
    }
}

#[test]
fn a_broken_connection_is_an_unreachable_coordinator() {
    for code in [Code::Internal, Code::Unknown, Code::Cancelled] {
        let mut status = Status::new(code, "h2 protocol error");
        status.set_source(std::sync::Arc::new(std::io::Error::other(
            "the pipe is gone",
        )));
        let failure = Failure::from(status);
        assert_eq!(failure.exit(), Exit::UNREACHABLE, "{code:?}");
        assert_eq!(
            failure.report(false),
            format!(
                "error: the connection to the coordinator broke: h2 protocol error\n  {MAYBE_DONE}"
            )
        );
    }
}

#[test]
fn fields_are_named_one_a_line() {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("spec.image", "\"pyton\" is no channel");
    let one = Status::with_error_details(Code::InvalidArgument, "spec.image: ...", details.clone());
    assert_eq!(
        Failure::from(one).report(false),
        "error: spec.image: \"pyton\" is no channel"
    );

    details.add_bad_request_violation("spec.name", "is empty");
    let two = Status::with_error_details(Code::InvalidArgument, "and 1 more", details);
    let two = Failure::from(two);
    assert_eq!(
        two.report(false),
        "error: 2 things are wrong\n  spec.image: \"pyton\" is no channel\n  spec.name: is empty"
    );
    assert_eq!(
        two.report(true),
        r#"{"error":{"code":"invalid_argument","message":"spec.image: \"pyton\" is no channel; spec.name: is empty","hint":null,"docs":"docs/cli.md#exit-codes"}}"#
    );
}

#[test]
fn a_service_can_give_its_own_word_and_hint() {
    let mut details = ErrorDetails::new();
    details.set_error_info("quota_exceeded", "muster", []);
    details.add_help_link("ask for more with: muster quota set", "");
    let status =
        Status::with_error_details(Code::ResourceExhausted, "the quota is used up", details);
    assert_eq!(
        Failure::from(status).report(true),
        r#"{"error":{"code":"quota_exceeded","message":"the quota is used up","hint":"ask for more with: muster quota set","docs":"docs/cli.md#exit-codes"}}"#
    );
}

#[tokio::test]
async fn an_unreachable_coordinator_is_exit_6_with_the_next_command() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = crate::client::Client::connect(&addr, "default")
        .await
        .unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.exit(), Exit::UNREACHABLE);
    let report = failure.report(false);
    assert!(
        report.starts_with(&format!(
            "error: the coordinator at {addr} cannot be reached: "
        )),
        "{report}"
    );
    assert!(
        report.ends_with("muster up; or set --addr or MUSTER_ADDR"),
        "{report}"
    );

    let error = crate::client::Client::connect("localhost:7380", "default")
        .await
        .unwrap_err();
    assert_eq!(Failure::from(error).exit(), Exit::USAGE);
}
