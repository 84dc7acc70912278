//! Tables that give up columns where the screen is narrow.

/// Between two columns.
const GAP: usize = 2;

/// A column with its cells; those with the highest `expendable` go first, 0 stays.
pub struct Column {
    title: &'static str,
    expendable: u8,
    right: bool,
    cells: Vec<String>,
}

impl Column {
    pub fn left(title: &'static str, expendable: u8, cells: Vec<String>) -> Column {
        Column { title, expendable, right: false, cells }
    }

    pub fn right(title: &'static str, expendable: u8, cells: Vec<String>) -> Column {
        Column { title, expendable, right: true, cells }
    }

    fn width(&self) -> usize {
        let widest = self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(self.title.chars().count())
    }
}

/// The header and the rows, in as many of the columns as fit into `width`.
pub fn fit(mut columns: Vec<Column>, width: usize) -> (String, Vec<String>) {
    loop {
        let needed: usize = columns.iter().map(|column| column.width() + GAP).sum::<usize>().saturating_sub(GAP);
        let worst = columns.iter().map(|column| column.expendable).max().unwrap_or(0);
        if needed <= width || worst == 0 {
            break;
        }
        columns.retain(|column| column.expendable != worst);
    }
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                let (text, width) = (cell(column), column.width());
                if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") }
            })
            .collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_string()
    };
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let header = line(&|column| column.title.to_string());
    (header, (0..rows).map(|at| line(&|column| column.cells.get(at).cloned().unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::left("Name", 0, vec!["node1".into(), "n".into()]),
            Column::right("Port", 2, vec!["1".into(), "22222".into()]),
            Column::left("State", 1, vec!["primary".into(), "secondary".into()]),
        ]
    }

    #[test]
    fn the_most_expendable_go_first() {
        let (header, rows) = fit(columns(), 40);
        assert_eq!(header, "Name    Port  State");
        assert_eq!(rows, ["node1      1  primary", "n      22222  secondary"]);
        assert_eq!(fit(columns(), 20).0, "Name   State");
        assert_eq!(fit(columns(), 5).0, "Name");
        assert_eq!(fit(columns(), 1).1, ["node1", "n"]);
    }
}
