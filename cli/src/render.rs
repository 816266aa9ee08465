//! Results in the form that was asked for.

pub(crate) mod json;
pub(crate) mod span;
pub(crate) mod table;
pub(crate) mod words;

use serde::Serialize;

use crate::args::Format;
use crate::console::Console;
use crate::exit::Failure;
use table::Table;

/// One kind of thing of the wire, as the formats show it.
pub(crate) struct View<P> {
    /// The field of the page that holds the things.
    pub(crate) name: &'static str,
    /// What `-q` and `-o name` print.
    pub(crate) id: fn(&P) -> String,
    /// The second argument: wide.
    pub(crate) table: fn(&[P], bool) -> Table,
}

/// Writes a list: `{"<name>": [...], "next_page_token": "..."}`, one object a line, ids, or a table.
pub(crate) fn list<P, J: From<P> + Serialize>(
    console: &mut Console,
    view: &View<P>,
    things: Vec<P>,
    next_page_token: &str,
) -> Result<(), Failure> {
    list_as::<_, J>(
        console,
        (view.name, view.id),
        things,
        next_page_token,
        |console, things| {
            let wide = console.format == Format::Wide;
            let table = (view.table)(things, wide);
            table.text(console.headers, console.color, console.out_is_terminal)
        },
    )?;
    if console.is_for_people() && !next_page_token.is_empty() {
        let more = format!("there is more: --page-token {next_page_token}, or a larger --limit");
        console.note(&more);
    }
    Ok(())
}

/// The same with a text of its own for people; `(name, id)` are those of a [`View`].
pub(crate) fn list_as<P, J: From<P> + Serialize>(
    console: &mut Console,
    (name, id): (&'static str, fn(&P) -> String),
    things: Vec<P>,
    next_page_token: &str,
    text: impl FnOnce(&Console, &[P]) -> String,
) -> Result<(), Failure> {
    if console.quiet || console.format == Format::Name {
        let ids: String = things.iter().map(|thing| id(thing) + "\n").collect();
        let ids = console.fit(&ids);
        return console.data(&ids);
    }
    match console.format {
        Format::Table | Format::Wide | Format::Name => {
            let text = text(console, &things);
            console.data(&text)
        }
        Format::Json | Format::Jsonl | Format::Yaml => {
            let things: Vec<J> = things.into_iter().map(J::from).collect();
            let page = json::Page {
                name,
                things: &things,
                next_page_token,
            };
            let text = match console.format {
                Format::Jsonl => things
                    .iter()
                    .map(|thing| json::text(thing) + "\n")
                    .collect(),
                Format::Yaml => yaml(&page),
                _ => json::text(&page),
            };
            console.data(&text)
        }
    }
}

/// Writes one thing: an object, its id, or the text for people.
pub(crate) fn one<T: Serialize>(
    console: &mut Console,
    thing: &T,
    id: &str,
    text: impl FnOnce(&Console) -> String,
) -> Result<(), Failure> {
    if console.quiet || console.format == Format::Name {
        let id = console.fit(id);
        return console.data(&id);
    }
    match console.format {
        Format::Json | Format::Jsonl => console.data(&json::text(thing)),
        Format::Yaml => console.data(&yaml(thing)),
        Format::Table | Format::Wide | Format::Name => {
            let text = text(console);
            console.data(&text)
        }
    }
}

pub(crate) fn yaml<T: Serialize>(thing: &T) -> String {
    serde_saphyr::to_string(thing).expect("our own shapes are always valid YAML")
}
