//! `muster quarantine`: tasks that wait for a person because too many of their attempts died.

use muster_proto::v1;

use super::Context;
use crate::args::job::QuarantineVerb;
use crate::exit::{Exit, Failure};
use crate::render::json::{AttemptJson, TaskJson};
use crate::render::table::Table;
use crate::render::{self, View, words};
use crate::target::{BadTarget, Target, short};

const QUARANTINED: View<v1::QuarantinedTask> = View {
    name: "tasks",
    id: |held| {
        let task = held.task.clone().unwrap_or_default();
        format!("{}.{}", task.job, task.index)
    },
    table: |held, _| table(held),
};

pub(crate) async fn run(context: &mut Context, verb: QuarantineVerb) -> Result<Exit, Failure> {
    let team = context.client.team.clone();
    match verb {
        QuarantineVerb::List => {
            let request = v1::ListQuarantinedRequest { team };
            let reply = context.client.jobs().list_quarantined(request).await?;
            let v1::ListQuarantinedResponse { tasks, total } = reply.into_inner();
            let listed = tasks.len();
            render::list::<_, TaskJson>(&mut context.console, &QUARANTINED, tasks, "")?;
            if usize::try_from(total).is_ok_and(|total| total > listed) {
                context
                    .console
                    .note(&format!("{listed} of {total} are listed"));
            }
        }
        QuarantineVerb::Requeue { task, all: _ } => {
            let (job, index) = match &task {
                Some(task) => one(context, task).await?,
                None => (String::new(), 0),
            };
            let request = v1::RequeueRequest { team, job, index };
            let reply = context.client.jobs().requeue(request).await?;
            let tasks = reply.into_inner().tasks;
            context.console.note(&format!("tasks requeued: {tasks}"));
        }
        QuarantineVerb::Drop { task } => {
            let (job, index) = one(context, &task).await?;
            let request = v1::DropRequest { team, job, index };
            context.client.jobs().drop(request).await?;
            context.console.note(&format!("{task} ended infra_error"));
        }
    }
    Ok(Exit::DONE)
}

/// The task that a target names; of a job with one task, that one.
async fn one(context: &mut Context, target: &Target) -> Result<(String, u32), Failure> {
    let (index, _) = target.one_task()?;
    if let Some(index) = index {
        return Ok((context.client.job_id(&target.job).await?, index));
    }
    let job = context.client.job(&target.job).await?;
    if job.array > 1 {
        let wants = BadTarget::WantsTask {
            text: target.to_string(),
            job: target.job.clone(),
        };
        return Err(wants.into());
    }
    Ok((job.id, 0))
}

impl From<v1::QuarantinedTask> for TaskJson {
    fn from(held: v1::QuarantinedTask) -> Self {
        let v1::QuarantinedTask { task, attempts } = held;
        let attempts = attempts.into_iter().map(AttemptJson::from).collect();
        let mut json = Self::from(task.unwrap_or_default());
        json.attempts = Some(attempts);
        json
    }
}

fn table(held: &[v1::QuarantinedTask]) -> Table {
    let mut table = Table::new(&["TASK", "DEATHS", "AGENT", "ENDS"]);
    for v1::QuarantinedTask { task, attempts } in held {
        let task = task.clone().unwrap_or_default();
        let ends: Vec<String> = attempts
            .iter()
            .filter_map(|attempt| {
                let end = attempt.end.as_ref()?;
                Some(format!("{} on {}", words::end(end), attempt.agent))
            })
            .collect();
        table.row(vec![
            format!("{}.{}", short(&task.job), task.index),
            task.deaths.to_string(),
            task.agent,
            ends.join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_is_in_the_table() {
        let lost = v1::Attempt {
            agent: "etl-1".to_owned(),
            end: Some(v1::End {
                outcome: v1::Outcome::Lost.into(),
                reason: "agent_lost".to_owned(),
                ..v1::End::default()
            }),
            ..v1::Attempt::default()
        };
        let held = v1::QuarantinedTask {
            task: Some(v1::Task {
                job: "01jz8f5g3kq9w2m4n6p8r0t2v4".to_owned(),
                index: 7,
                agent: "etl-1".to_owned(),
                quarantined: true,
                deaths: 3,
                ..v1::Task::default()
            }),
            attempts: vec![lost.clone(), lost],
        };
        assert_eq!(
            table(&[held]).text(false, false, false),
            "p8r0t2v4.7  3  etl-1  lost (agent_lost) on etl-1, lost (agent_lost) on etl-1\n"
        );
    }
}
