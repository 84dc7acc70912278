//! Outputs compared in shape: the same words in the same places, whatever the values are.

use serde_json::Value;

use crate::{Result, ensure};

/// The shape of JSON: keys in their order, arrays by the shape of their elements, types of values.
pub fn of_json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(items) => {
            let mut shapes: Vec<String> = items.iter().map(of_json).collect();
            shapes.dedup();
            format!("[{}]", shapes.join(","))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", of_json(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// The shape of a text: every line with its runs of digits and of blanks made one, so that column
/// widths, ports, LSNs and times do not matter. Lines that then are equal count once.
pub fn of_text(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(of_line).collect();
    lines.dedup();
    lines
}

fn of_line(line: &str) -> String {
    let mut shape = String::new();
    for c in line.trim_end().chars() {
        let c = match c {
            '0'..='9' | 'A'..='F' => '9',
            c => c,
        };
        if !(matches!(c, '9' | ' ' | '-') && shape.ends_with(c)) {
            shape.push(c);
        }
    }
    shape
}

/// Fails unless both JSON texts have one shape, and one layout: blanks and the order of the keys.
pub fn same_json(what: &str, ours: &str, stock: &str) -> Result<()> {
    let (a, b): (Value, Value) = (serde_json::from_str(ours)?, serde_json::from_str(stock)?);
    ensure!(of_json(&a) == of_json(&b), "{what}: the shape is\n{}\ninstead of\n{}", of_json(&a), of_json(&b));
    let (a, b) = (keys(ours), keys(stock));
    ensure!(a == b, "{what}: the layout of the keys is\n{}\ninstead of\n{}", a.join("\n"), b.join("\n"));
    Ok(())
}

/// Lines with a key, up to the key's end, each once: shows indentation and order.
fn keys(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some((key, _)) = line.split_once("\":") {
            let key = format!("{key}\":");
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Fails unless both texts have one shape.
pub fn same_text(what: &str, ours: &str, stock: &str) -> Result<()> {
    let (a, b) = (of_text(ours), of_text(stock));
    ensure!(a == b, "{what}: the shape is\n{}\ninstead of\n{}", a.join("\n"), b.join("\n"));
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_matter_and_names_do() {
        same_text(
            "x",
            " n1 |  1: 0/30FF |  6001\n n2 |  1: 0/3 | 602\n",
            " n1 | 1: 0/4 | 1\n n2 | 22: 1/0 | 2\n",
        )
        .unwrap();
        assert!(same_text("x", "Name | Node", "Name | Host").is_err());
        same_json("x", "[{\"a\": 1}]", "[{\"a\": 2}, {\"a\": 3}]").unwrap();
        assert!(same_json("x", "{\"a\": 1, \"b\": null}", "{\"a\": 1}").is_err());
        assert!(same_json("x", "{\n \"a\": 1}", "{\n    \"a\": 1}").is_err());
    }
}
