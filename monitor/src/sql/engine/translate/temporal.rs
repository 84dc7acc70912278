//! Timestamps, dates, intervals and LSNs in expressions.

use sqlparser::ast::Interval;

use super::{Literal, Sx, Translator, literal_sql, quote, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value;
use crate::sql::error::SqlError;

impl Translator<'_> {
    /// `+ - * /` where one side is no number; `None`: neither side is of these types.
    pub(super) fn temporal(&mut self, op: &str, l: &Sx, r: &Sx) -> Result<Option<Sx>, SqlError> {
        let kind = |ty: Ty| matches!(ty, Ty::Timestamptz | Ty::Timestamp | Ty::Date | Ty::Time | Ty::Interval | Ty::PgLsn);
        if !kind(l.ty) && !kind(r.ty) {
            return Ok(None);
        }
        // What a bare literal beside one of these is taken for.
        let guess = |other: Ty| match (op, other) {
            ("+", Ty::Timestamptz | Ty::Timestamp | Ty::Date) => Ty::Interval,
            ("-", Ty::Date) => Ty::Date,
            ("*" | "/", _) => Ty::Float8,
            _ => other,
        };
        let l = if l.ty == Ty::Unknown { self.coerce(l.clone(), guess(r.ty))? } else { l.clone() };
        let r = if r.ty == Ty::Unknown { self.coerce(r.clone(), guess(l.ty))? } else { r.clone() };
        let (a, b) = (&l.sql, &r.sql);
        let sign = if op == "-" { -1 } else { 1 };
        let add = |time: &str, interval: &str, ty: Ty| {
            let function = if ty == Ty::Timestamptz { "pg_zoned_add" } else { "pg_time_add" };
            Some(Sx::new(format!("{function}({time}, {interval}, {sign})"), ty))
        };
        Ok(match (op, l.ty, r.ty) {
            ("+" | "-", ty @ (Ty::Timestamptz | Ty::Timestamp), Ty::Interval) => add(a, b, ty),
            ("+", Ty::Interval, ty @ (Ty::Timestamptz | Ty::Timestamp)) => add(b, a, ty),
            ("+" | "-", Ty::Date, Ty::Interval) => add(&format!("({a} * 86400000000)"), b, Ty::Timestamp),
            ("+", Ty::Interval, Ty::Date) => add(&format!("({b} * 86400000000)"), a, Ty::Timestamp),
            ("+" | "-", Ty::Date, n) if n.is_int() => Some(Sx::new(format!("({a} {op} {b})"), Ty::Date)),
            ("+", n, Ty::Date) if n.is_int() => Some(Sx::new(format!("({a} + {b})"), Ty::Date)),
            ("-", Ty::Date, Ty::Date) => Some(Sx::new(format!("({a} - {b})"), Ty::Int4)),
            ("-", x @ (Ty::Timestamptz | Ty::Timestamp | Ty::Date), y) if Ty::common(x, y).is_some() => {
                let ty = if x == Ty::Date { y } else { x };
                let (a, b) = (self.cast(l.clone(), ty)?.sql, self.cast(r.clone(), ty)?.sql);
                Some(Sx::new(format!("pg_time_sub({a}, {b})"), Ty::Interval))
            }
            ("+" | "-", Ty::Interval, Ty::Interval) => {
                Some(Sx::new(format!("pg_interval_add({a}, {b}, {sign})"), Ty::Interval))
            }
            ("*", Ty::Interval, n) if n.is_number() => {
                let n = self.cast(r.clone(), Ty::Float8)?.sql;
                Some(Sx::new(format!("pg_interval_mul({a}, {n})"), Ty::Interval))
            }
            ("*", n, Ty::Interval) if n.is_number() => {
                let n = self.cast(l.clone(), Ty::Float8)?.sql;
                Some(Sx::new(format!("pg_interval_mul({b}, {n})"), Ty::Interval))
            }
            ("/", Ty::Interval, n) if n.is_number() => {
                let n = self.cast(r.clone(), Ty::Float8)?.sql;
                Some(Sx::new(format!("pg_interval_mul({a}, pg_divide('/', 1.0, {n}, 'float8'))"), Ty::Interval))
            }
            ("-", Ty::PgLsn, Ty::PgLsn) => Some(Sx::new(format!("pg_lsn_diff({a}, {b})"), Ty::Numeric)),
            ("+" | "-", Ty::PgLsn, n) if n.is_number() => {
                let n = self.cast(r.clone(), Ty::Int8)?.sql;
                Some(Sx::new(format!("({a} {op} {n})"), Ty::PgLsn))
            }
            _ => return Err(super::ops::no_operator(op, Some(l.ty), r.ty)),
        })
    }

    /// `INTERVAL '5' MINUTE`.
    pub(super) fn interval(&mut self, interval: &Interval) -> Result<Sx, SqlError> {
        let sx = self.expr(&interval.value)?;
        let Some(Literal::Text(text)) = &sx.literal else { return Err(unsupported("this interval")) };
        let unit = interval.leading_field.as_ref().map(|f| f.to_string().to_lowercase());
        let parsed = value::interval::Interval::parse(text, unit.as_deref()).ok_or_else(|| {
            SqlError::new("22007", format!("invalid input syntax for type interval: \"{text}\""))
        })?;
        Ok(Sx::new(literal_sql(&rusqlite::types::Value::Blob(parsed.to_blob())), Ty::Interval))
    }

    /// `extract(field from x)`.
    pub(super) fn extract(&mut self, field: &str, sx: Sx) -> Result<Sx, SqlError> {
        let field = field.trim_matches('\'').to_string();
        let ty = match sx.ty {
            ty @ (Ty::Timestamptz | Ty::Timestamp | Ty::Date | Ty::Time | Ty::Interval) => ty,
            Ty::Unknown => Ty::Timestamptz,
            other => {
                let message = format!("function pg_catalog.extract(unknown, {}) does not exist", other.display());
                return Err(SqlError::new("42883", message));
            }
        };
        let sx = self.coerce(sx, ty)?;
        let sql = format!("pg_extract({}, {}, {})", quote(&field), quote(&ty.code()), sx.sql);
        Ok(Sx::new(sql, Ty::Numeric))
    }

    /// `x AT TIME ZONE zone`.
    pub(super) fn at_time_zone(&mut self, sx: Sx, zone: &str) -> Result<Sx, SqlError> {
        let ty = match sx.ty {
            Ty::Timestamp => Ty::Timestamptz,
            _ => Ty::Timestamp,
        };
        let (from, function) = match sx.ty {
            Ty::Timestamp => (Ty::Timestamp, "pg_time_in"),
            _ => (Ty::Timestamptz, "pg_shown_in"),
        };
        let sx = self.coerce(sx, from)?;
        Ok(Sx::new(format!("{function}({}, {zone})", sx.sql), ty))
    }
}
