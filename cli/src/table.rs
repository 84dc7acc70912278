//! Tables as pg_autoctl prints them: right-aligned columns, ` | ` between, `-+-` below the header.

/// How a column is laid out.
#[derive(Clone, Copy)]
pub struct Column {
    title: &'static str,
    min: usize,
    /// The dashes of the last column's separator, where it is not as wide as the column.
    dashes: Option<usize>,
    left: bool,
    ragged: bool,
}

impl Column {
    /// Right-aligned, as wide as its widest value but at least `min`.
    pub const fn right(title: &'static str, min: usize) -> Column {
        Column { title, min, dashes: None, left: false, ragged: false }
    }

    /// Left-aligned and padded.
    pub const fn left(title: &'static str) -> Column {
        Column { title, min: 0, dashes: None, left: true, ragged: false }
    }

    /// Free text at the end of the line: not padded, under `dashes` dashes.
    pub const fn text(title: &'static str, dashes: usize) -> Column {
        Column { title, min: 0, dashes: Some(dashes), left: true, ragged: true }
    }
}

/// A table with its widths settled; rows may come later, as in `perform`.
pub struct Layout {
    columns: Vec<Column>,
    widths: Vec<usize>,
}

impl Layout {
    pub fn new(columns: &[Column], rows: &[Vec<String>]) -> Layout {
        let width = |at: usize, column: &Column| {
            let values = rows.iter().filter_map(|row| row.get(at)).map(|value| value.chars().count());
            values.max().unwrap_or(0).max(column.min).max(column.title.chars().count())
        };
        let widths = columns.iter().enumerate().map(|(at, column)| width(at, column)).collect();
        Layout { columns: columns.to_vec(), widths }
    }

    pub fn header(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_string()).collect();
        let dashes: Vec<String> = self
            .columns
            .iter()
            .zip(&self.widths)
            .enumerate()
            .map(|(at, (column, width))| {
                // The first and the last column lack the space that separates the others.
                let edges = usize::from(at > 0) + usize::from(at + 1 < self.columns.len());
                "-".repeat(column.dashes.unwrap_or(*width) + edges)
            })
            .collect();
        format!("{}\n{}", self.row(&titles), dashes.join("+"))
    }

    pub fn row(&self, values: &[String]) -> String {
        let cells: Vec<String> = self
            .columns
            .iter()
            .zip(&self.widths)
            .zip(values)
            .map(|((column, width), value)| match (column.ragged, column.left) {
                (true, _) => value.clone(),
                (false, true) => format!("{value:<width$}"),
                (false, false) => format!("{value:>width$}"),
            })
            .collect();
        cells.join(" | ")
    }
}

/// A whole table, with the empty line that ends it.
pub fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    let layout = Layout::new(columns, rows);
    let mut text = layout.header();
    for row in rows {
        text.push('\n');
        text.push_str(&layout.row(row));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_pg_autoctl() {
        let columns = [
            Column::right("Name", 0),
            Column::right("Node", 5),
            Column::right("TLI: LSN", 0),
            Column::right("Connection", 12),
        ];
        let row = ["node1", "1", "  1: 0/5000060", "read-write"].map(String::from).to_vec();
        assert_eq!(
            render(&columns, &[row]),
            " Name |  Node |       TLI: LSN |   Connection\n\
             ------+-------+----------------+-------------\n\
             node1 |     1 |   1: 0/5000060 |   read-write\n"
        );
    }

    #[test]
    fn free_text_is_not_padded() {
        let columns = [Column::right("Node", 6), Column::text("Comment", 10)];
        let rows = vec![vec!["0/1".to_string(), "x".to_string()]];
        assert_eq!(render(&columns, &rows), "  Node | Comment\n-------+-----------\n   0/1 | x\n");
    }

    #[test]
    fn values_may_be_left_aligned() {
        let columns = [Column::right("Name", 0), Column::left("Value")];
        let rows = vec![vec!["default".to_string(), "1".to_string()]];
        assert_eq!(render(&columns, &rows), "   Name | Value\n--------+------\ndefault | 1    \n");
    }
}
