//! Operators.

use sqlparser::ast::{BinaryOperator, Expr};

use super::{Sx, Translator, quote, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// 42883, as PostgreSQL words it.
pub fn no_operator(op: &str, left: Option<Ty>, right: Ty) -> SqlError {
    let left = left.map(|t| format!("{} ", t.display())).unwrap_or_default();
    SqlError::new("42883", format!("operator does not exist: {left}{op} {}", right.display())).hint(
        "No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
}

/// The operator as its PostgreSQL name.
fn symbol(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().cloned().unwrap_or_default(),
        BinaryOperator::NotEq => "<>".to_string(),
        BinaryOperator::PGExp => "^".to_string(),
        other => other.to_string(),
    }
}

impl Translator<'_> {
    pub(super) fn binary(&mut self, op: &BinaryOperator, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        let symbol = symbol(op);
        match symbol.as_str() {
            "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" => {
                self.compare(if symbol == "!=" { "<>" } else { &symbol }, l, r)
            }
            _ if l.record.is_some() || r.record.is_some() => Err(unsupported("this operator on rows")),
            "+" | "-" | "*" | "/" | "%" | "^" => self.arithmetic(&symbol, l, r),
            "||" => self.concat(l, r),
            "~" | "~*" | "!~" | "!~*" => {
                let fold = i32::from(symbol.ends_with('*'));
                let not = if symbol.starts_with('!') { "NOT " } else { "" };
                let (text, pattern) = (self.string(l, &symbol)?, self.string(r, &symbol)?);
                Ok(Sx::new(format!("({not}pg_regex({}, {}, {fold}))", text.sql, pattern.sql), Ty::Bool))
            }
            "~~" | "~~*" | "!~~" | "!~~*" => {
                let fold = i32::from(symbol.ends_with('*'));
                let not = if symbol.starts_with('!') { "NOT " } else { "" };
                let (text, pattern) = (self.string(l, &symbol)?, self.string(r, &symbol)?);
                Ok(Sx::new(format!("({not}pg_like({}, {}, '\\', {fold}))", text.sql, pattern.sql), Ty::Bool))
            }
            "^@" => {
                let (text, prefix) = (self.string(l, "^@")?, self.string(r, "^@")?);
                Ok(Sx::new(format!("(instr({}, {}) = 1)", text.sql, prefix.sql), Ty::Bool))
            }
            "->" | "->>" | "#>" | "#>>" | "@>" | "<@" | "?" | "?|" | "?&" => self.json_operator(&symbol, l, r),
            "&" | "|" | "#" | "<<" | ">>" if l.ty.is_int() && r.ty.is_int() => {
                let ty = Ty::common(l.ty, r.ty).unwrap_or(Ty::Int8);
                let (a, b) = (l.sql, r.sql);
                Ok(Sx::new(match symbol.as_str() {
                    "#" => format!("(({a} | {b}) - ({a} & {b}))"),
                    s => format!("({a} {s} {b})"),
                }, ty))
            }
            "&&" => self.array_operator("&&", l, r),
            _ => Err(no_operator(&symbol, Some(l.ty), r.ty)),
        }
    }

    /// A comparison; `op` is SQLite's: `=`, `<`, `IS`, `IS NOT`...
    pub(super) fn compare(&mut self, op: &str, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        if l.record.is_some() || r.record.is_some() {
            return self.compare_rows(op, l, r);
        }
        let shown = match op {
            "IS NOT" | "IS" => "=",
            other => other,
        };
        let mut ty = match Ty::common(l.ty, r.ty) {
            Some(Ty::Json) => return Err(no_operator(shown, Some(l.ty), r.ty)),
            Some(Ty::Unknown) => Ty::Text,
            Some(ty) => ty,
            None => return Err(no_operator(shown, Some(l.ty), r.ty)),
        };
        if l.ty.is_oid() && r.ty.is_oid() && l.ty != r.ty {
            ty = Ty::Oid;
        }
        let l = self.coerce(l, ty)?;
        let r = self.coerce(r, ty)?;
        Ok(Sx::new(match ty {
            Ty::Numeric => format!("({} COLLATE PGNUM {op} {})", l.sql, r.sql),
            // The first half is what intervals are compared by: 1 day equals 24 hours.
            Ty::Interval => format!("(substr({}, 1, 16) {op} substr({}, 1, 16))", l.sql, r.sql),
            _ => format!("({} {op} {})", l.sql, r.sql),
        }, Ty::Bool))
    }

    fn compare_rows(&mut self, op: &str, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        let (Some(a), Some(b)) = (l.record, r.record) else {
            return Err(unsupported("a comparison of a row with a value"));
        };
        if a.len() != b.len() {
            return Err(SqlError::new("42601", "unequal number of entries in row expressions"));
        }
        let mut left = Vec::new();
        let mut right = Vec::new();
        for ((_, x), (_, y)) in a.into_iter().zip(b) {
            let ty = Ty::common(x.ty, y.ty).ok_or_else(|| no_operator(op, Some(x.ty), y.ty))?;
            let ty = if ty == Ty::Unknown { Ty::Text } else { ty };
            left.push(self.coerce(x, ty)?.sql);
            right.push(self.coerce(y, ty)?.sql);
        }
        Ok(Sx::new(format!("(({}) {op} ({}))", left.join(", "), right.join(", ")), Ty::Bool))
    }

    fn string(&mut self, sx: Sx, op: &str) -> Result<Sx, SqlError> {
        if sx.ty.is_string() || sx.ty == Ty::Unknown {
            self.coerce(sx, Ty::Text)
        } else {
            Err(no_operator(op, Some(sx.ty), Ty::Unknown))
        }
    }

    pub(super) fn like(
        &mut self,
        text: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        fold: bool,
        negated: bool,
    ) -> Result<Sx, SqlError> {
        let op = if fold { "~~*" } else { "~~" };
        let text = self.expr(text)?;
        let text = self.string(text, op)?;
        let pattern = self.expr(pattern)?;
        let pattern = self.string(pattern, op)?;
        let escape = match escape {
            Some(e) => self.text_of(e)?,
            None => quote("\\"),
        };
        let not = if negated { "NOT " } else { "" };
        let sql = format!("({not}pg_like({}, {}, {escape}, {}))", text.sql, pattern.sql, i32::from(fold));
        Ok(Sx::new(sql, Ty::Bool))
    }

    pub(super) fn arithmetic(&mut self, op: &str, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        if let Some(sx) = self.temporal(op, &l, &r)? {
            return Ok(sx);
        }
        let missing = || no_operator(op, Some(l.ty), r.ty);
        let ty = match (l.ty, r.ty) {
            (Ty::Unknown, Ty::Unknown) => return Err(missing()),
            (a, Ty::Unknown) if a.is_number() => a,
            (Ty::Unknown, b) if b.is_number() => b,
            (a, b) if a.is_number() && b.is_number() => Ty::common(a, b).ok_or_else(missing)?,
            (Ty::Oid, b) | (b, Ty::Oid) if b.is_int() => Ty::Int8,
            _ => return Err(missing()),
        };
        let ty = match (op, ty) {
            ("^", Ty::Numeric) => Ty::Numeric,
            ("^", _) => Ty::Float8,
            _ => ty,
        };
        let a = self.coerce(l, ty)?.sql;
        let b = self.coerce(r, ty)?.sql;
        let code = quote(&ty.code());
        Ok(Sx::new(match (op, ty) {
            ("^", Ty::Numeric) => format!("pg_in('numeric', pg_text('float8', pg_power(CAST({a} AS REAL), CAST({b} AS REAL))))"),
            ("^", _) => format!("pg_power({a}, {b})"),
            (_, Ty::Numeric) => format!("pg_num({}, {a}, {b})", quote(op)),
            ("%", Ty::Float8) => return Err(no_operator("%", Some(Ty::Float8), Ty::Float8)),
            ("/" | "%", _) => format!("pg_divide({}, {a}, {b}, {code})", quote(op)),
            (_, Ty::Float8) => format!("({a} {op} {b})"),
            // SQLite would go on in floating point where PostgreSQL says "out of range".
            _ => format!("pg_int({}, {a}, {b}, {code})", quote(op)),
        }, ty))
    }

    fn concat(&mut self, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        match (l.ty, r.ty) {
            (Ty::Array(_), _) | (_, Ty::Array(_)) => self.array_operator("||", l, r),
            (Ty::Jsonb, Ty::Jsonb | Ty::Unknown) | (Ty::Unknown, Ty::Jsonb) => {
                let (a, b) = (self.coerce(l, Ty::Jsonb)?, self.coerce(r, Ty::Jsonb)?);
                Ok(Sx::new(format!("pg_jsonb_concat({}, {})", a.sql, b.sql), Ty::Jsonb))
            }
            (a, b) if a.is_string() || b.is_string() || a == Ty::Unknown || b == Ty::Unknown => {
                let (a, b) = (self.as_text(l)?, self.as_text(r)?);
                Ok(Sx::new(format!("({} || {})", a.sql, b.sql), Ty::Text))
            }
            (a, b) => Err(no_operator("||", Some(a), b)),
        }
    }

    pub(super) fn array_operator(&mut self, op: &str, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        let array = match (l.ty, r.ty) {
            (ty @ Ty::Array(_), _) | (_, ty @ Ty::Array(_)) => ty,
            _ => return Err(no_operator(op, Some(l.ty), r.ty)),
        };
        let Ty::Array(elem) = array else { return Err(unsupported("this operator")) };
        let code = quote(&elem.code());
        // A single element becomes an array of one.
        let side = |t: &mut Self, sx: Sx| -> Result<String, SqlError> {
            match sx.ty {
                Ty::Array(_) | Ty::Unknown => Ok(t.coerce(sx, array)?.sql),
                _ => {
                    let sx = t.coerce(sx, *elem)?;
                    Ok(format!("pg_array({code}, {})", sx.sql))
                }
            }
        };
        let (a, b) = (side(self, l)?, side(self, r)?);
        Ok(match op {
            "||" => Sx::new(format!("pg_array_concat({a}, {b})"), array),
            _ => Sx::new(format!("pg_array_test({}, {a}, {b})", quote(op)), Ty::Bool),
        })
    }

    fn json_operator(&mut self, op: &str, l: Sx, r: Sx) -> Result<Sx, SqlError> {
        if matches!(l.ty, Ty::Array(_)) && matches!(op, "@>" | "<@") {
            return self.array_operator(op, l, r);
        }
        if !matches!(l.ty, Ty::Json | Ty::Jsonb) {
            return Err(no_operator(op, Some(l.ty), r.ty));
        }
        let ty = match op {
            "->" | "#>" => l.ty,
            "->>" | "#>>" => Ty::Text,
            _ => Ty::Bool,
        };
        let right = match op {
            "->" | "->>" if r.ty.is_int() => r.sql,
            "->" | "->>" | "?" => self.coerce(r, Ty::Text)?.sql,
            "@>" | "<@" => self.coerce(r, Ty::Jsonb)?.sql,
            _ => self.coerce(r, Ty::Array(&Ty::Text))?.sql,
        };
        Ok(Sx::new(format!("pg_json_op({}, {}, {right})", quote(op), l.sql), ty))
    }

    /// `x op ANY (array)` and `x op ALL (array)`; the subquery forms are `IN`.
    pub(super) fn any_all(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, any: bool) -> Result<Sx, SqlError> {
        let symbol = symbol(op);
        if let Expr::Subquery(query) = right {
            return match (symbol.as_str(), any) {
                ("=", true) => self.in_subquery(left, query, false),
                ("<>", false) => self.in_subquery(left, query, true),
                _ => Err(unsupported("this operator with a subquery")),
            };
        }
        let value = self.expr(left)?;
        // Listed elements become plain comparisons.
        if let Expr::Array(array) = right {
            let mut parts = Vec::new();
            for element in &array.elem {
                let element = self.expr(element)?;
                parts.push(self.binary(op, value.clone(), element)?.sql);
            }
            let (word, none) = if any { (" OR ", "0") } else { (" AND ", "1") };
            let sql = if parts.is_empty() { none.to_string() } else { format!("({})", parts.join(word)) };
            return Ok(Sx::new(sql, Ty::Bool));
        }
        let array = self.expr(right)?;
        let elem = match (array.ty, value.ty) {
            (Ty::Array(elem), _) => *elem,
            (Ty::Unknown, Ty::Unknown) => Ty::Text,
            // A parameter of a driver that sends arrays as text.
            (Ty::Unknown | Ty::Text, ty) => ty,
            _ => return Err(SqlError::new("42809", "op ANY/ALL (array) requires array on right side")),
        };
        let array = if array.ty == Ty::Text { Sx { ty: Ty::Unknown, ..array } } else { array };
        let array = self.coerce(array, elem.array())?;
        if Ty::common(elem, value.ty).is_none() {
            return Err(no_operator(&symbol, Some(value.ty), elem));
        }
        let value = self.coerce(value, elem)?;
        let code = quote(&elem.code());
        let sql = format!("pg_any({}, {}, {code}, {}, {})", quote(&symbol), i32::from(any), value.sql, array.sql);
        Ok(Sx::new(sql, Ty::Bool))
    }

    pub(super) fn in_list(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Sx, SqlError> {
        let value = self.expr(expr)?;
        let not = if negated { "NOT " } else { "" };
        let items = self.exprs(list)?;
        if value.record.is_some() {
            let mut parts = Vec::new();
            for item in items {
                parts.push(self.compare("=", value.clone(), item)?.sql);
            }
            return Ok(Sx::new(format!("({not}({}))", parts.join(" OR ")), Ty::Bool));
        }
        let mut ty = value.ty;
        for item in &items {
            let (a, b) = (ty, item.ty);
            ty = Ty::common(a, b).ok_or_else(|| no_operator("=", Some(a), b))?;
        }
        let ty = if ty == Ty::Unknown { Ty::Text } else { ty };
        let value = self.coerce(value, ty)?;
        let items = items.into_iter().map(|i| Ok(self.coerce(i, ty)?.sql)).collect::<Result<Vec<_>, SqlError>>()?;
        let collation = if ty == Ty::Numeric { " COLLATE PGNUM" } else { "" };
        Ok(Sx::new(format!("({}{collation} {not}IN ({}))", value.sql, items.join(", ")), Ty::Bool))
    }
}
