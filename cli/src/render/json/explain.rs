//! Why a job or task stands as it does.

use muster_proto::v1;
use serde::Serialize;

use super::job::AttemptJson;

/// What `muster why` prints.
#[derive(Debug, Serialize)]
pub(crate) struct ExplanationJson {
    subject: String,
    reasons: Vec<ReasonJson>,
    attempts: Vec<AttemptJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReasonJson {
    code: String,
    message: String,
}

impl From<v1::Explanation> for ExplanationJson {
    fn from(explanation: v1::Explanation) -> Self {
        let v1::Explanation {
            subject,
            reasons,
            attempts,
        } = explanation;
        let reasons = reasons.into_iter().map(|reason| {
            let v1::Reason { code, message } = reason;
            ReasonJson { code, message }
        });
        Self {
            subject,
            reasons: reasons.collect(),
            attempts: attempts.into_iter().map(AttemptJson::from).collect(),
        }
    }
}
