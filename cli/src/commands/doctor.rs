//! `muster doctor`: the checks of the coordinator and of this host, and the bundle of both.

mod bundle;
mod collect;
mod host;

use muster_agent::doctor::{EngineDump, HostFinding, HostReport, HostVerdict};
use muster_core::error_chain::error_chain;
use muster_core::redact::redact;
use muster_core::time::Millis;
use muster_proto::v1;

use crate::args::doctor::DoctorArgs;
use crate::client::Client;
use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::render::json::FindingJson;
use crate::render::span;
use crate::render::table::Table;
use crate::render::{self, View, words};
use host::Host;

/// As much as the coordinator allows its agents.
const SKEW: Millis = Millis::from_secs(300);

const FINDINGS: View<v1::Finding> = View {
    name: "findings",
    id: |finding| finding.check.clone(),
    table: |findings, _| table(findings),
};

/// What a look around found.
struct Seen {
    /// The worst first.
    findings: Vec<v1::Finding>,
    coordinator: Coordinator,
    host: Host,
    engine: Option<EngineDump>,
}

enum Coordinator {
    /// Not asked, as the user wished.
    LeftOut,
    Unreachable,
    There(Client),
}

pub(crate) async fn run(
    flags: &DoctorArgs,
    settings: &Settings,
    console: &mut Console,
) -> Result<Exit, Failure> {
    if let Some(file) = &flags.bundle {
        bundle::check_target(file)?;
    }
    let (seen, exit) = look(flags, settings).await;
    if let Some(file) = &flags.bundle {
        let gathered = collect::everything(&seen, flags, settings).await;
        bundle::write(file, &gathered)?;
        let shown = file.display();
        console.note(&format!(
            "{shown}: written, without secrets; look through it before you send it"
        ));
        for missing in gathered.missing() {
            console.note(&format!("not in it: {missing}"));
        }
    }
    let summary = summary(&seen.findings);
    render::list::<_, FindingJson>(console, &FINDINGS, seen.findings, "")?;
    console.note(&summary);
    Ok(exit)
}

async fn look(flags: &DoctorArgs, settings: &Settings) -> (Seen, Exit) {
    let (mut findings, coordinator, mut exit) = if flags.local {
        (Vec::new(), Coordinator::LeftOut, Exit::DONE)
    } else {
        ask(settings).await
    };
    let host = Host::of_process(&flags.data_dirs);
    findings.extend(host.unreadable.iter().map(|(file, why)| v1::Finding {
        subject: file.display().to_string(),
        ..finding(
            "host_settings",
            v1::Verdict::Unknown,
            why.clone(),
            "run muster doctor as root",
        )
    }));
    let report = muster_agent::doctor::look(&host.vars, &host.data_dirs).await;
    let HostReport {
        findings: local,
        engine,
    } = report;
    findings.extend(local.into_iter().map(host_finding));
    // Stable: those of one check stay together.
    findings.sort_by_key(|finding| std::cmp::Reverse(severity(finding.verdict())));
    let is_problem = |finding: &v1::Finding| finding.verdict() == v1::Verdict::Problem;
    if exit == Exit::DONE && findings.iter().any(is_problem) {
        exit = Exit::OTHER;
    }
    let seen = Seen {
        findings,
        coordinator,
        host,
        engine,
    };
    (seen, exit)
}

/// What the coordinator says, or that it says nothing.
async fn ask(settings: &Settings) -> (Vec<v1::Finding>, Coordinator, Exit) {
    let addr = &settings.addr.value;
    let client = match Client::connect(addr, &settings.team.value).await {
        Ok(client) => client,
        Err(error) => {
            let exit = error.exit();
            let advice = "start it (systemctl status muster-coordinator), or set --addr; --local leaves it out";
            let what = error_chain(&error);
            let finding = finding("coordinator", v1::Verdict::Problem, what, advice);
            return (vec![finding], Coordinator::Unreachable, exit);
        }
    };
    let answer = client.admin().check(v1::CheckRequest {}).await;
    let (findings, exit) = match answer {
        Ok(answer) => {
            let v1::CheckResponse { findings, now } = answer.into_inner();
            let what = format!("answers at {addr}");
            let mut all = vec![finding("coordinator", v1::Verdict::Ok, what, "")];
            all.extend(findings);
            let now = span::timestamp(now);
            all.extend(now.map(|theirs| clock(theirs, jiff::Timestamp::now())));
            (all, Exit::DONE)
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            let what = "it is older than this command and can't check itself".to_owned();
            let advice = "upgrade it, or use the muster that it runs";
            (
                vec![finding("coordinator", v1::Verdict::Unknown, what, advice)],
                Exit::DONE,
            )
        }
        Err(status) => {
            let what = status.message().to_owned();
            let advice = "look at its log: journalctl -u muster-coordinator";
            let finding = finding("coordinator", v1::Verdict::Problem, what, advice);
            (vec![finding], Failure::from(status).exit())
        }
    };
    (findings, Coordinator::There(client), exit)
}

/// This host's clock against the coordinator's.
fn clock(theirs: jiff::Timestamp, ours: jiff::Timestamp) -> v1::Finding {
    let apart = ours.as_millisecond().abs_diff(theirs.as_millisecond());
    let apart = Millis(apart);
    let direction = if ours < theirs { "behind" } else { "ahead of" };
    let what = format!("{apart} {direction} the coordinator's");
    if apart <= SKEW {
        return finding("host_clock", v1::Verdict::Ok, what, "");
    }
    let advice = "set both hosts' clocks: NTP, chrony or systemd-timesyncd";
    finding("host_clock", v1::Verdict::Warning, what, advice)
}

fn host_finding(host: HostFinding) -> v1::Finding {
    let HostFinding {
        check,
        verdict,
        subject,
        what,
        advice,
    } = host;
    let verdict = match verdict {
        HostVerdict::Ok => v1::Verdict::Ok,
        HostVerdict::Unknown => v1::Verdict::Unknown,
        HostVerdict::Warning => v1::Verdict::Warning,
        HostVerdict::Problem => v1::Verdict::Problem,
    };
    v1::Finding {
        subject,
        ..finding(&format!("host_{check}"), verdict, what, advice)
    }
}

/// Addresses may hold passwords, and what doctor prints is pasted into tickets.
fn finding(check: &str, verdict: v1::Verdict, what: String, advice: &str) -> v1::Finding {
    v1::Finding {
        check: check.to_owned(),
        verdict: verdict.into(),
        subject: String::new(),
        what: redact(&what),
        advice: advice.to_owned(),
    }
}

const fn severity(verdict: v1::Verdict) -> u8 {
    match verdict {
        v1::Verdict::Ok => 0,
        v1::Verdict::Unspecified | v1::Verdict::Unknown => 1,
        v1::Verdict::Warning => 2,
        v1::Verdict::Problem => 3,
    }
}

/// `1 problem, 2 warnings, 1 unknown, 17 ok`.
fn summary(findings: &[v1::Finding]) -> String {
    let count = |of: u8| {
        let of = |one: &&v1::Finding| severity(one.verdict()) == of;
        findings.iter().filter(of).count()
    };
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let (problems, warnings) = (count(3), count(2));
    format!(
        "{problems} problem{}, {warnings} warning{}, {} unknown, {} ok",
        plural(problems),
        plural(warnings),
        count(1),
        count(0)
    )
}

/// What to do stands below what is so: both are sentences.
fn table(findings: &[v1::Finding]) -> Table {
    let mut table = Table::new(&["VERDICT", "CHECK", "ABOUT", "FOUND"]);
    for finding in findings {
        let verdict = words::verdict(finding.verdict());
        let v1::Finding {
            check,
            verdict: _,
            subject,
            what,
            advice,
        } = finding.clone();
        table.row(vec![verdict.to_owned(), check, subject, what]);
        if !advice.is_empty() {
            let below = [
                String::new(),
                String::new(),
                String::new(),
                format!("  do: {advice}"),
            ];
            table.row(below.to_vec());
        }
    }
    table
}

#[cfg(test)]
mod tests;
