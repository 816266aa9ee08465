//! `muster version` and `muster health`.

use muster_proto::v1;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::Context;
use crate::client::Client;
use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::render;
use crate::render::json::{ClientJson, ServerJson, VersionJson};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Set by whoever builds a release.
const COMMIT: Option<&str> = option_env!("MUSTER_COMMIT");

/// The client's version always, the coordinator's if it answers.
pub(crate) async fn run(settings: &Settings, console: &mut Console) -> Result<Exit, Failure> {
    let server = server(settings).await.ok().map(ServerJson::from);
    let version = VersionJson {
        client: ClientJson {
            version: VERSION,
            commit: COMMIT,
        },
        server,
    };
    render::one(console, &version, VERSION, |_| {
        let commit = |commit: Option<&str>| commit.map(|c| format!(" ({c})")).unwrap_or_default();
        let client = format!("client  {VERSION}{}", commit(COMMIT));
        let server = match &version.server {
            Some(server) => format!(
                "server  {}{}",
                server.version,
                commit(server.commit.as_deref())
            ),
            None => format!("server  not reachable at {}", settings.addr.value),
        };
        format!("{client}\n{server}")
    })?;
    Ok(Exit::DONE)
}

async fn server(settings: &Settings) -> Result<v1::InfoResponse, Failure> {
    let client = Client::connect(&settings.addr.value, &settings.team.value).await?;
    let reply = client.admin().info(v1::InfoRequest {}).await?;
    Ok(reply.into_inner())
}

/// 0 if the coordinator serves, 6 if not: for health checks of images without a shell.
pub(crate) async fn health(context: &mut Context) -> Result<Exit, Failure> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let reply = context.client.health().check(request).await?.into_inner();
    let (word, exit) = match reply.status() {
        ServingStatus::Serving => ("serving", Exit::DONE),
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            ("not serving", Exit::UNREACHABLE)
        }
    };
    context.console.data(word)?;
    let info = context.client.admin().info(v1::InfoRequest {}).await;
    // One that is too old to say so, or that is not serving, has said what it can.
    let safe_mode = info.map(|info| info.into_inner().safe_mode);
    if let Some(why) = safe_mode.ok().filter(|why| !why.is_empty()) {
        context.console.say(&format!("safe mode: {why}"));
    }
    Ok(exit)
}
