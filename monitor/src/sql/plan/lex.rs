//! From the text of a query to its statements, each as tokens.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::sql::error::SqlError;

/// Operators and set operations that a statement may chain. A chain becomes a tree as deep as it
/// is long, and whoever walks the tree recurses.
const CHAIN_LIMIT: usize = 250;

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
    let mut pieces = Vec::new();
    let mut current: Vec<TokenWithSpan> = Vec::new();
    let mut finish = |tokens: &mut Vec<TokenWithSpan>, end: Option<TokenWithSpan>| {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return };
        let (start, stop) = (offset_of(query, first.span.start), offset_of(query, last.span.end));
        let text = query.get(start..stop.max(start)).unwrap_or(query).to_string();
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
    for piece in &pieces {
        if piece.tokens.iter().filter(|t| chains(&t.token)).count() > CHAIN_LIMIT {
            return Err(SqlError::new("54001", "statement too complex")
                .hint(format!("At most {CHAIN_LIMIT} operators may be combined.")));
        }
    }
    Ok(pieces)
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
                | Keyword::OPERATOR
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

fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(i, _)| i);
    text[..end].lines().next().unwrap_or("")
}
