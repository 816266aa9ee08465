//! Plays a script: commands in, the fleet's view out.

use crate::command::Command;
use crate::stage::Stage;

/// The output: every line of the script with `> ` before it, and what it shows.
pub(crate) fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut output = String::new();
    for line in script.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            output.push('\n');
            continue;
        }
        output.push_str("> ");
        output.push_str(line);
        output.push('\n');
        if line.starts_with('#') {
            continue;
        }
        for shown in stage.perform(&Command::parse(line)) {
            output.push_str(&shown);
            output.push('\n');
        }
    }
    output
}
