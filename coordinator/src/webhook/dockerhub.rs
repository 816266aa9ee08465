//! Docker Hub. It signs nothing and sends no header of ours: the secret is the end of the path.
//! Its `callback_url` is never called.

use serde::Deserialize;

use super::{Accepted, Delivery, Hint, Rejected, Secret, check_token, json, tag};

#[derive(Deserialize)]
struct Payload {
    push_data: PushData,
    repository: Repository,
}

#[derive(Deserialize)]
struct PushData {
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_name: String,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    check_token(secrets, delivery.path_token)?;
    let Payload {
        push_data,
        repository,
    } = json(delivery.body)?;
    let repository = super::repository("docker.io", &repository.repo_name);
    let repository = repository.ok_or(Rejected::BadField {
        field: "repository.repo_name",
    })?;
    let hint = tag(push_data.tag.as_deref()).map(|tag| Hint {
        repository,
        tag: Some(tag),
        any_host: false,
    });
    Ok(Accepted::hints(hint))
}
