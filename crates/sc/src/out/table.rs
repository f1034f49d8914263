//! Tables: columns as wide as they need to be, nothing drawn around them.

use super::Paint;

/// One cell: what it says and how it is painted.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    paint: Option<fn(Paint, &str) -> String>,
}

impl Cell {
    /// A painted one.
    pub fn painted(text: impl Into<String>, paint: fn(Paint, &str) -> String) -> Self {
        Self { text: text.into(), paint: Some(paint) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), paint: None }
    }
}

/// A table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// Blanks between columns.
const GAP: usize = 3;

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        let heading = |text: &&str| Cell::painted(*text, Paint::strong);
        Self { rows: vec![headings.iter().map(heading).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().map(single_line).collect());
    }

    /// As text.
    pub fn text(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| self.rows.iter().filter_map(|row| row.get(i)).map(width).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (i, cell) in row.iter().enumerate().take(last + 1) {
                text += &cell.paint.map_or(cell.text.clone(), |how| how(paint, &cell.text));
                if i < last {
                    text += &" ".repeat(widths[i] - self::width(cell) + GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

fn width(cell: &Cell) -> usize {
    cell.text.chars().count()
}

fn single_line(cell: Cell) -> Cell {
    let text = super::printable(&cell.text.replace('\n', " "));
    Cell { text, ..cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        table.row(["web".into(), Cell::painted("ready", Paint::good), "".into()]);
        table.row(["longer-name".into(), "exited".into(), "two\nlines".into()]);
        assert_eq!(
            table.text(Paint::PLAIN),
            "NAME          STATE    WHY\nweb           ready\nlonger-name   exited   two lines\n"
        );
    }
}
