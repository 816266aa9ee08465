//! One line of a script, taken apart: a verb, words, and `key=value` options.

use std::collections::BTreeMap;

pub(crate) struct Command<'a> {
    pub(crate) verb: &'a str,
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Command<'a> {
    pub(crate) fn parse(line: &'a str) -> Self {
        let mut parts = line.split_whitespace();
        let verb = parts.next().expect("the line is not empty");
        let mut words = Vec::new();
        let mut options = BTreeMap::new();
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => {
                    options.insert(key, value);
                }
                None => words.push(part),
            }
        }
        Self {
            verb,
            words,
            options,
        }
    }

    /// The word in that place; a script that lacks it is wrong.
    pub(crate) fn word(&self, place: usize) -> &'a str {
        match self.words.get(place) {
            Some(word) => word,
            None => panic!("{} needs {} words", self.verb, place + 1),
        }
    }

    pub(crate) fn maybe_word(&self, place: usize) -> Option<&'a str> {
        self.words.get(place).copied()
    }

    pub(crate) fn option(&self, key: &str) -> Option<&'a str> {
        self.options.get(key).copied()
    }

    pub(crate) fn number(&self, key: &str, default: u32) -> u32 {
        let text = self.option(key);
        text.map_or(default, |text| text.parse().expect("a number"))
    }
}

/// `90s`, `5m` or `2h`, in milliseconds.
pub(crate) fn span(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number and a unit");
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("{other} is no unit of time"),
    };
    number * seconds * 1000
}

/// `nightly.0-9,12` or `nightly.3#2`: a job, its indexes, and an attempt if one is named.
pub(crate) fn target(text: &str) -> (&str, Option<&str>, Option<u32>) {
    let (rest, attempt) = match text.split_once('#') {
        Some((rest, number)) => (rest, Some(number.parse().expect("an attempt's number"))),
        None => (text, None),
    };
    match rest.split_once('.') {
        Some((job, indexes)) => (job, Some(indexes), attempt),
        None => (rest, None, attempt),
    }
}
