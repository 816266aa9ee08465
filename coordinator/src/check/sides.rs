//! What muster asks and tells outside: registries and the push gateway.

use std::collections::BTreeMap;

use super::{Finding, OUTSIDE_DEADLINE, Verdict, or_ok};
use crate::api::Shared;
use crate::metrics::{Metrics, PushResult};
use crate::registry::Access;
use crate::store::Store;

/// Registries that are asked; one channel stands for all of a registry that show it the same.
const REGISTRIES: usize = 10;

pub(super) async fn registries<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "registry";
    let channels = shared.driver.look(|fleet, _| {
        let channels = fleet.channels();
        let one = channels.map(|channel| {
            let registry = channel.repository.registry().to_owned();
            let credentials = channel.following.credentials.clone();
            ((registry, credentials), channel.clone())
        });
        one.collect::<BTreeMap<_, _>>()
    });
    let Ok(channels) = channels.await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    if channels.is_empty() {
        return vec![Finding::ok(CHECK, "no channel follows one")];
    }
    let count = channels.len();
    let asked = channels.iter().take(REGISTRIES).map(async |((registry, _), channel)| {
        let (repository, tag) = (&channel.repository, &channel.tag);
        let access = Access {
            repository,
            credentials: channel.following.credentials.as_ref(),
        };
        let answer = shared.registry.resolve(access, tag);
        let what = match tokio::time::timeout(OUTSIDE_DEADLINE, answer).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => muster_core::error_chain::error_chain(&error),
            Err(_) => format!("no answer within {} s", OUTSIDE_DEADLINE.as_secs()),
        };
        let what = muster_core::redact::redact(&format!("{repository}:{tag}: {what}"));
        let advice = "channels stay on the digest they have; look at the registry and the coordinator's credentials";
        Some(Finding::of(CHECK, Verdict::Problem, registry, what, advice))
    });
    let found = futures_util::future::join_all(asked).await;
    let well = format!("{count} answer");
    or_ok(CHECK, found.into_iter().flatten().collect(), well)
}

pub(super) fn push_gateway(metrics: &Metrics, pushes: bool) -> Finding {
    const CHECK: &str = "push_gateway";
    if !pushes {
        return Finding::ok(CHECK, "none is set, and nothing is pushed");
    }
    match metrics.last_push() {
        None => Finding::ok(CHECK, "nothing was pushed yet"),
        Some(PushResult::Ok) => Finding::ok(CHECK, "it took the last push"),
        Some(PushResult::Failed) => {
            let advice = "tasks are not affected; look at the gateway and at MUSTER_COORDINATOR_PUSHGATEWAY_URL";
            Finding::of(
                CHECK,
                Verdict::Warning,
                "",
                "it did not take the last push",
                advice,
            )
        }
        Some(PushResult::Dropped) => {
            let advice = "tasks are not affected; the gateway is too slow for the figures";
            Finding::of(CHECK, Verdict::Warning, "", "figures were dropped", advice)
        }
    }
}
