//! Tables for people: a header line, then a line for each row, with no frame around them.

use std::fmt;

use comfy_table::{CellAlignment, presets::NOTHING};

/// A column: its header, and how its cells are aligned.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Text, aligned to the left.
    Text(&'static str),
    /// Numbers, aligned to the right.
    Number(&'static str),
}

impl Column {
    const fn header(self) -> &'static str {
        match self {
            Self::Text(header) | Self::Number(header) => header,
        }
    }
}

/// A table.
pub struct Table(comfy_table::Table);

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(columns.iter().map(|column| column.header()));
        for (index, column) in columns.iter().enumerate() {
            if let Some(styled) = table.column_mut(index) {
                styled.set_padding((0, 2));
                if matches!(column, Column::Number(_)) {
                    styled.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self(table)
    }

    /// Names and values, one pair a line, without those whose value is empty.
    pub fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            table.add_row([name, printable(&value)]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| printable(&cell)));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text in one line, without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
