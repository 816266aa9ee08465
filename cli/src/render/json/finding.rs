//! What `muster doctor` found.

use muster_proto::v1;
use serde::Serialize;

use super::set;
use crate::render::words;

#[derive(Debug, Serialize)]
pub(crate) struct FindingJson {
    check: String,
    /// `ok`, `unknown`, `warning` or `problem`.
    verdict: &'static str,
    subject: Option<String>,
    what: String,
    advice: Option<String>,
}

impl From<v1::Finding> for FindingJson {
    fn from(finding: v1::Finding) -> Self {
        let verdict = words::verdict(finding.verdict());
        let v1::Finding {
            check,
            verdict: _,
            subject,
            what,
            advice,
        } = finding;
        Self {
            check,
            verdict,
            subject: set(subject),
            what,
            advice: set(advice),
        }
    }
}
