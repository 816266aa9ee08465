//! Control characters made visible. Output of tasks and names are not ours: printed as they are they
//! could move a terminal's cursor, change its title or write into its clipboard.

/// Replaces control characters of a text that is whole.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut cleaned, c));
    cleaned
}

/// Replaces control characters in a stream of bytes, whose pieces may end inside a character.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    /// The beginning of a character whose rest is still to come; at most three bytes.
    carry: Vec<u8>,
}

impl Cleaner {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let mut input = std::mem::take(&mut self.carry);
        input.extend_from_slice(bytes);
        let mut cleaned = String::with_capacity(input.len());
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| push(&mut cleaned, c));
            let invalid = chunk.invalid();
            let unfinished =
                std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if unfinished && chunks.peek().is_none() {
                self.carry = invalid.to_vec();
            } else if !invalid.is_empty() {
                cleaned.push(char::REPLACEMENT_CHARACTER);
            }
        }
        cleaned
    }
}

fn push(cleaned: &mut String, c: char) {
    match c {
        '\n' | '\t' | '\r' => cleaned.push(c),
        // As `cat -v` writes them: ESC is ^[.
        '\0'..='\x1f' => {
            cleaned.push('^');
            let letter = u8::try_from(c).expect("a control character is one byte") + b'@';
            cleaned.push(char::from(letter));
        }
        '\x7f' => cleaned.push_str("^?"),
        // The second set of controls, some of which begin sequences as ESC does, and the marks that
        // turn the direction of text around.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            cleaned.extend(c.escape_unicode());
        }
        _ => cleaned.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_become_visible() {
        assert_eq!(clean("a\x1b[2Jb"), "a^[[2Jb");
        assert_eq!(clean("\x1b]52;c;aGk=\x07"), "^[]52;c;aGk=^G");
        assert_eq!(clean("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(clean("tab\tline\nover\r\x7f"), "tab\tline\nover\r^?");
        assert_eq!(clean("\u{202e}gnp.exe"), "\\u{202e}gnp.exe");
    }

    #[test]
    fn characters_split_between_pieces_stay_whole() {
        let mut cleaner = Cleaner::default();
        let euro = "€".as_bytes();
        assert_eq!(cleaner.push(&euro[..1]), "");
        assert_eq!(cleaner.push(&euro[1..2]), "");
        assert_eq!(cleaner.push(&[&euro[2..], b"!"].concat()), "€!");
        assert_eq!(cleaner.push(b"a\xffb"), "a\u{fffd}b");
        // A lone C1 byte is not UTF-8, and an 8-bit terminal would obey it.
        assert_eq!(cleaner.push(b"\x9b2J"), "\u{fffd}2J");
    }
}
