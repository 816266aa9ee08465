//! Takes secrets out of text that people send to each other: logs, settings, dumps.
//!
//! What looks like a secret is replaced, even if it is none: a reader misses little, a leak is for
//! good. It is the last net: nothing that holds a secret should be written down in the first place.

/// What stands where a secret was.
pub const REMOVED: &str = "***";

/// Parts of names whose values are secrets.
const SECRET: [&str; 15] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "authorization",
    "credential",
    "signature",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "encryption_key",
    "signing_key",
    "init_key",
];
/// Last words of such names that mean something else inside others: `author`, `passthrough`.
const SECRET_WORDS: [&str; 4] = ["auth", "pass", "pat", "pwd"];
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
    let last = name.rsplit('_').next().unwrap_or_default();
    let is_secret = SECRET_WORDS.contains(&last) || SECRET.iter().any(|part| name.contains(part));
    is_secret && !PLACES.iter().any(|end| name.ends_with(end))
}

fn redact_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let line = without_userinfo(line);
    let mut rest = line.as_str();
    while let Some((before, name, after)) = next_word(rest) {
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
        rest = match value {
            Some((skipped, length)) if length > 0 => {
                out.push_str(&after[..skipped]);
                out.push_str(REMOVED);
                &after[skipped + length..]
            }
            Some(_) | None => after,
        };
    }
    out.push_str(rest);
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
    let after = text.trim_start_matches(['"', '\'', '\\']);
    let spaced = after.trim_start_matches(' ');
    let assigned = spaced.strip_prefix(['=', ':'])?;
    // `password::check` is a path.
    if assigned.starts_with(':') {
        return None;
    }
    let value = assigned.trim_start_matches(' ');
    let skipped = text.len() - value.len();
    if let Some((opening, length)) = bracketed(value).or_else(|| quoted(value)) {
        return Some((skipped + opening, length));
    }
    let scheme = SCHEMES.iter().find(|scheme| {
        let head = value.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
            && value[scheme.len()..].starts_with(' ')
    });
    let length = match scheme {
        Some(scheme) => scheme.len() + 1 + token_len(&value[scheme.len() + 1..]),
        None => token_len(value),
    };
    Some((skipped, length))
}

/// How long the opening of a list or a map is, and what is in it. One that is not closed goes to the end.
fn bracketed(text: &str) -> Option<(usize, usize)> {
    let (open, close) = match text.chars().next()? {
        '[' => ('[', ']'),
        '{' => ('{', '}'),
        _ => return None,
    };
    let mut depth = 0_usize;
    let end = text.char_indices().find(|(_, c)| {
        if *c == open {
            depth += 1;
        } else if *c == close {
            depth -= 1;
        }
        depth == 0
    });
    Some((1, end.map_or(text.len(), |(at, _)| at) - 1))
}

/// The same for a quoted text. The quote that closes it has as many backslashes before it as the one
/// that opens it; one that is not closed goes to the end.
fn quoted(text: &str) -> Option<(usize, usize)> {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    let quote = text[slashes..].chars().next();
    let quote = quote.filter(|c| matches!(c, '"' | '\''))?;
    let inner = &text[slashes + 1..];
    let closes = |at: &usize| {
        let before = &inner[..*at];
        before.len() - before.trim_end_matches('\\').len() == slashes
    };
    let mut quotes = inner.match_indices(quote).map(|(at, _)| at);
    let end = quotes.find(closes).map(|at| at - slashes);
    Some((slashes + 1, end.unwrap_or(inner.len())))
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
            (r#"{"password":"c4\"n4ry"}"#, r#"{"password":"***"}"#),
            (
                r#"{"password":"c4'n4ry","n":1}"#,
                r#"{"password":"***","n":1}"#,
            ),
            (
                r#"body="{\"password\":\"c4n4ry\",\"n\":1}""#,
                r#"body="{\"password\":\"***\",\"n\":1}""#,
            ),
            (
                r#"{"token":{"a":"c4n4ry"},"n":1}"#,
                r#"{"token":{***},"n":1}"#,
            ),
            (r#"{"auth":"YW5uOmM0bjRyeQ=="}"#, r#"{"auth":"***"}"#),
            (
                "DB_PASS=c4n4ry AWS_ACCESS_KEY_ID=c4n4ry",
                "DB_PASS=*** AWS_ACCESS_KEY_ID=***",
            ),
            (
                "PGPASSFILE=/x passthrough=1 author=ann",
                "PGPASSFILE=/x passthrough=1 author=ann",
            ),
            (
                "https://s3/x?X-Amz-Signature=c4n4ry&n=1",
                "https://s3/x?X-Amz-Signature=***&n=1",
            ),
            ("idempotency_key=load-2026", "idempotency_key=load-2026"),
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
            "token={",
            "token={]",
            "token=\"",
            "token=\\\\",
            "token=\\\"\u{e9}\\\\\"",
            "a://b@c@d",
        ] {
            let _ = redact(given);
        }
    }

    #[test]
    fn a_long_line_is_read_once() {
        // Megabytes in one line are what a dump looks like; this would take hours if each word cost the rest.
        let long = "a=1 password=c4n4ry ".repeat(100_000);
        assert_eq!(redact(&long), "a=1 password=*** ".repeat(100_000));
    }
}
