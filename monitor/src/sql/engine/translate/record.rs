//! Rows as values: `ROW(...)`, whole-row references, and what becomes of them.

use super::{Sx, Translator, quote};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// `ROW(...)`: fields `f1`, `f2`...
pub fn row(fields: Vec<Sx>) -> Sx {
    let fields = fields.into_iter().enumerate().map(|(i, sx)| (format!("f{}", i + 1), sx)).collect();
    Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) }
}

impl Translator<'_> {
    /// A row becomes its text, `(1,n1,t)`; anything else stays.
    pub(super) fn settle_record(&mut self, sx: Sx) -> Result<Sx, SqlError> {
        let Some(fields) = sx.record else { return Ok(sx) };
        let mut args = vec![String::new()];
        let mut types = Vec::new();
        for (_, field) in fields {
            let field = self.settle_record(field)?;
            types.push(if field.ty == Ty::Unknown { Ty::Text.code() } else { field.ty.code() });
            args.push(field.sql);
        }
        args[0] = quote(&types.join(","));
        Ok(Sx::new(format!("pg_record_text({})", args.join(", ")), Ty::Text))
    }

    /// The value as compact JSON text.
    pub(super) fn json_of(&mut self, sx: Sx) -> Result<Sx, SqlError> {
        let Some(fields) = sx.record else {
            let sx = if sx.ty == Ty::Unknown { self.coerce(sx, Ty::Text)? } else { sx };
            return Ok(match sx.ty {
                Ty::Json => sx,
                ty => Sx::new(format!("pg_to_json({}, {})", quote(&ty.code()), sx.sql), Ty::Json),
            });
        };
        // One call per row: names and types in the first argument, values behind.
        let mut shape = Vec::new();
        let mut args = Vec::new();
        for (name, field) in fields {
            let field = if field.record.is_some() { self.json_of(field)? } else { field };
            let field = if field.ty == Ty::Unknown { self.coerce(field, Ty::Text)? } else { field };
            shape.push(format!("{}\u{1}{}", field.ty.code(), name.replace(['\u{1}', '\u{2}'], "")));
            args.push(format!(", {}", field.sql));
        }
        Ok(Sx::new(format!("pg_row_to_json({}{})", quote(&shape.join("\u{2}")), args.concat()), Ty::Json))
    }

    /// The value as `jsonb`.
    pub(super) fn jsonb_of(&mut self, sx: Sx) -> Result<Sx, SqlError> {
        if sx.ty == Ty::Jsonb && sx.record.is_none() {
            return Ok(sx);
        }
        let json = self.json_of(sx)?;
        Ok(Sx::new(format!("pg_in('jsonb', {})", json.sql), Ty::Jsonb))
    }
}
