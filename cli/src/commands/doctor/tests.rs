use muster_proto::v1::Verdict;

use super::*;
use crate::args::Format;
use crate::console::fake::console;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let said = |ours, theirs| {
        let finding = clock(at(theirs), at(ours));
        (finding.verdict(), finding.what)
    };
    let what = |text: &str| text.to_owned();
    assert_eq!(
        said(1000, 1000),
        (Verdict::Ok, what("0 ms ahead of the coordinator's"))
    );
    assert_eq!(said(1300, 1000).0, Verdict::Ok);
    assert_eq!(said(1301, 1000).0, Verdict::Warning);
    assert_eq!(
        said(699, 1000),
        (Verdict::Warning, what("5 m 1 s behind the coordinator's"))
    );
}

#[test]
fn what_to_do_stands_below_what_is_wrong() {
    let (mut console, out, _) = console(Format::Table);
    let findings = vec![
        finding(
            "store",
            Verdict::Problem,
            "it is torn".to_owned(),
            "restore a backup",
        ),
        finding(
            "coordinator",
            Verdict::Ok,
            "answers at http://a:b@c:1".to_owned(),
            "",
        ),
    ];
    assert_eq!(summary(&findings), "1 problem, 0 warnings, 0 unknown, 1 ok");
    render::list::<_, FindingJson>(&mut console, &FINDINGS, findings, "").unwrap();
    let lines: Vec<String> = out
        .text()
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    assert_eq!(
        lines,
        [
            "VERDICT  CHECK        ABOUT  FOUND",
            "problem  store               it is torn",
            "                               do: restore a backup",
            "ok       coordinator         answers at http://***@c:1",
        ]
    );
}
