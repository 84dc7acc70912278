//! A bound on statements before anybody parses them.

use crate::sql::error::SqlError;

/// Operators, and words that act as operators, that one statement may have.
pub const MAX_LINKS: usize = 500;

/// Words that chain expressions or queries to the left.
const WORDS: [&str; 15] = [
    "and", "or", "is", "in", "not", "like", "ilike", "similar", "between", "collate", "at", "union", "except",
    "intersect", "isnull",
];

/// Refuses text that could parse into a tree too deep to walk.
///
/// The parser bounds nesting, but not chains: `1 + 1 + 1...` becomes a tree as deep as the chain is
/// long, and hashing, copying or dropping it recurses on the thread's stack, where an overflow ends
/// the whole process. To be called with every statement's text before it is parsed.
///
/// # Errors
/// 54001 where the text has more than [`MAX_LINKS`] links. Lists may be as long as they like.
pub fn check_text(sql: &str) -> Result<(), SqlError> {
    let mut links = 0usize;
    let mut quote: Option<char> = None;
    let mut word = String::new();
    let mut in_operator = false;
    for c in sql.chars().chain([' ']) {
        if let Some(end) = quote {
            if c == end {
                quote = None;
            }
            continue;
        }
        if c.is_alphanumeric() || c == '_' {
            // Longer words are none of ours.
            if word.len() < 12 {
                word.extend(c.to_lowercase());
            }
            in_operator = false;
            continue;
        }
        if WORDS.contains(&word.as_str()) {
            links += 1;
        }
        word.clear();
        let operator = "+-*/%|&<>=~:^#!@?".contains(c);
        if operator && !in_operator {
            links += 1;
        }
        in_operator = operator;
        if matches!(c, '\'' | '"') {
            quote = Some(c);
        }
        if links > MAX_LINKS {
            return Err(SqlError::new("54001", "statement too complex")
                .detail(format!("A statement may have {MAX_LINKS} operators.")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_chains_are_refused_and_long_texts_are_not() {
        assert!(check_text(&"1+".repeat(MAX_LINKS + 1)).is_err());
        assert!(check_text(&format!("select 1{}", "::int".repeat(MAX_LINKS + 1))).is_err());
        assert!(check_text(&"a is null ".repeat(MAX_LINKS + 1)).is_err());
        assert!(check_text(&"select 1 UNION ".repeat(MAX_LINKS + 1)).is_err());
        assert!(check_text(&format!("select '{}'", "a + b, ".repeat(100_000))).is_ok());
        assert!(check_text(&format!("select x in ({}1)", "1, ".repeat(100_000))).is_ok());
        assert!(check_text("select $1, \"odd name\" from t where a >= 1").is_ok());
    }
}
