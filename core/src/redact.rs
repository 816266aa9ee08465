//! Takes secrets out of text that people send to each other: logs, settings, dumps.
//!
//! What looks like a secret is replaced, even if it is none: a reader misses little, a leak is for
//! good. It is the last net: nothing that holds a secret should be written down in the first place.

/// What stands where a secret was.
pub const REMOVED: &str = "***";

/// Parts of names whose values are secrets.
const SECRET: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "token",
    "authorization",
    "credential",
    "api_key",
    "apikey",
    "private_key",
];
/// Ends of names whose values only say where a secret is.
const PLACES: [&str; 4] = ["_file", "_dir", "_path", "_url"];
/// Words that announce one.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// `text` without the user and password of addresses, the values of names such as `db_password` in
/// the forms `name=value`, `name: value` and `"name":"value"`, and what follows `Bearer`.
#[must_use]
pub fn redact(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(redact_line).collect();
    lines.join("\n")
}

/// Whether the value of a thing with that name is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET.iter().any(|part| name.contains(part)) && !PLACES.iter().any(|end| name.ends_with(end))
}

fn redact_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = without_userinfo(line);
    while let Some(word) = next_word(&rest) {
        let (before, name, after) = word;
        out.push_str(before);
        out.push_str(name);
        let is_scheme = SCHEMES
            .iter()
            .any(|scheme| name.eq_ignore_ascii_case(scheme));
        let value = if is_secret_name(name) {
            value_after(after)
        } else if is_scheme {
            after.strip_prefix(' ').map(|value| (1, token_len(value)))
        } else {
            None
        };
        let after = match value {
            Some((skipped, length)) if length > 0 => {
                out.push_str(&after[..skipped]);
                out.push_str(REMOVED);
                &after[skipped + length..]
            }
            Some(_) | None => after,
        };
        rest = after.to_owned();
    }
    out.push_str(&rest);
    out
}

/// What comes before the first word, the word, and what comes after it.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find(is_name)?;
    let end = text[begin..].find(|c| !is_name(c));
    let end = end.map_or(text.len(), |length| begin + length);
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Where the value of a name begins and how long it is, if one follows.
fn value_after(text: &str) -> Option<(usize, usize)> {
    let quoted = text.trim_start_matches(['"', '\'', '\\']);
    let spaced = quoted.trim_start_matches(' ');
    let assigned = spaced.strip_prefix(['=', ':'])?;
    // `password::check` is a path.
    if assigned.starts_with(':') {
        return None;
    }
    let value = assigned.trim_start_matches(' ');
    if let Some(list) = value.strip_prefix('[') {
        let end = list.find(']').unwrap_or(list.len());
        return Some((text.len() - list.len(), end));
    }
    let inner = value.trim_start_matches(['"', '\'', '\\']);
    let skipped = text.len() - inner.len();
    if inner.len() < value.len() {
        let end = inner.find(['"', '\'']).unwrap_or(inner.len());
        return Some((skipped, end));
    }
    let scheme = SCHEMES.iter().find(|scheme| {
        let head = inner.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
            && inner[scheme.len()..].starts_with(' ')
    });
    let length = match scheme {
        Some(scheme) => scheme.len() + 1 + token_len(&inner[scheme.len() + 1..]),
        None => token_len(inner),
    };
    Some((skipped, length))
}

fn token_len(text: &str) -> usize {
    let end = |c: char| c.is_whitespace() || matches!(c, ',' | '&' | ';' | '"' | '\'' | ')' | '}');
    text.find(end).unwrap_or(text.len())
}

/// Addresses without the part before `@`.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#'));
        let authority = &after[..end.unwrap_or(after.len())];
        if let Some((_, host)) = authority.rsplit_once('@') {
            out.push_str(REMOVED);
            out.push('@');
            out.push_str(host);
        } else {
            out.push_str(authority);
        }
        rest = &after[authority.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (given, kept) in [
            (
                "push to http://ann:c4n4ry@gate:9091/metrics failed",
                "push to http://***@gate:9091/metrics failed",
            ),
            (
                "a http://h/x b https://u@h2?q=1",
                "a http://h/x b https://***@h2?q=1",
            ),
            ("DB_PASSWORD=c4n4ry next", "DB_PASSWORD=*** next"),
            (
                r#"{"api-key":"c4n4ry","n":1}"#,
                r#"{"api-key":"***","n":1}"#,
            ),
            ("secrets: [c4n4ry, other]", "secrets: [***]"),
            ("authorization: Bearer c4n4ry, x", "authorization: ***, x"),
            ("with Bearer c4n4ry today", "with Bearer *** today"),
            ("GET /v2?token=c4n4ry&n=1", "GET /v2?token=***&n=1"),
            (
                "webhook_secrets_file=/etc/muster/hooks.yaml",
                "webhook_secrets_file=/etc/muster/hooks.yaml",
            ),
            (
                "token bucket of team etl, attempt.number=3",
                "token bucket of team etl, attempt.number=3",
            ),
            ("muster::password::check ok", "muster::password::check ok"),
            ("", ""),
            ("password=", "password="),
            ("passwort ä=ö, Straße", "passwort ä=ö, Straße"),
        ] {
            assert_eq!(redact(given), kept, "{given}");
        }
        assert_eq!(redact("a_token=x\nb"), "a_token=***\nb");
    }

    #[test]
    fn any_text_is_taken() {
        for given in [
            "://",
            "://@",
            "password",
            "token=",
            "bearer ",
            "secret:\u{e9}",
            "a://b@c@d",
        ] {
            let _ = redact(given);
        }
    }
}
