//! Amazon ECR: its events come through EventBridge and an API destination. Authentication: the
//! header `X-Api-Key`, which the destination's connection sets.

use serde::Deserialize;

use super::{
    Accepted, Delivery, Hint, Rejected, Secret, authorization, check_token, header, json, tag,
};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Event {
    detail_type: String,
    account: String,
    region: String,
    detail: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    action_type: String,
    result: String,
    repository_name: String,
    image_tag: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    let headers = delivery.headers;
    let key = header(headers, "x-api-key").or_else(|| authorization(headers));
    check_token(secrets, key)?;
    let Event {
        detail_type,
        account,
        region,
        detail,
    } = json(delivery.body)?;
    if detail_type != "ECR Image Action" {
        return Ok(Accepted::default());
    }
    let detail: Detail =
        serde_json::from_value(detail).map_err(|source| Rejected::BadBody { source })?;
    let Detail {
        action_type,
        result,
        repository_name,
        image_tag,
    } = detail;
    if action_type != "PUSH" || result != "SUCCESS" {
        return Ok(Accepted::default());
    }
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    let host = format!("{account}.dkr.ecr.{region}.{domain}");
    let repository = super::repository(&host, &repository_name).ok_or(Rejected::BadField {
        field: "detail.repository-name",
    })?;
    let hint = tag(image_tag.as_deref()).map(|tag| Hint {
        repository,
        tag: Some(tag),
        any_host: false,
    });
    Ok(Accepted::hints(hint))
}
