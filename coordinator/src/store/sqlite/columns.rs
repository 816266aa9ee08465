//! Reads the columns of a row one after the other, in the order of the statement.

use std::str::FromStr;

use muster_core::outcome::{End, EndReason};
use muster_core::time::{Millis, Timestamp};
use rusqlite::Row;
use rusqlite::types::FromSql;
use uuid::Uuid;

use crate::store::{ReadError, rows};

pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T, ReadError> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, ReadError> {
        rows::unsigned(what, self.take()?)
    }

    pub(super) fn maybe_number(&mut self, what: &'static str) -> Result<Option<u64>, ReadError> {
        let value: Option<i64> = self.take()?;
        value.map(|value| rows::unsigned(what, value)).transpose()
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, ReadError> {
        self.number("a time").map(Timestamp)
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.maybe_number("a time")?.map(Timestamp))
    }

    pub(super) fn maybe_span(&mut self) -> Result<Option<Millis>, ReadError> {
        Ok(self.maybe_number("a span")?.map(Millis))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, ReadError> {
        self.take()
    }

    /// A text that is read by `read`, without a copy of it.
    pub(super) fn text<T>(
        &mut self,
        read: impl FnOnce(&str) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let text = self.row.get_ref(self.next)?;
        self.next += 1;
        read(
            text.as_str()
                .map_err(|_| rows::corrupt("a text", &"another type"))?,
        )
    }

    pub(super) fn parsed<T: FromStr>(&mut self, what: &'static str) -> Result<T, ReadError> {
        self.text(|text| rows::parsed(what, text))
    }

    /// A name, or anything else with a fallible reader of its own.
    pub(super) fn named<T, E>(
        &mut self,
        what: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, ReadError> {
        self.text(|text| parse(text).map_err(|_| rows::corrupt(what, &text)))
    }

    /// Four columns: outcome, exit code, reason, message; all NULL for no end.
    pub(super) fn maybe_end(&mut self) -> Result<Option<End>, ReadError> {
        let outcome: Option<String> = self.take()?;
        let exit_code: Option<i32> = self.take()?;
        let reason: Option<String> = self.take()?;
        let message: Option<String> = self.take()?;
        let Some(outcome) = outcome else {
            return Ok(None);
        };
        let reason = reason.ok_or_else(|| rows::corrupt("a reason", &"nothing"))?;
        Ok(Some(End {
            outcome: rows::outcome(&outcome)?,
            exit_code,
            reason: EndReason::from_word(&reason),
            message: message.unwrap_or_default(),
        }))
    }
}
