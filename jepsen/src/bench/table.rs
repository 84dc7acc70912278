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

    pub fn print(&self, title: &str) {
        println!("\n### {title}\n");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}
