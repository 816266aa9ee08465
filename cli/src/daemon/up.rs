//! `muster up`: coordinator and agent in one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_coordinator::Addresses;
use muster_core::time::Millis;
use muster_proto::v1;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{DaemonError, notify_ready, parse_agent, parse_coordinator, run_daemon, variables};
use crate::args::daemon::UpArgs;
use crate::client::Client;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::quantity::{cpus_text, size_text};

/// An agent that has not joined by then waits for its engine.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const DEFAULT_ADDRESS: &str = "127.0.0.1:7380";
/// Less than a daemon: the terminal is a person's.
const LOGGED: &str = "warn,tower_http=off";
const STORE_FILE: &str = "muster.db";

pub(crate) fn up(flags: &UpArgs, console: &mut Console) -> Result<Exit, Failure> {
    let began = Instant::now();
    let home = std::env::var("HOME").ok();
    let data_dir = data_dir(flags, home.as_deref(), std::env::var("XDG_DATA_HOME").ok())?;
    let vars = settings(flags, &data_dir);
    let coordinator = parse_coordinator(&vars)?;
    // What is wrong with the agent's settings is said before anything starts.
    parse_agent(&with_coordinator(&vars, "http://127.0.0.1:1"))?;
    let is_new = !coordinator.data_dir.join(STORE_FILE).exists();
    let store = coordinator.data_dir.join(STORE_FILE);
    let store = format!(
        "store  {}{}",
        shown(&store, home.as_deref()),
        if is_new { " (new)" } else { "" }
    );
    run_daemon("muster-up", LOGGED, async |stop: CancellationToken| {
        // Whichever ends first ends the other.
        let stop = stop.child_token();
        let (ready, serves) = oneshot::channel();
        let coordinator = async {
            let ended = muster_coordinator::run(coordinator, stop.clone(), ready).await;
            stop.cancel();
            ended.map_err(|error| DaemonError::Coordinator(Box::new(error)))
        };
        let agent = async {
            // Without an address the coordinator did not start, and says why.
            let Ok(addresses) = serves.await else {
                return Ok(());
            };
            let addr = client_address(&addresses);
            let config = parse_agent(&with_coordinator(&vars, &addr))?;
            let greeting = greet(console, &store, &addresses, began);
            let running = muster_agent::run(config, stop.clone());
            let (ended, ()) = tokio::join!(running, greeting);
            stop.cancel();
            ended.map_err(|error| DaemonError::Agent(Box::new(error)))
        };
        let (coordinator, agent) = tokio::join!(coordinator, agent);
        coordinator.and(agent)
    })
}

/// Flags over variables over what `up` chooses.
fn settings(flags: &UpArgs, data_dir: &Path) -> BTreeMap<String, String> {
    let UpArgs {
        data_dir: own_dir,
        listen,
        http_listen,
        name,
        places,
    } = flags;
    let dir = data_dir.display().to_string();
    let agent_dir = data_dir.join("agent").display().to_string();
    let defaults = [
        ("MUSTER_COORDINATOR_DATA_DIR", dir.clone()),
        ("MUSTER_AGENT_DATA_DIR", agent_dir.clone()),
    ];
    let given = [
        ("MUSTER_COORDINATOR_DATA_DIR", own_dir.as_ref().map(|_| dir)),
        ("MUSTER_AGENT_DATA_DIR", own_dir.as_ref().map(|_| agent_dir)),
        ("MUSTER_COORDINATOR_LISTEN", listen.clone()),
        ("MUSTER_COORDINATOR_HTTP_LISTEN", http_listen.clone()),
        ("MUSTER_AGENT_NAME", name.clone()),
        ("MUSTER_AGENT_PLACES", places.clone()),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    let mut settings: BTreeMap<String, String> = defaults.into_iter().map(owned).collect();
    settings.extend(variables());
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    settings.extend(given.map(owned));
    settings
}

/// The agent of this process belongs to the coordinator of this process, whatever variables say.
fn with_coordinator(vars: &BTreeMap<String, String>, addr: &str) -> BTreeMap<String, String> {
    let mut vars = vars.clone();
    vars.insert("MUSTER_AGENT_COORDINATOR".to_owned(), addr.to_owned());
    vars
}

fn data_dir(
    flags: &UpArgs,
    home: Option<&str>,
    xdg: Option<String>,
) -> Result<PathBuf, DaemonError> {
    if let Some(dir) = &flags.data_dir {
        return Ok(PathBuf::from(dir));
    }
    let base = xdg.filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = home.filter(|dir| !dir.is_empty());
    let base = base.or_else(|| Some(Path::new(home?).join(".local/share")));
    Ok(base.ok_or(DaemonError::NoDataDir)?.join("muster"))
}

/// What a client dials.
fn client_address(addresses: &Addresses) -> String {
    if addresses.grpc.starts_with("unix:") {
        return addresses.grpc.clone();
    }
    format!("http://{}", addresses.grpc)
}

/// Says what runs, once the agent has joined, and what to type next.
async fn greet(console: &mut Console, store: &str, addresses: &Addresses, began: Instant) {
    let addr = client_address(addresses);
    let agent = match joined(&addr).await {
        Some(agent) => agent_line(&agent),
        None => "agent  not there yet: it waits for the container engine (DOCKER_HOST)".to_owned(),
    };
    notify_ready();
    let took = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let prefix = if addresses.grpc == DEFAULT_ADDRESS {
        String::new()
    } else {
        format!("MUSTER_ADDR={addr} ")
    };
    let text = format!(
        "{store}\n{agent}\napi    {}    http {}\n\
         Ready in {took}. Ctrl-C stops muster; running containers stay and are found again.\n\
         next   {prefix}muster run python:3.12-slim python3 -c 'print(6*7)'",
        addresses.grpc, addresses.http
    );
    // With nobody to read it, muster runs all the same.
    console.data(&text).ok();
}

/// The agent, when it has joined.
async fn joined(addr: &str) -> Option<v1::Agent> {
    let look = async {
        let client = Client::connect(addr, "default").await.ok()?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let request = v1::ListAgentsRequest::default();
            let agents = client
                .agents()
                .list(request)
                .await
                .ok()?
                .into_inner()
                .agents;
            let online = |agent: &v1::Agent| agent.state() == v1::AgentState::Online;
            if let Some(agent) = agents.into_iter().find(online) {
                return Some(agent);
            }
        }
    };
    tokio::time::timeout(JOIN_PATIENCE, look).await.ok()?
}

/// `agent  laptop in pool default: 8 cpus, 15.5 GiB, docker 27.3`.
fn agent_line(agent: &v1::Agent) -> String {
    let capacity = agent.capacity.clone().unwrap_or_default();
    format!(
        "agent  {} in pool {}: {} cpus, {}, {} places, docker {}",
        agent.id,
        agent.pool,
        cpus_text(capacity.cpu_millis),
        size_text(capacity.memory_bytes),
        capacity.places,
        agent.engine
    )
}

/// With `~` for the home directory.
fn shown(path: &Path, home: Option<&str>) -> String {
    let inside = home
        .filter(|home| !home.is_empty())
        .and_then(|home| path.strip_prefix(home).ok());
    match inside {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(flag: Option<&str>, home: Option<&str>, xdg: Option<&str>) -> Option<String> {
        let flags = UpArgs {
            data_dir: flag.map(str::to_owned),
            ..UpArgs::default()
        };
        let dir = data_dir(&flags, home, xdg.map(str::to_owned)).ok()?;
        Some(dir.display().to_string())
    }

    #[test]
    fn data_is_kept_where_the_xdg_rules_say() {
        let home = Some("/home/ann");
        assert_eq!(
            dir(None, home, None).unwrap(),
            "/home/ann/.local/share/muster"
        );
        assert_eq!(dir(None, home, Some("/data")).unwrap(), "/data/muster");
        assert_eq!(dir(Some("/d"), home, Some("/data")).unwrap(), "/d");
        assert_eq!(dir(None, None, None), None);
    }

    #[test]
    fn the_agent_keeps_its_things_inside() {
        let flags = UpArgs {
            data_dir: Some("/d".to_owned()),
            places: Some("3".to_owned()),
            ..UpArgs::default()
        };
        let settings = settings(&flags, Path::new("/d"));
        assert_eq!(settings["MUSTER_COORDINATOR_DATA_DIR"], "/d");
        assert_eq!(settings["MUSTER_AGENT_DATA_DIR"], "/d/agent");
        assert_eq!(settings["MUSTER_AGENT_PLACES"], "3");
    }

    #[test]
    fn the_greeting_names_the_agent() {
        let agent = v1::Agent {
            id: "laptop".to_owned(),
            pool: "default".to_owned(),
            engine: "27.3".to_owned(),
            capacity: Some(v1::Capacity {
                cpu_millis: 8000,
                memory_bytes: 16_642_998_272,
                places: 16,
                ..v1::Capacity::default()
            }),
            ..v1::Agent::default()
        };
        assert_eq!(
            agent_line(&agent),
            "agent  laptop in pool default: 8 cpus, 15.5 GiB, 16 places, docker 27.3"
        );
        let home = Some("/home/ann");
        assert_eq!(
            shown(Path::new("/home/ann/x/muster.db"), home),
            "~/x/muster.db"
        );
        assert_eq!(shown(Path::new("/srv/muster.db"), home), "/srv/muster.db");
    }
}
