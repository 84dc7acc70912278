//! COPY ... TO STDOUT. Written here: PostgreSQL's CSV tells NULL from an empty string by quotes, which crates
//! that write CSV do not.

use std::fmt::Write;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, FLUSH_AT, Gone};
use crate::sql::engine::zone;
use crate::sql::plan::CopyFormat;
use crate::sql::types::{Column, Datum};
use crate::sql::values;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// All rows, and the command tag.
    pub(super) async fn copy_out(
        &mut self,
        columns: &[Column],
        rows: impl Iterator<Item = Vec<Datum>>,
        format: &CopyFormat,
        tag: &str,
    ) -> Result<(), Gone> {
        self.out.copy_out_response(columns.len());
        if format.header {
            let names = columns.iter().map(|column| Some(column.name.clone()));
            self.out.copy_data(&line(names, format));
        }
        let time_zone = self.session.ctx.time_zone();
        for row in rows {
            let texts = row.iter().map(|datum| match datum {
                Datum::Null => None,
                datum => {
                    let mut text = BytesMut::new();
                    zone::within(time_zone.clone(), || values::write_text(&mut text, datum));
                    Some(String::from_utf8_lossy(&text).into_owned())
                }
            });
            self.out.copy_data(&line(texts, format));
            if self.out.buffer.len() > FLUSH_AT {
                self.flush().await?;
            }
        }
        self.out.copy_done();
        self.out.command_complete(tag);
        Ok(())
    }
}

/// One line, with its end. `None` is NULL.
fn line(values: impl ExactSizeIterator<Item = Option<String>>, format: &CopyFormat) -> String {
    let single = values.len() == 1;
    let mut line = String::new();
    for (i, value) in values.enumerate() {
        if i > 0 {
            line.push(format.delimiter);
        }
        match value {
            None => line.push_str(&format.null),
            Some(value) if format.csv => quote(&mut line, &value, single, format),
            Some(value) => escape(&mut line, &value, format),
        }
    }
    line.push('\n');
    line
}

/// A value of CSV, in quotes where it needs them.
fn quote(line: &mut String, value: &str, single: bool, format: &CopyFormat) {
    let special = |c: char| c == format.delimiter || c == format.quote || matches!(c, '\n' | '\r');
    // A line of `\.` alone would end the data.
    let needed = value == format.null || value.contains(special) || single && value == "\\.";
    if !needed {
        return line.push_str(value);
    }
    line.push(format.quote);
    for c in value.chars() {
        if c == format.quote || c == format.escape {
            line.push(format.escape);
        }
        line.push(c);
    }
    line.push(format.quote);
}

/// A value of the text format.
fn escape(line: &mut String, value: &str, format: &CopyFormat) {
    for c in value.chars() {
        let written = match c {
            '\\' => line.write_str("\\\\"),
            '\u{8}' => line.write_str("\\b"),
            '\u{c}' => line.write_str("\\f"),
            '\n' => line.write_str("\\n"),
            '\r' => line.write_str("\\r"),
            '\t' => line.write_str("\\t"),
            '\u{b}' => line.write_str("\\v"),
            c if c == format.delimiter => write!(line, "\\{c}"),
            c => line.write_char(c),
        };
        // Writing to a String cannot fail.
        let _ = written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[Option<&str>], format: &CopyFormat) -> String {
        line(values.iter().map(|value| value.map(str::to_string)).collect::<Vec<_>>().into_iter(), format)
    }

    /// Expectations from PostgreSQL 15: `COPY (VALUES (...)) TO STDOUT`.
    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        let csv = CopyFormat { csv: true, header: false, delimiter: ',', null: String::new(), quote: '"', escape: '"' };
        let row = [Some("a,b"), Some("c\"d"), None, Some(""), Some("two\nlines"), Some("plain \\ text")];
        assert_eq!(of(&row, &csv), "\"a,b\",\"c\"\"d\",,\"\",\"two\nlines\",plain \\ text\n");
        assert_eq!(of(&[Some("\\.")], &csv), "\"\\.\"\n");
        assert_eq!(of(&[Some("\\."), None], &csv), "\\.,\n");
        let text = CopyFormat { csv: false, delimiter: '\t', null: "\\N".to_string(), ..csv };
        let row = [Some("a\tb"), Some("c\\d"), None, Some(""), Some("two\nlines\u{b}")];
        assert_eq!(of(&row, &text), "a\\tb\tc\\\\d\t\\N\t\ttwo\\nlines\\v\n");
        let pipes = CopyFormat { delimiter: '|', ..text };
        assert_eq!(of(&[Some("a|b"), Some("c\td")], &pipes), "a\\|b|c\\td\n");
    }
}
