//! What manifests come to.

use muster_proto::v1;
use serde::Serialize;

use super::set;
use crate::render::words::action;

#[derive(Debug, Serialize)]
pub(crate) struct AppliedJson {
    kind: String,
    team: String,
    name: String,
    file: String,
    line: u32,
    action: &'static str,
    changes: Vec<ChangeJson>,
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct ChangeJson {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

impl From<v1::AppliedObject> for AppliedJson {
    fn from(object: v1::AppliedObject) -> Self {
        let action = action(object.action());
        let v1::AppliedObject {
            kind,
            team,
            name,
            file,
            line,
            action: _,
            changes,
            note,
        } = object;
        let changes = changes.into_iter().map(|change| {
            let v1::FieldChange {
                field,
                before,
                after,
            } = change;
            ChangeJson {
                field,
                before,
                after,
            }
        });
        Self {
            kind,
            team,
            name,
            file,
            line,
            action,
            changes: changes.collect(),
            note: set(note),
        }
    }
}
