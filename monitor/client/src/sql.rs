//! SQL literals.
//!
//! Statements go out by the simple protocol with their values as literals: results come as text, so
//! that no type has to be looked up in a catalogue first (the states are an enum whose OID differs
//! from monitor to monitor), and one statement is one round trip.

/// A string literal that is safe whatever `standard_conforming_strings` is set to. NUL cannot be
/// part of any text in PostgreSQL and is dropped.
pub fn literal(text: &str) -> String {
    let escaped = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 4);
    if escaped {
        out.push('E');
    }
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A string literal, or NULL.
pub fn quoted_or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_string(), literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal("default"), "'default'");
        assert_eq!(literal("o'x"), "'o''x'");
        assert_eq!(literal("a\\'; drop"), "E'a\\\\''; drop'");
        assert_eq!(literal("a\0b"), "'ab'");
        assert_eq!(quoted_or_null(None), "NULL");
    }
}
