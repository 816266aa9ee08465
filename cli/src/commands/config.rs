//! `muster config show`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Format;
use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::render::json;
use crate::render::table::Table;

#[derive(Debug, Serialize)]
struct SettingJson {
    value: String,
    origin: String,
}

pub(crate) fn show(
    settings: &Settings,
    origin: bool,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let rows = settings.rows();
    if matches!(console.format, Format::Json | Format::Jsonl) {
        let settings: BTreeMap<&str, SettingJson> = rows
            .into_iter()
            .map(|(name, value, origin)| {
                let origin = origin.to_string();
                (name, SettingJson { value, origin })
            })
            .collect();
        console.data(&json::text(&settings))?;
        return Ok(Exit::DONE);
    }
    let (all, short) = (["SETTING", "VALUE", "ORIGIN"], ["SETTING", "VALUE"]);
    let mut table = Table::new(if origin { &all } else { &short });
    for (name, value, from) in rows {
        let mut cells = vec![name.to_owned(), value];
        if origin {
            cells.push(from.to_string());
        }
        table.row(cells);
    }
    let text = table.text(console.headers, console.color, console.out_is_terminal);
    console.data(&text)?;
    Ok(Exit::DONE)
}
