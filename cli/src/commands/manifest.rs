//! `muster apply`, `muster plan` and `muster schema`.

use muster_proto::v1;
use v1::ApplyAction;

use super::Context;
use crate::args::manifest::ManifestArgs;
use crate::commands::rollout::whoami;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::render;
use crate::render::json::AppliedJson;
use crate::render::words::action;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Apply,
    /// Only says what would be done.
    Plan,
}

pub(crate) async fn run(
    context: &mut Context,
    args: &ManifestArgs,
    mode: Mode,
) -> Result<Exit, Failure> {
    let request = v1::ApplyRequest {
        team: context.client.team.clone(),
        files: files::read(&args.files)?,
        dry_run: mode == Mode::Plan,
        by: whoami(),
    };
    let reply = context.client.manifests().apply(request).await?;
    show(&mut context.console, reply.into_inner().objects, mode)?;
    Ok(Exit::DONE)
}

pub(crate) fn schema(console: &mut Console) -> Result<Exit, Failure> {
    let schema = muster_coordinator::manifest::schema();
    let text = serde_json::to_string_pretty(&schema).expect("a schema is plain data");
    console.data(&text)?;
    Ok(Exit::DONE)
}

fn show(console: &mut Console, objects: Vec<v1::AppliedObject>, mode: Mode) -> Result<(), Failure> {
    let id = |object: &v1::AppliedObject| format!("{}/{}", object.kind.to_lowercase(), object.name);
    let text = |console: &Console, objects: &[v1::AppliedObject]| {
        let blocks: Vec<String> = objects.iter().map(block).collect();
        console.fit(&format!("{}{}", blocks.concat(), summary(objects, mode)))
    };
    render::list_as::<_, AppliedJson>(console, ("objects", id), objects, "", text)
}

/// The object, and below it what changes about it.
fn block(object: &v1::AppliedObject) -> String {
    let mut text = format!(
        "{} {}  {}\n",
        object.kind,
        object.name,
        action(object.action())
    );
    let widest = object.changes.iter().map(|change| change.field.len()).max();
    let width = widest.unwrap_or(0);
    for change in &object.changes {
        let v1::FieldChange {
            field,
            before,
            after,
        } = change;
        let absent = || "(none)".to_owned();
        let value = match (before, after) {
            (None, Some(after)) if object.action() == ApplyAction::Created => after.clone(),
            (before, after) => format!(
                "{} -> {}",
                before.clone().unwrap_or_else(absent),
                after.clone().unwrap_or_else(absent)
            ),
        };
        text.push_str(&format!("    {field:<width$}  {value}\n"));
    }
    if !object.note.is_empty() {
        text.push_str(&format!("    {}\n", object.note));
    }
    text
}

/// `1 created, 0 changed, 3 unchanged`, or that nothing would change.
fn summary(objects: &[v1::AppliedObject], mode: Mode) -> String {
    let count = |wanted: ApplyAction| {
        let those = objects.iter().filter(|object| object.action() == wanted);
        those.count()
    };
    let (created, changed, unchanged) = (
        count(ApplyAction::Created),
        count(ApplyAction::Changed),
        count(ApplyAction::Unchanged),
    );
    match (mode, created + changed) {
        (_, 0) => "No changes.".to_owned(),
        (Mode::Plan, _) => {
            format!("Would be: {created} created, {changed} changed, {unchanged} unchanged.")
        }
        (Mode::Apply, _) => {
            format!("{created} created, {changed} changed, {unchanged} unchanged.")
        }
    }
}

#[cfg(test)]
mod tests;
