//! Statements around a query: cursors and COPY ... TO STDOUT.

use std::sync::Arc;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::lex::{Piece, offset_of, split, syntax_error};
use super::utility::Words;
use super::{CopyFormat, Plan, Planned, plan_here};
use crate::sql::error::SqlError;

type Parsed = Result<Plan, SqlError>;

fn unsupported(what: &str) -> SqlError {
    SqlError::new("0A000", format!("{what} is not supported"))
}

/// Parses such a statement; `None` when the first word starts none.
pub fn parse(query: &str, piece: &Piece, oids: &[u32], test_mode: bool) -> Option<Parsed> {
    let Some(Token::Word(first)) = piece.tokens.first().map(|t| &t.token) else { return None };
    let mut w = Words::after_first(query, piece);
    let inner = Inner { query, piece, oids, test_mode };
    Some(match first.value.to_ascii_lowercase().as_str() {
        "declare" => declare(&mut w, &inner),
        "fetch" => fetch(&mut w, true),
        "move" => fetch(&mut w, false),
        "close" => close(&mut w),
        "copy" => copy(&mut w, &inner),
        _ => return None,
    })
}

/// How the query inside is planned.
struct Inner<'a> {
    query: &'a str,
    piece: &'a Piece,
    oids: &'a [u32],
    test_mode: bool,
}

impl Inner<'_> {
    /// The tokens `from..to` as a statement of their own.
    fn plan(&self, from: usize, to: usize) -> Result<Arc<Planned>, SqlError> {
        let tokens = self.piece.tokens.get(from..to).unwrap_or_default().to_vec();
        let end = self.piece.tokens.get(to).or(self.piece.end.as_ref()).cloned();
        // Also keeps these statements from being nested without a limit.
        let starts_query = match tokens.first().map(|t| &t.token) {
            Some(Token::LParen) => true,
            Some(Token::Word(w)) => matches!(w.keyword, Keyword::SELECT | Keyword::VALUES | Keyword::TABLE | Keyword::WITH),
            _ => false,
        };
        if !starts_query {
            return Err(syntax_error(self.query, tokens.first().or(end.as_ref())));
        }
        let piece = Piece { text: self.text(from, to), tokens, end };
        plan_here(self.query, &piece, self.oids, self.test_mode).map(Arc::new)
    }

    fn text(&self, from: usize, to: usize) -> String {
        let tokens = self.piece.tokens.get(from..to).unwrap_or_default();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return String::new() };
        let (start, stop) = (offset_of(self.query, first.span.start), offset_of(self.query, last.span.end));
        self.query.get(start..stop).unwrap_or_default().to_string()
    }
}

fn declare(w: &mut Words<'_>, inner: &Inner<'_>) -> Parsed {
    let name = w.identifier()?;
    loop {
        if w.word("binary") {
            return Err(unsupported("a binary cursor"));
        }
        if w.word("scroll") {
            return Err(unsupported("a cursor that scrolls").hint("Cursors go forward here: leave SCROLL out."));
        }
        if !(w.word("insensitive") || w.word("asensitive") || w.words(&["no", "scroll"])) {
            break;
        }
    }
    w.expect("cursor")?;
    if w.words(&["with", "hold"]) {
        return Err(unsupported("a cursor beyond its transaction").hint("Leave WITH HOLD out."));
    }
    w.words(&["without", "hold"]);
    w.expect("for")?;
    let query = inner.plan(w.at(), inner.piece.tokens.len())?;
    Ok(Plan::Declare { name, query })
}

/// `FETCH | MOVE [direction] [FROM | IN] name`.
fn fetch(w: &mut Words<'_>, rows: bool) -> Parsed {
    let backward = || {
        SqlError::new("55000", "cursor can only scan forward")
            .hint("Declare it with SCROLL option to enable backward scan.")
    };
    // `None` is ALL.
    let mut count = Some(1);
    // The last word is the cursor's name, be it spelt like a direction.
    if w.at() + 1 < w.len() {
        if ["prior", "backward", "first", "last", "absolute", "relative"].iter().any(|word| w.word(word)) {
            return Err(backward());
        }
        let _ = w.word("next") || w.word("forward");
        if w.word("all") {
            count = None;
        } else if let Some(number) = w.whole_number()? {
            count = Some(number);
        }
    }
    if !w.word("from") {
        w.word("in");
    }
    let cursor = w.identifier()?;
    w.end()?;
    match count {
        None => Ok(Plan::Fetch { cursor, count: usize::MAX, rows }),
        Some(count) if count > 0 => Ok(Plan::Fetch { cursor, count: usize::try_from(count).unwrap_or(usize::MAX), rows }),
        // Zero is the row before once more.
        Some(_) => Err(backward()),
    }
}

fn close(w: &mut Words<'_>) -> Parsed {
    let cursor = if w.word("all") { None } else { Some(w.identifier()?) };
    w.end()?;
    Ok(Plan::CloseCursor(cursor))
}

/// `COPY {(query) | table [(columns)]} TO STDOUT [options]`.
fn copy(w: &mut Words<'_>, inner: &Inner<'_>) -> Parsed {
    let query = match w.brackets()? {
        Some((from, to)) => inner.plan(from, to)?,
        None => {
            let from = w.at();
            w.setting_name()?;
            let table = inner.text(from, w.at());
            let columns = w.brackets()?.map_or("*".to_string(), |(from, to)| inner.text(from, to));
            let text = format!("SELECT {columns} FROM {table}");
            let pieces = split(&text)?;
            let [piece] = pieces.as_slice() else { return Err(w.error()) };
            // Its places are those of another text.
            let planned = plan_here(&text, piece, &[], inner.test_mode).map_err(|e| SqlError { position: None, ..e })?;
            Arc::new(planned)
        }
    };
    if w.word("from") {
        return Err(unsupported("COPY FROM"));
    }
    w.expect("to")?;
    if !w.word("stdout") {
        return Err(unsupported("COPY to a file of the server").hint("psql's \\copy writes a file of yours."));
    }
    w.word("with");
    let options = if w.token(&Token::LParen) { Options::in_brackets(w)? } else { Options::in_words(w)? };
    w.end()?;
    Ok(Plan::CopyOut { query, format: options.format()? })
}

fn boolean(text: &str) -> Result<bool, SqlError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(SqlError::new("42601", "header requires a Boolean value or \"match\"")),
    }
}

#[derive(Default)]
struct Options {
    format: Option<String>,
    header: bool,
    delimiter: Option<String>,
    null: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
}

impl Options {
    /// As since PostgreSQL 9.0.
    fn in_brackets(w: &mut Words<'_>) -> Result<Options, SqlError> {
        let mut options = Options::default();
        loop {
            match w.identifier()?.as_str() {
                "format" => options.format = Some(w.value()?),
                "delimiter" => options.delimiter = Some(w.value()?),
                "null" => options.null = Some(w.value()?),
                "quote" => options.quote = Some(w.value()?),
                "escape" => options.escape = Some(w.value()?),
                "header" => {
                    let alone = matches!(w.peek().map(|t| &t.token), Some(Token::Comma | Token::RParen));
                    options.header = alone || boolean(&w.value()?)?;
                }
                other @ ("encoding" | "force_quote" | "force_not_null" | "force_null" | "freeze") => {
                    return Err(unsupported(&format!("COPY option \"{other}\"")));
                }
                other => return Err(SqlError::new("42601", format!("option \"{other}\" not recognized"))),
            }
            if w.token(&Token::RParen) {
                return Ok(options);
            }
            if !w.token(&Token::Comma) {
                return Err(w.error());
            }
        }
    }

    /// As before; what follows psql's \copy is written so to this day.
    fn in_words(w: &mut Words<'_>) -> Result<Options, SqlError> {
        let mut options = Options::default();
        while w.peek().is_some() {
            let name = w.identifier()?;
            match name.as_str() {
                "csv" | "binary" => {
                    options.format = Some(name);
                    continue;
                }
                "header" => {
                    options.header = true;
                    continue;
                }
                _ => w.word("as"),
            };
            let value = Some(w.value()?);
            match name.as_str() {
                "delimiter" | "delimiters" => options.delimiter = value,
                "null" => options.null = value,
                "quote" => options.quote = value,
                "escape" => options.escape = value,
                other => return Err(unsupported(&format!("COPY option \"{other}\""))),
            }
        }
        Ok(options)
    }

    fn format(self) -> Result<CopyFormat, SqlError> {
        let csv = match self.format.as_deref() {
            None | Some("text") => false,
            Some("csv") => true,
            Some("binary") => return Err(unsupported("COPY in binary format")),
            Some(other) => return Err(SqlError::new("22023", format!("COPY format \"{other}\" not recognized"))),
        };
        for (name, given) in [("quote", &self.quote), ("escape", &self.escape)] {
            if !csv && given.is_some() {
                return Err(SqlError::new("0A000", format!("COPY {name} available only in CSV mode")));
            }
        }
        let one = |what: &str, given: Option<String>, otherwise: char| match given.as_deref().map(str::as_bytes) {
            None => Ok(otherwise),
            Some([c]) if c.is_ascii() && !matches!(c, b'\n' | b'\r') => Ok(char::from(*c)),
            Some(_) => Err(SqlError::new("0A000", format!("COPY {what} must be a single one-byte character"))),
        };
        let quote = one("quote", self.quote, '"')?;
        Ok(CopyFormat {
            csv,
            header: self.header,
            delimiter: one("delimiter", self.delimiter, if csv { ',' } else { '\t' })?,
            null: self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_string() }),
            quote,
            escape: one("escape", self.escape, quote)?,
        })
    }
}
