use std::collections::BTreeSet;

use crate::Point;
use crate::armed::{Armed, Fault};

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(names.len(), Point::ALL.len());
}

#[test]
fn the_variable_names_a_place_a_fault_and_a_pass() {
    let read = |text| Armed::parse(text).map(|armed| (armed.point, armed.fault, armed.pass.get()));
    assert_eq!(
        read("term.raised=kill"),
        Some((Point::TermRaised, Fault::Kill, 1))
    );
    assert_eq!(
        read("agent.accepted=stop:3"),
        Some((Point::AgentAccepted, Fault::Stop, 3))
    );
    for bad in [
        "",
        "term.raised",
        "term.risen=kill",
        "term.raised=panic",
        "term.raised=kill:0",
    ] {
        assert_eq!(read(bad), None, "{bad:?}");
    }
}
