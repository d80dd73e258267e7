//! Tables for people: plain columns that `cut` and `awk` can read too.

use comfy_table::{Table, presets};

use crate::error::CliError;
use crate::output;

/// Prints a table to stdout.
pub(crate) fn print(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    for row in text.lines() {
        output::line(row.trim_end())?;
    }
    Ok(())
}

/// Ids with commas between them.
pub(crate) fn list<T: ToString>(ids: impl IntoIterator<Item = T>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

/// A value, or a dash.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}
