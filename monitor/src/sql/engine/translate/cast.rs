//! Conversions between types, implicit and asked for.

use rusqlite::types::Value;

use super::{Literal, Sx, Translator, literal_sql, quote, unsupported};
use crate::sql::engine::catalog::procs;
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value;
use crate::sql::engine::Param;
use crate::sql::error::SqlError;

/// A parameter's value as SQLite holds it.
pub fn param_value(param: &Param, ty: Ty) -> Result<Value, SqlError> {
    // An undeclared parameter is bound as text and read where it is used.
    let ty = if Ty::from_wire(param.ty) == Ty::Unknown { Ty::Unknown } else { ty };
    value::output::stored(ty, &param.value)
}

impl Translator<'_> {
    /// Converts where PostgreSQL would without being asked.
    pub(super) fn coerce(&mut self, sx: Sx, to: Ty) -> Result<Sx, SqlError> {
        if sx.record.is_some() {
            return Err(SqlError::new("42846", format!("cannot cast type record to {}", to.display())));
        }
        if sx.ty == to {
            return Ok(sx);
        }
        match &sx.literal {
            Some(Literal::Null) => return Ok(Sx::new("NULL", to)),
            Some(Literal::Text(text)) => {
                let text = text.clone();
                if to == Ty::Regproc
                    && let Some(oid) = procs::by_signature(self.env.functions, &text)
                {
                    return Ok(Sx::new(oid.to_string(), to));
                }
                if matches!(to, Ty::Unknown) {
                    return Ok(sx);
                }
                let moving = matches!(to, Ty::Timestamptz | Ty::Timestamp | Ty::Date)
                    && text.trim().starts_with(|c: char| c.is_ascii_alphabetic());
                self.reads_clock |= moving;
                let value = value::input::parse(to, &text, Some(self.env.now))?;
                return Ok(Sx::new(literal_sql(&value), to));
            }
            Some(Literal::Param(index)) => {
                if let Some(slot @ None) = self.inferred.get_mut(*index) {
                    *slot = Some(to);
                }
            }
            None => {}
        }
        let code = quote(&to.code());
        Ok(match (sx.ty, to) {
            (Ty::Unknown, Ty::Text | Ty::Varchar) => Sx::new(sx.sql, to),
            (Ty::Unknown, _) => Sx::new(format!("pg_in({code}, {})", sx.sql), to),
            (from, to) if Ty::implicit(from, to) || from.is_string() && to.is_string() => self.convert(sx, to),
            (from, to) if from.is_oid() && (to.is_oid() || to.is_int()) => Sx::new(sx.sql, to),
            (from, to) if from.is_int() && to.is_oid() => Sx::new(sx.sql, to),
            (from, to) => {
                return Err(SqlError::new(
                    "42846",
                    format!("cannot cast type {} to {}", from.display(), to.display()),
                ));
            }
        })
    }

    /// `CAST(x AS to)`.
    pub(super) fn cast(&mut self, sx: Sx, to: Ty) -> Result<Sx, SqlError> {
        if sx.ty == to || matches!(sx.ty, Ty::Unknown) {
            return self.coerce(sx, to);
        }
        let from = sx.ty;
        let code = quote(&to.code());
        let refused = || {
            Err(SqlError::new("42846", format!("cannot cast type {} to {}", from.display(), to.display())))
        };
        if to.is_string() {
            let text = self.as_text(sx)?;
            return Ok(Sx::new(text.sql, to));
        }
        if from.is_string() {
            return Ok(Sx::new(format!("pg_in({code}, {})", sx.sql), to));
        }
        let number = from.is_number() && to.is_number();
        let other = matches!(
            (from, to),
            (Ty::Bool, Ty::Int4)
                | (Ty::Int4, Ty::Bool)
                | (Ty::Timestamptz | Ty::Timestamp | Ty::Date, Ty::Timestamptz | Ty::Timestamp | Ty::Date)
                | (Ty::Timestamptz | Ty::Timestamp, Ty::Time)
                | (Ty::Time, Ty::Interval)
                | (Ty::Interval, Ty::Time)
                | (Ty::Json, Ty::Jsonb)
                | (Ty::Jsonb, Ty::Json)
                | (Ty::PgLsn, Ty::Int8)
        );
        if number || other {
            return Ok(self.convert(sx, to));
        }
        match (from, to) {
            (a, b) if (a.is_oid() || a.is_int()) && (b.is_oid() || b.is_int()) => Ok(Sx::new(sx.sql, to)),
            (Ty::Array(_), Ty::Array(_)) => {
                Ok(Sx::new(format!("pg_in({code}, {})", sx.sql), to))
            }
            (Ty::Jsonb | Ty::Json, Ty::Bool | Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Float8 | Ty::Numeric) => {
                Ok(Sx::new(format!("pg_in({code}, {})", sx.sql), to))
            }
            _ => refused(),
        }
    }

    /// The conversion itself; the caller knows that there is one.
    fn convert(&mut self, sx: Sx, to: Ty) -> Sx {
        let from = sx.ty;
        let inner = sx.sql;
        let (from_code, to_code) = (quote(&from.code()), quote(&to.code()));
        let sql = match (from, to) {
            (a, b) if a == b || (a.is_string() && b.is_string()) => inner,
            (a, b) if (a.is_oid() || a.is_int()) && (b.is_oid() || b.is_int()) && (a.is_oid() || b.is_oid()) => inner,
            (Ty::Int2, Ty::Int4 | Ty::Int8) | (Ty::Int4, Ty::Int8) => inner,
            (Ty::Bool, Ty::Int4) => inner,
            (Ty::Int4, Ty::Bool) => format!("({inner} <> 0)"),
            (a, Ty::Numeric) if a.is_int() => format!("CAST({inner} AS TEXT)"),
            (a, Ty::Float8) if a.is_int() => format!("CAST({inner} AS REAL)"),
            (Ty::Numeric, Ty::Float8) => format!("CAST({inner} AS REAL)"),
            (Ty::Date, Ty::Timestamp) => format!("({inner} * 86400000000)"),
            (Ty::Json, Ty::Jsonb) => format!("pg_in('jsonb', {inner})"),
            (Ty::Jsonb, Ty::Json) => inner,
            _ => format!("pg_cast({from_code}, {to_code}, {inner})"),
        };
        Sx::new(sql, to)
    }

    /// Any value as text, as `x::text` gives it.
    pub(super) fn as_text(&mut self, sx: Sx) -> Result<Sx, SqlError> {
        let sx = self.settle_record(sx)?;
        Ok(match sx.ty {
            Ty::Unknown => self.coerce(sx, Ty::Text)?,
            Ty::Void => return Err(unsupported("void as text")),
            ty if ty.is_string() || matches!(ty, Ty::Json | Ty::Jsonb | Ty::Numeric | Ty::Array(_) | Ty::Bytea) => {
                Sx::new(sx.sql, Ty::Text)
            }
            ty if ty.is_int() || ty == Ty::Oid => Sx::new(format!("CAST({} AS TEXT)", sx.sql), Ty::Text),
            ty => Sx::new(format!("pg_text({}, {})", quote(&ty.code()), sx.sql), Ty::Text),
        })
    }
}
