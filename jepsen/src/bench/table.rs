//! A Markdown table.

/// Rows of text under a head.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        let head: Vec<String> = head.iter().map(|s| (*s).to_owned()).collect();
        let line = vec!["---".to_owned(); head.len()];
        Self { rows: vec![head, line] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn text(&self, title: &str) -> String {
        let rows = self.rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
        format!("\n### {title}\n\n{}", rows.collect::<String>())
    }

    pub fn print(&self, title: &str) {
        print!("{}", self.text(title));
    }
}
