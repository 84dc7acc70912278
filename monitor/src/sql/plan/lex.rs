//! From the text of a query to its statements, each as tokens.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::sql::error::SqlError;

/// Operators, joins and set operations that a statement may chain. A chain becomes a tree as deep as
/// it is long, and whoever walks the tree recurses.
const CHAIN_LIMIT: usize = 250;
/// How deep brackets may nest. The parser counts expressions and queries itself, but not all else.
const DEPTH_LIMIT: usize = 100;
/// Calls of `position`. The parser tries two readings of each, which doubles its work with every
/// one that is nested.
const POSITION_LIMIT: usize = 8;
/// Tokens of one query string. What comes after the tokens may take time in their square.
const TOKEN_LIMIT: usize = 20_000;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its own text, without the semicolon.
    pub text: String,
    /// Its tokens, blanks and comments left out. Locations are those in the whole query string.
    pub tokens: Vec<TokenWithSpan>,
    /// The semicolon that ended it.
    pub end: Option<TokenWithSpan>,
}

/// Splits a query string at its semicolons; empty statements are left out.
///
/// # Errors
/// 42601 in PostgreSQL's words.
pub fn split(query: &str) -> Result<Vec<Piece>, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, query).tokenize_with_location().map_err(|e| {
        let text = e.message.to_ascii_lowercase();
        let kind = if text.contains("comment") {
            "unterminated /* comment"
        } else if text.contains("dollar") {
            "unterminated dollar-quoted string"
        } else if text.contains("unterminated") && text.contains("string") {
            "unterminated quoted string"
        } else if text.contains("quoted identifier") || text.contains("close delimiter") {
            "unterminated quoted identifier"
        } else {
            "syntax error"
        };
        let offset = offset_of(query, e.location);
        let mut error = SqlError::new("42601", format!("{kind} at or near \"{}\"", excerpt(&query[offset..])));
        error.position = position(query, offset);
        error
    })?;
    if tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).count() > TOKEN_LIMIT {
        return Err(too_complex(TOKEN_LIMIT, "words and signs may make up a query"));
    }
    let mut offsets = Offsets { text: query, at: Location { line: 1, column: 1 }, offset: 0 };
    let mut pieces = Vec::new();
    let mut current: Vec<TokenWithSpan> = Vec::new();
    let mut finish = |tokens: &mut Vec<TokenWithSpan>, end: Option<TokenWithSpan>| {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return };
        let (start, stop) = (offsets.next(first.span.start), offsets.next(last.span.end));
        let text = query.get(start..stop).unwrap_or_default().to_string();
        pieces.push(Piece { text, tokens: std::mem::take(tokens), end });
    };
    for token in tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => finish(&mut current, Some(token)),
            _ => current.push(token),
        }
    }
    finish(&mut current, None);
    pieces.iter().try_for_each(|piece| check(&piece.tokens))?;
    Ok(pieces)
}

/// Refuses what would make too deep a tree.
fn check(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    if tokens.iter().filter(|t| chains(&t.token)).count() > CHAIN_LIMIT {
        return Err(too_complex(CHAIN_LIMIT, "operators may be combined"));
    }
    let positions = tokens.windows(2).filter(|pair| match pair {
        [a, b] => matches!(&a.token, Token::Word(w) if w.keyword == Keyword::POSITION) && b.token == Token::LParen,
        _ => false,
    });
    if positions.count() > POSITION_LIMIT {
        return Err(too_complex(POSITION_LIMIT, "calls of position may stand in a statement"));
    }
    let mut depth = 0_usize;
    for token in tokens {
        match token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return Err(too_complex(DEPTH_LIMIT, "levels of brackets may be nested"));
        }
    }
    Ok(())
}

fn too_complex(limit: usize, what: &str) -> SqlError {
    SqlError::new("54001", "statement too complex").hint(format!("At most {limit} {what}."))
}

fn chains(token: &Token) -> bool {
    match token {
        Token::Word(w) => matches!(
            w.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::MINUS
                | Keyword::JOIN
                | Keyword::APPLY
                | Keyword::PIVOT
                | Keyword::UNPIVOT
                | Keyword::OPERATOR
                | Keyword::NOT
                | Keyword::NOTNULL
                | Keyword::OVERLAPS
                | Keyword::XOR
                | Keyword::DIV
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::GLOB
                | Keyword::MATCH
                | Keyword::MEMBER
        ),
        Token::Number(..)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Placeholder(_)
        | Token::SingleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::UnicodeStringLiteral(_) => false,
        _ => true,
    }
}

/// Byte offsets of locations that never go back: one walk over the text for all of them.
struct Offsets<'a> {
    text: &'a str,
    at: Location,
    offset: usize,
}

impl Offsets<'_> {
    fn next(&mut self, location: Location) -> usize {
        for c in self.text.get(self.offset..).unwrap_or_default().chars() {
            if (self.at.line, self.at.column) >= (location.line, location.column) {
                break;
            }
            self.offset += c.len_utf8();
            if c == '\n' {
                self.at = Location { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        self.offset
    }
}

/// The byte offset of a location; the end of the text for locations beyond it.
pub fn offset_of(text: &str, location: Location) -> usize {
    if location.line == 0 {
        return text.len();
    }
    let mut start = 0;
    for _ in 1..location.line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let column = usize::try_from(location.column).unwrap_or(1).saturating_sub(1);
    text[start..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i)
}

/// The one-based character position of a byte offset.
pub fn position(text: &str, offset: usize) -> Option<u32> {
    text.get(..offset).and_then(|head| u32::try_from(head.chars().count() + 1).ok())
}

/// `syntax error at or near "token"`, with its position; at the end of input for `None`.
pub fn syntax_error(query: &str, at: Option<&TokenWithSpan>) -> SqlError {
    match at {
        Some(token) if token.token != Token::EOF => {
            let (start, end) = (offset_of(query, token.span.start), offset_of(query, token.span.end));
            let text = query.get(start..end).filter(|t| !t.is_empty()).map_or_else(|| token.token.to_string(), str::to_string);
            let mut error = SqlError::new("42601", format!("syntax error at or near \"{text}\""));
            error.position = position(query, start);
            error
        }
        _ => SqlError::new("42601", "syntax error at end of input"),
    }
}

/// Adds the place in `query` of the name or constant that an error is about, as PostgreSQL does: of the
/// first one that is spelt so, in statement `at` or in any.
pub fn locate(mut error: SqlError, query: &str, at: Option<usize>) -> SqlError {
    let constant = error.sqlstate == "22P02";
    if error.position.is_some() || !(constant || matches!(error.sqlstate.as_str(), "42703" | "42P01" | "3F000" | "42883")) {
        return error;
    }
    let mut quoted = error.message.split('"').skip(1).step_by(2);
    let function = error.message.strip_prefix("function ").and_then(|rest| rest.split('(').next());
    let about = if constant { quoted.last() } else { function.or_else(|| quoted.next()) };
    let (Some(about), Ok(pieces)) = (about, split(query)) else { return error };
    let name = about.split('.').next().unwrap_or(about);
    let is_it = |token: &Token| match token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => constant && text == about,
        Token::Number(text, _) => constant && text == about,
        Token::Word(word) => !constant && fold_word(word) == name,
        _ => false,
    };
    let pieces = pieces.iter().enumerate().filter(|(i, _)| at.is_none_or(|at| at == *i));
    let found = pieces.flat_map(|(_, piece)| &piece.tokens).find(|token| is_it(&token.token));
    error.position = found.and_then(|token| position(query, offset_of(query, token.span.start)));
    error
}

fn fold_word(word: &sqlparser::tokenizer::Word) -> String {
    match word.quote_style {
        Some(_) => word.value.clone(),
        None => word.value.to_ascii_lowercase(),
    }
}

fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(i, _)| i);
    text[..end].lines().next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_at_what_they_are_about() {
        let place = |code: &str, message: &str, query: &str, at: Option<usize>| {
            locate(SqlError::new(code, message), query, at).position
        };
        // The places are those that PostgreSQL 15 gives.
        let column = "column \"nosuch\" does not exist";
        assert_eq!(place("42703", column, "select nosuch from pgautofailover.node", None), Some(8));
        assert_eq!(place("42703", column, "select 'nosuch', NoSuch from t", None), Some(18));
        let relation = "relation \"pgautofailover.nosuch\" does not exist";
        assert_eq!(place("42P01", relation, "select * from pgautofailover.nosuch", None), Some(15));
        let constant = "invalid input syntax for type integer: \"x\"";
        assert_eq!(place("22P02", constant, "select 1; select x, 'x'::int", Some(1)), Some(21));
        assert_eq!(place("22P02", constant, "select nodename::int from t", None), None, "a value of the table");
        assert_eq!(place("42501", "permission denied for \"x\"", "select x", None), None);
    }
}
