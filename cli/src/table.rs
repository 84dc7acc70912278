//! Tables as pg_autoctl prints them: right-aligned columns, ` | ` between, `-+-` below the header. On a
//! terminal that is narrower than the table, as much of it as fits without a line being wrapped.

use crate::program;

/// Between two columns.
const GAP: usize = 3;

/// Free text with less room than this beside the other columns goes below its row.
const LEAST_ROOM: usize = 24;

/// Before free text that stands below its row.
const INDENT: usize = 4;

/// How a column is laid out.
#[derive(Clone, Copy)]
pub struct Column {
    title: &'static str,
    min: usize,
    /// The dashes of the last column's separator, where it is not as wide as the column.
    dashes: Option<usize>,
    left: bool,
    ragged: bool,
    /// On a narrow terminal the highest goes first; 0 stays.
    expendable: u8,
}

impl Column {
    /// Right-aligned, as wide as its widest value but at least `min`.
    pub const fn right(title: &'static str, min: usize) -> Column {
        Column { title, min, dashes: None, left: false, ragged: false, expendable: 0 }
    }

    /// Left-aligned and padded.
    pub const fn left(title: &'static str) -> Column {
        Column { title, min: 0, dashes: None, left: true, ragged: false, expendable: 0 }
    }

    /// Free text at the end of the line: not padded, under `dashes` dashes.
    pub const fn text(title: &'static str, dashes: usize) -> Column {
        Column { title, min: 0, dashes: Some(dashes), left: true, ragged: true, expendable: 0 }
    }

    /// Given up where the terminal is narrow, before those with a lower number.
    pub const fn expendable(mut self, order: u8) -> Column {
        self.expendable = order;
        self
    }

    fn width(&self, at: usize, rows: &[Vec<String>], least: bool) -> usize {
        let values = rows.iter().filter_map(|row| row.get(at)).map(|value| value.chars().count());
        let min = if least { 0 } else { self.min };
        values.max().unwrap_or(0).max(min).max(self.title.chars().count())
    }
}

/// A table with its widths settled; rows may come later, as in `perform`.
pub struct Layout {
    /// Those that are shown, each with its place in a row and its width.
    columns: Vec<(Column, usize, usize)>,
    /// The last column is text of several lines at most this wide, below its row if it is told to.
    wrapped: Option<Wrapped>,
}

struct Wrapped {
    /// Its place in a row.
    at: usize,
    width: usize,
    below: bool,
}

impl Layout {
    /// For whoever reads stdout.
    pub fn new(columns: &[Column], rows: &[Vec<String>]) -> Layout {
        Layout::within(columns, rows, program::stdout_width())
    }

    /// For a terminal of that many columns; `None`: a file or another program, which get everything.
    fn within(columns: &[Column], rows: &[Vec<String>], terminal: Option<usize>) -> Layout {
        let widths = |least: bool| {
            let settled = columns.iter().enumerate().map(|(at, column)| (*column, at, column.width(at, rows, least)));
            settled.collect::<Vec<_>>()
        };
        let natural = widths(false);
        let terminal = match terminal {
            Some(terminal) if total(&natural) > terminal => terminal,
            _ => return Layout { columns: natural, wrapped: None },
        };
        let mut shown = widths(true);
        while total(&without_text(&shown)) > terminal {
            let worst = shown.iter().map(|(column, ..)| column.expendable).max().unwrap_or(0);
            if worst == 0 {
                break;
            }
            shown.retain(|(column, ..)| column.expendable != worst);
        }
        let fits = total(&shown) <= terminal;
        let wrapped = match shown.last().copied() {
            Some((column, at, _)) if column.left && !fits => {
                shown.pop();
                let room = terminal.saturating_sub(total(&shown) + GAP);
                match room >= LEAST_ROOM {
                    true => Some(Wrapped { at, width: room, below: false }),
                    false => Some(Wrapped { at, width: terminal.saturating_sub(INDENT).max(LEAST_ROOM), below: true }),
                }
            }
            _ => None,
        };
        if let Some(Wrapped { at, width, below: false }) = wrapped {
            shown.push((columns[at], at, width));
        }
        Layout { columns: shown, wrapped }
    }

    pub fn header(&self) -> String {
        let last = self.columns.len().saturating_sub(1);
        let titles: Vec<String> = self.columns.iter().map(|(column, _, width)| cell(column, column.title, *width)).collect();
        let dashes = self.columns.iter().enumerate().map(|(place, (column, _, width))| {
            // The first and the last column lack the space that separates the others.
            let edges = usize::from(place > 0) + usize::from(place < last);
            let dashes = column.dashes.unwrap_or(*width);
            let shown = if self.wrapped.is_some() { dashes.min(*width) } else { dashes };
            "-".repeat(shown + edges)
        });
        let dashes: Vec<String> = dashes.collect();
        format!("{}\n{}", titles.join(" | "), dashes.join("+"))
    }

    pub fn row(&self, values: &[String]) -> String {
        let value = |at: usize| values.get(at).map_or("", String::as_str);
        let text = self.wrapped.as_ref().map(|wrapped| (wrapped, broken(value(wrapped.at), wrapped.width)));
        let cells: Vec<String> = self
            .columns
            .iter()
            .map(|(column, at, width)| match &text {
                Some((wrapped, lines)) if wrapped.at == *at => lines.first().cloned().unwrap_or_default(),
                _ => cell(column, value(*at), *width),
            })
            .collect();
        let mut row = cells.join(" | ");
        if let Some((wrapped, lines)) = text {
            let indent = if wrapped.below { INDENT } else { total(&without_text(&self.columns)) + GAP };
            for line in lines.iter().skip(usize::from(!wrapped.below)) {
                row.push_str(&format!("\n{}{line}", " ".repeat(indent)));
            }
        }
        row
    }
}

/// As wide as a line of them.
fn total(columns: &[(Column, usize, usize)]) -> usize {
    columns.iter().map(|(_, _, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Without free text at the end, which may be wrapped instead.
fn without_text(columns: &[(Column, usize, usize)]) -> Vec<(Column, usize, usize)> {
    columns.iter().filter(|(column, ..)| !column.left).copied().collect()
}

fn cell(column: &Column, value: &str, width: usize) -> String {
    match (column.ragged, column.left) {
        (true, _) => value.to_string(),
        (false, true) => format!("{value:<width$}"),
        (false, false) => format!("{value:>width$}"),
    }
}

/// The text in lines of so many characters. Words stay whole: a path or an address is to be copied.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

/// A whole table, with the empty line that ends it.
pub fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    whole(&Layout::new(columns, rows), rows)
}

fn whole(layout: &Layout, rows: &[Vec<String>]) -> String {
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

    fn on(terminal: usize, columns: &[Column], rows: &[Vec<String>]) -> String {
        whole(&Layout::within(columns, rows, Some(terminal)), rows)
    }

    #[track_caller]
    fn nothing_wraps(text: &str, terminal: usize) {
        for line in text.lines() {
            assert!(line.chars().count() <= terminal, "{line:?} is {} wide", line.chars().count());
        }
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        let columns = [
            Column::right("Name", 10),
            Column::right("Host:Port", 0).expendable(3),
            Column::right("LSN", 0).expendable(1),
            Column::right("State", 19),
        ];
        let rows = [["n", "127.0.0.1:5432", "0/5000060", "primary"].map(String::from).to_vec()];
        let all = on(61, &columns, &rows);
        assert_eq!(all, whole(&Layout::within(&columns, &rows, None), &rows));
        assert_eq!(on(60, &columns, &rows).lines().nth(2), Some("   n | 127.0.0.1:5432 | 0/5000060 | primary"));
        assert_eq!(on(40, &columns, &rows).lines().nth(2), Some("   n | 0/5000060 | primary"));
        assert_eq!(on(15, &columns, &rows).lines().nth(2), Some("   n | primary"));
        for terminal in [60, 40, 26, 15] {
            nothing_wraps(&on(terminal, &columns, &rows), terminal);
        }
    }

    #[test]
    fn text_that_does_not_fit_goes_on_below() {
        let columns = [Column::right("Event Time", 30), Column::right("Node", 6), Column::text("Comment", 10)];
        let words = "New state is reported by node 2 (127.0.0.1:5432): secondary";
        let rows = [["03:04:05", "0/2", words].map(String::from).to_vec()];
        assert_eq!(
            on(46, &columns, &rows),
            "Event Time | Node | Comment\n\
             -----------+------+-----------\n\
             \x20 03:04:05 |  0/2 | New state is reported by\n\
             \x20                   node 2 (127.0.0.1:5432):\n\
             \x20                   secondary\n"
        );
        assert_eq!(
            on(40, &columns, &rows),
            "Event Time | Node\n-----------+-----\n  03:04:05 |  0/2\n    New state is reported by node 2\n    \
             (127.0.0.1:5432): secondary\n"
        );
        for terminal in [70, 46, 40, 30] {
            nothing_wraps(&on(terminal, &columns, &rows), terminal);
        }
    }
}
