//! `muster why`: the typed reason for waiting, for another attempt, for an end.

use muster_proto::v1;

use super::Context;
use super::job::attempts_table;
use crate::exit::{Exit, Failure};
use crate::render;
use crate::render::json::ExplanationJson;
use crate::target::Target;

pub(crate) async fn run(context: &mut Context, target: &Target) -> Result<Exit, Failure> {
    let (index, _) = target.one_task()?;
    let request = v1::ExplainRequest {
        team: context.client.team.clone(),
        job: context.client.job_id(&target.job).await?,
        index,
    };
    let explanation = context.client.jobs().explain(request).await?.into_inner();
    let shown = explanation.clone();
    let id = target.to_string();
    render::one(
        &mut context.console,
        &ExplanationJson::from(explanation),
        &id,
        |console| {
            let table = if shown.attempts.is_empty() {
                String::new()
            } else {
                attempts_table(&shown.attempts).text(
                    console.headers,
                    console.color,
                    console.out_is_terminal,
                )
            };
            console.fit(&text(&shown)) + &table
        },
    )?;
    Ok(Exit::DONE)
}

/// The subject, then the reason, then what would change it.
fn text(explanation: &v1::Explanation) -> String {
    let mut text = format!("{}\n", explanation.subject);
    for (place, reason) in explanation.reasons.iter().enumerate() {
        let label = if place == 0 { "because" } else { "" };
        text.push_str(&format!("  {label:<8} {}\n", reason.message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_the_cause() {
        let reason = |message: &str| v1::Reason {
            code: "pool_full".to_owned(),
            message: message.to_owned(),
        };
        let explanation = v1::Explanation {
            subject: "3h8vd0ta weekly-report is pending for 4 m".to_owned(),
            reasons: vec![
                reason("no agent in pool etl has 14 GiB free"),
                reason("fits with --memory 9g"),
            ],
            attempts: Vec::new(),
        };
        assert_eq!(
            text(&explanation),
            "3h8vd0ta weekly-report is pending for 4 m\n  \
             because  no agent in pool etl has 14 GiB free\n           fits with --memory 9g\n"
        );
    }
}
