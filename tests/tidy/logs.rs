//! Reads log statements out of source text.

use crate::tree::File;

const LEVELS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Messages with values in them, or that begin with a capital letter.
pub(crate) fn check(file: &File) -> Vec<String> {
    let in_question = ["agent/src/", "coordinator/src/", "cli/src/"];
    let is_product = in_question.iter().any(|start| file.path.starts_with(start));
    if !file.is_rust() || !is_product || file.is_test() {
        return vec![];
    }
    let text = file.product();
    let mut found = Vec::new();
    for level in LEVELS {
        let call = format!("tracing::{level}");
        for (start, _) in text.match_indices(&call) {
            let line = text[..start].lines().count().max(1);
            let message = message(&text[start + call.len()..]);
            match message {
                None => found.push(format!("{}:{line}: has no message", file.path)),
                Some(message) if is_bad(&message) => {
                    found.push(format!("{}:{line}: {message:?}", file.path));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Abbreviations keep their capitals, and so does what has to be loud.
fn is_bad(message: &str) -> bool {
    let mut letters = message.chars();
    let is_upper = |c: Option<char>| c.is_some_and(|c| c.is_ascii_uppercase());
    let capital = is_upper(letters.next()) && !is_upper(letters.next());
    message.contains('{') || capital
}

/// The last literal among the arguments that is not the value of a field.
fn message(arguments: &str) -> Option<String> {
    let mut depth = 0_u32;
    let mut before = '(';
    let mut found = None;
    let mut rest = arguments.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let literal = literal(&mut rest);
                if depth == 0 && matches!(before, '(' | ',') {
                    found = Some(literal);
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return found,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    found
}

fn literal(rest: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => {
                rest.next();
            }
            other => text.push(other),
        }
    }
    text
}

#[test]
fn the_message_is_found_among_fields() {
    let cases = [
        (r#""agent gone")"#, Some("agent gone")),
        (r#"x, y = f(1, "no"), "yes")"#, Some("yes")),
        (r#"name = "field")"#, None),
        (
            r#"%error, agent.id = "a", "can't"); info!("other")"#,
            Some("can't"),
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(message(arguments).as_deref(), expected, "{arguments}");
    }
}
