//! One function for each rule. A rule says where and what; nothing else.

use crate::logs;
use crate::tree::File;

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&File) -> Vec<String>,
    /// A file that breaks the rule, and one that keeps it.
    pub(crate) bad: (&'static str, String),
    pub(crate) good: (&'static str, String),
}

/// Lines of a file without a reason for more.
const LINES: usize = 500;
/// The rules themselves name what they forbid.
const THIS: &str = "tests/tidy/";

/// Looking again and again, with a deadline, for what nothing announces.
const POLLS: [(&str, &str); 7] = [
    (
        "tests/src/proxy.rs",
        "a way that is slow makes each piece late",
    ),
    (
        "agent/src/e2e.rs",
        "looks at a real engine until it shows something",
    ),
    ("coordinator/src/contract.rs", "waits for another process"),
    (
        "coordinator/src/http/tests.rs",
        "asks a server until it answers",
    ),
    (
        "coordinator/src/metrics/pushgateway/tests.rs",
        "asks a gateway until it has something",
    ),
    (
        "coordinator/src/poll/tests.rs",
        "looks at the follower until it shows something",
    ),
    (
        "coordinator/src/registry/verify/tests.rs",
        "looks at another process until it is gone",
    ),
];
/// Names that look like metrics and are none.
const NO_METRICS: [&str; 8] = [
    "muster_agent",
    "muster_cli",
    "muster_coordinator",
    "muster_core",
    "muster_proto",
    "muster_tests",
    "muster_bench",
    "muster_",
];

#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn rules() -> Vec<Rule> {
    let owned = |(path, text): (&'static str, &str)| (path, text.to_owned());
    let rule = |name, check, bad, good| Rule {
        name,
        check,
        bad: owned(bad),
        good: owned(good),
    };
    vec![
        rule(
            "modules are named by what they hold",
            module_names,
            ("core/src/util.rs", ""),
            ("core/src/utility_bill.rs", ""),
        ),
        rule(
            "no mod.rs",
            module_names,
            ("core/src/fleet/mod.rs", ""),
            ("core/src/fleet.rs", ""),
        ),
        rule(
            "what is left to do has an issue's number",
            open_ends,
            ("core/src/a.rs", "// TODO: later\n"),
            (
                "core/src/a.rs",
                "// TODO(#12): when the store can\n// METHODTODOS\n",
            ),
        ),
        rule(
            "no debris",
            debris,
            ("core/src/a.rs", "    dbg!(x);\n"),
            ("core/src/a.rs", "// dbg is not debris\n"),
        ),
        rule(
            "no commented-out code",
            commented_out,
            ("core/src/a.rs", "    // let x = compute();\n"),
            (
                "core/src/a.rs",
                "    // let it run, compute later;\n/// let x = 1;\n",
            ),
        ),
        Rule {
            name: "a long file says why",
            check: length,
            bad: ("core/src/a.rs", "\n".repeat(LINES + 1)),
            good: (
                "core/src/a.rs",
                format!("// file length: a table\n{}", "\n".repeat(LINES)),
            ),
        },
        rule(
            "no hosts of package registries",
            hosts,
            ("docs/a.md", concat!("from files.", "pypi", ".org/x\n")),
            ("docs/a.md", "from the mirror that is set up\n"),
        ),
        Rule {
            name: "no paths of one machine",
            check: machine_paths,
            bad: ("docs/a.md", format!("see {}x\n", checkout())),
            good: ("docs/a.md", "see docs/a.md\n".to_owned()),
        },
        rule(
            "tests are not ignored",
            ignored,
            ("core/src/a/tests.rs", "#[ignore = \"slow\"]\n"),
            ("core/src/a/tests.rs", "// #[ignore] would hide it\n"),
        ),
        rule(
            "tests do not sleep",
            sleeps,
            ("core/src/a/tests.rs", "tokio::time::sleep(x).await;\n"),
            ("core/src/a.rs", "tokio::time::sleep(x).await;\n"),
        ),
        rule(
            "log messages are static and lower-case",
            logs::check,
            ("agent/src/a.rs", "tracing::info!(x, \"Agent {x} gone\");\n"),
            (
                "agent/src/a.rs",
                "tracing::info!(%x, why = \"Y\", \"agent unreachable\");\n",
            ),
        ),
        rule(
            "metrics are named in one place",
            metric_names,
            ("agent/src/a.rs", "count(\"muster_agent_beats_total\");\n"),
            (
                "agent/src/metrics.rs",
                "count(\"muster_agent_beats_total\");\n",
            ),
        ),
    ]
}

fn at(file: &File, line: usize, text: &str) -> String {
    format!("{}:{line}: {}", file.path, text.trim())
}

fn module_names(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return vec![];
    }
    let parts = file.path.trim_end_matches(".rs").split('/');
    let vague = ["mod", "util", "utils", "common", "helpers", "misc"];
    let found = parts.filter(|part| vague.contains(part));
    found.map(|part| format!("{}: {part}", file.path)).collect()
}

/// Lines in which one of the words stands for itself.
fn lines_with(file: &File, words: &[&str], unless: impl Fn(&str) -> bool) -> Vec<String> {
    if file.path.starts_with(THIS) {
        return vec![];
    }
    let is_word = |line: &str, word: &str| {
        line.match_indices(word).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            let after = line[start + word.len()..].chars().next();
            let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !part(before) && !part(after)
        })
    };
    let found = file
        .lines()
        .filter(|(_, line)| words.iter().any(|word| is_word(line, word)) && !unless(line));
    found.map(|(number, line)| at(file, number, line)).collect()
}

fn open_ends(file: &File) -> Vec<String> {
    let has_number = |line: &str| {
        let after = line.split('#').nth(1);
        after.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    // mktemp wants its own row of them.
    let is_template = |line: &str| line.contains("XXXX") || line.contains("mktemp");
    lines_with(file, &["TODO", "FIXME", "XXX"], |line| {
        has_number(line) || is_template(line)
    })
}

fn debris(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path.starts_with(THIS) {
        return vec![];
    }
    let names = ["dbg!(", "todo!(", "unimplemented!("];
    let found = file.lines().filter(|(_, line)| {
        let code = line.split("//").next().unwrap_or_default();
        names.iter().any(|name| code.contains(name))
    });
    found.map(|(number, line)| at(file, number, line)).collect()
}

fn commented_out(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path.starts_with(THIS) {
        return vec![];
    }
    let starts = ["let ", "use ", "fn ", "pub ", "return ", "self.", "assert"];
    let is_code = |line: &str| {
        let Some(comment) = line.trim_start().strip_prefix("// ") else {
            return false;
        };
        let begins = starts.iter().any(|start| comment.starts_with(start));
        let is_statement = comment.contains(['=', '(', ':']);
        begins && is_statement && comment.ends_with([';', '{'])
    };
    let found = file.lines().filter(|(_, line)| is_code(line));
    found.map(|(number, line)| at(file, number, line)).collect()
}

fn length(file: &File) -> Vec<String> {
    let count = file.text.lines().count();
    let explained = file
        .text
        .lines()
        .take(10)
        .any(|line| line.contains("file length:"));
    if !file.is_rust() || count <= LINES || explained {
        return vec![];
    }
    vec![format!("{}: {count} lines", file.path)]
}

/// The host of a package registry, told by a word and an ending. Cargo writes its own file.
fn hosts(file: &File) -> Vec<String> {
    let words = [
        "crates",
        "pypi",
        "pythonhosted",
        "npmjs",
        "debian",
        "golang",
    ];
    let endings = ["io", "org", "com"];
    if file.path == "Cargo.lock" {
        return vec![];
    }
    let is_host = |token: &str| {
        let mut labels = token.trim_matches('.').split('.').rev();
        labels.next().is_some_and(|last| endings.contains(&last))
            && labels.any(|label| words.contains(&label))
    };
    let of_a_host = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let found = file
        .lines()
        .filter(|(_, line)| line.split(|c| !of_a_host(c)).any(is_host));
    found.map(|(number, line)| at(file, number, line)).collect()
}

/// Where this checkout and its user's files lie says nothing to anybody else.
fn machine_paths(file: &File) -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let outside = ["..", "shared", ""].join("/");
    let paths = [
        checkout(),
        outside,
        format!("{home}/.cache"),
        format!("{home}/.cargo"),
    ];
    // `core/src` does not name a checkout in `/src`.
    let begins = |before: &str| !before.ends_with(|c: char| c.is_ascii_alphanumeric());
    let names = |line: &str, path: &str| {
        line.match_indices(path)
            .any(|(place, _)| begins(&line[..place]))
    };
    let found = file
        .lines()
        .filter(|(_, line)| paths.iter().any(|path| names(line, path)));
    found.map(|(number, line)| at(file, number, line)).collect()
}

/// The absolute path of the workspace.
fn checkout() -> String {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().expect("the crate lies in the workspace");
    format!("{}/", root.display())
}

fn ignored(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path.starts_with(THIS) {
        return vec![];
    }
    let found = file
        .lines()
        .filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
    found.map(|(number, line)| at(file, number, line)).collect()
}

fn sleeps(file: &File) -> Vec<String> {
    let is_listed = POLLS.iter().any(|(path, _)| *path == file.path);
    if !file.is_rust() || !file.is_test() || is_listed || file.path.starts_with(THIS) {
        return vec![];
    }
    let calls = ["thread::sleep(", "time::sleep("];
    let found = file
        .lines()
        .filter(|(_, line)| calls.iter().any(|call| line.contains(call)));
    found.map(|(number, line)| at(file, number, line)).collect()
}

fn metric_names(file: &File) -> Vec<String> {
    let in_question =
        file.path.starts_with("agent/src/") || file.path.starts_with("coordinator/src/");
    let is_home = file.path.ends_with("/metrics.rs") || file.path.contains("/metrics/");
    if !file.is_rust() || !in_question || is_home || file.is_test() {
        return vec![];
    }
    let is_name = |line: &str| {
        line.split("\"muster_").skip(1).any(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let name = format!("muster_{}", &rest[..end.unwrap_or(rest.len())]);
            !NO_METRICS.contains(&name.as_str())
        })
    };
    let lines = (1..).zip(file.product().lines());
    let found = lines.filter(|(_, line)| is_name(line));
    found.map(|(number, line)| at(file, number, line)).collect()
}

#[test]
fn every_exception_is_still_needed() {
    for (path, reason) in POLLS {
        let text = std::fs::read_to_string(crate::tree::root().join(path));
        let sleeps = text.is_ok_and(|text| text.contains("sleep("));
        assert!(sleeps, "{path} is excepted ({reason}) and does not sleep");
    }
}
