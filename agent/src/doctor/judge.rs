//! Verdicts about what was seen, as functions of it.

use std::path::Path;

use super::{HostFinding, HostVerdict};
use crate::config::DiskReserve;
use crate::runtime::docker::EngineReport;

/// The engine with which muster is tested first; older ones lack what the agent asks for.
const ENGINE_MIN: (u32, u32) = (20, 10);
/// Storage drivers that are kept and fast.
const STORAGE: [&str; 5] = ["overlay2", "overlayfs", "btrfs", "zfs", "fuse-overlayfs"];
/// Of each branch of runc, the first release without the escapes CVE-2025-31133, CVE-2025-52565 and
/// CVE-2025-52881, and with that all before it. Later branches never had them.
const RUNC_FIXED: [(u32, u32, u32); 2] = [(1, 2, 8), (1, 3, 3)];
/// The branch whose release candidates before the third had them.
const RUNC_CANDIDATES: (u32, u32, u32) = (1, 4, 3);

pub(super) fn engine(report: &EngineReport) -> Vec<HostFinding> {
    let EngineReport {
        version,
        live_restore,
        storage_driver,
        log_driver,
        cgroup_version,
        cgroup_driver,
        runc,
        missing_limits,
        root: _,
    } = report;
    let mut found = vec![
        engine_version(version),
        live_restored(*live_restore),
        storage(storage_driver),
        // Containers of tasks name their own driver, so the default can't lose their output.
        ok(
            "log_driver",
            format!("{log_driver} is the default; tasks' containers use local"),
        ),
        ok(
            "cgroups",
            format!("version {cgroup_version}, driver {cgroup_driver}"),
        ),
        runc_version(runc.as_deref()),
    ];
    found.extend(missing_limits.iter().map(|limit| {
        let what =
            "the kernel or the engine does not enforce it: tasks can take more than they asked for";
        problem(
            "limits",
            limit,
            what,
            "enable that control group in the kernel's command line",
        )
    }));
    found
}

fn engine_version(version: &str) -> HostFinding {
    match numbers(version) {
        Some((major, minor, _)) if (major, minor) < ENGINE_MIN => {
            let what = format!("{version} is older than 20.10");
            problem("engine", "", what, "install Docker 20.10 or newer")
        }
        Some(_) => ok("engine", format!("{version} answers")),
        None => ok(
            "engine",
            format!("{version:?} answers; muster can't tell how old it is"),
        ),
    }
}

fn live_restored(on: bool) -> HostFinding {
    if on {
        return ok(
            "live_restore",
            "a restart of the engine leaves containers running",
        );
    }
    let what = "off: a restart of the engine ends every task on this host";
    let advice = r#"set "live-restore": true in /etc/docker/daemon.json; systemctl reload docker"#;
    warning("live_restore", "", what, advice)
}

fn storage(driver: &str) -> HostFinding {
    if STORAGE.contains(&driver) {
        return ok("storage_driver", driver);
    }
    let what = format!("{driver}: slow, wasteful or no longer kept");
    warning(
        "storage_driver",
        "",
        what,
        "use overlay2 or the containerd image store",
    )
}

fn runc_version(version: Option<&str>) -> HostFinding {
    let Some(version) = version else {
        let advice = "see: runc --version; 1.2.8, 1.3.3 or newer has none of the escapes of 2025";
        return unknown(
            "runc",
            "the engine does not say which runtime it uses",
            advice,
        );
    };
    if !has_known_escape(version) {
        return ok("runc", version);
    }
    let what = format!(
        "{version} lets an image's author out of the container (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)"
    );
    let advice = "update to 1.2.8, 1.3.3 or newer, unless your distribution has put the fixes into its package";
    warning("runc", "", what, advice)
}

/// What can't be read is not known to have one.
fn has_known_escape(version: &str) -> bool {
    let Some(found @ (major, minor, _)) = numbers(version) else {
        return false;
    };
    let (of_major, of_minor, fixed) = RUNC_CANDIDATES;
    if (major, minor) == (of_major, of_minor) {
        let candidate = version
            .split_once("-rc")
            .map(|(_, rest)| rest.trim_start_matches('.'));
        let number = candidate.map(leading_number);
        return number.flatten().is_some_and(|number| number < fixed);
    }
    let [before, last] = RUNC_FIXED;
    if (major, minor) == (last.0, last.1) {
        return found < last;
    }
    found < before
}

/// `1.3.0-rc.1+dev` is (1, 3, 0).
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.trim_start_matches('v').splitn(3, '.');
    let major = leading_number(parts.next()?)?;
    let minor = leading_number(parts.next()?)?;
    let patch = parts.next().and_then(leading_number).unwrap_or(0);
    Some((major, minor, patch))
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

/// `None` without a socket.
pub(super) fn socket(path: &Path, mode: Option<u32>) -> Option<HostFinding> {
    let mode = mode?;
    if mode & 0o002 == 0 {
        return Some(ok(
            "engine_socket",
            format!("{} has mode {mode:03o}", path.display()),
        ));
    }
    let what = format!("has mode {mode:03o}: everybody on this host can become root");
    let advice = "chmod o-rwx, and look at what sets it: SocketMode of docker.socket";
    Some(problem("engine_socket", path.display(), what, advice))
}

/// `seen`: bytes free and in all; `None` for a directory that is not there.
pub(super) fn disk(
    path: &Path,
    seen: Option<(u64, u64)>,
    reserve: DiskReserve,
) -> Option<HostFinding> {
    let (free, all) = seen?;
    let least = crate::disk::least(reserve, all, false);
    let (free_mib, least_mib) = (free >> 20, least >> 20);
    if free >= least {
        return Some(of_path(
            path,
            HostVerdict::Ok,
            "disk",
            format!("{free_mib} MiB are free; agents need {least_mib} MiB to take tasks"),
            "",
        ));
    }
    let what = format!("{free_mib} MiB are free; below {least_mib} MiB agents take no tasks");
    let advice = "free some: docker system df shows what Docker holds";
    Some(of_path(path, HostVerdict::Problem, "disk", what, advice))
}

/// `None` for a directory that is not there.
pub(super) fn data_dir(path: &Path, mode: Option<u32>) -> Option<HostFinding> {
    let mode = mode?;
    let shown = format!("mode {mode:03o}");
    Some(if mode & 0o022 != 0 {
        let what = format!("{shown}: others can change what muster remembers");
        of_path(path, HostVerdict::Problem, "data_dir", what, "chmod go-rwx")
    } else if mode & 0o004 != 0 {
        let what = format!("{shown}: everybody can read jobs' variables and output");
        of_path(path, HostVerdict::Warning, "data_dir", what, "chmod o-rx")
    } else {
        of_path(path, HostVerdict::Ok, "data_dir", shown, "")
    })
}

/// `synchronized`: what systemd says, `yes` or `no`.
pub(super) fn clock_sync(synchronized: Option<&str>) -> HostFinding {
    const CHECK: &str = "clock_sync";
    match synchronized {
        Some("yes") => ok(CHECK, "the clock is kept by NTP"),
        Some("no") => {
            let what = "nothing keeps the clock: times in logs and reports drift apart";
            let advice = "turn NTP on: timedatectl set-ntp true, or chrony";
            warning(CHECK, "", what, advice)
        }
        Some(_) | None => {
            let advice = "see that something keeps the clock: chrony or systemd-timesyncd";
            unknown(CHECK, "there is no systemd to ask about the clock", advice)
        }
    }
}

fn of_path(
    path: &Path,
    verdict: HostVerdict,
    check: &'static str,
    what: String,
    advice: &'static str,
) -> HostFinding {
    HostFinding {
        check,
        verdict,
        subject: path.display().to_string(),
        what,
        advice,
    }
}

fn ok(check: &'static str, what: impl Into<String>) -> HostFinding {
    HostFinding {
        check,
        verdict: HostVerdict::Ok,
        subject: String::new(),
        what: what.into(),
        advice: "",
    }
}

fn warning(
    check: &'static str,
    subject: &str,
    what: impl Into<String>,
    advice: &'static str,
) -> HostFinding {
    HostFinding {
        verdict: HostVerdict::Warning,
        ..problem(check, subject, what, advice)
    }
}

pub(super) fn unknown(
    check: &'static str,
    what: impl Into<String>,
    advice: &'static str,
) -> HostFinding {
    HostFinding {
        verdict: HostVerdict::Unknown,
        ..problem(check, "", what, advice)
    }
}

pub(super) fn problem(
    check: &'static str,
    subject: impl ToString,
    what: impl Into<String>,
    advice: &'static str,
) -> HostFinding {
    HostFinding {
        check,
        verdict: HostVerdict::Problem,
        subject: subject.to_string(),
        what: what.into(),
        advice,
    }
}

#[cfg(test)]
mod tests;
