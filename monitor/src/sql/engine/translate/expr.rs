//! Expressions.

use sqlparser::ast::{AccessExpr, BinaryOperator, CaseWhen, Expr, Subscript, UnaryOperator, Value};

use super::{Literal, Sx, Translator, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

impl Translator<'_> {
    /// Translates an expression.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Sx, SqlError> {
        self.nested(|t| t.expr_inner(expr))
    }

    fn expr_inner(&mut self, expr: &Expr) -> Result<Sx, SqlError> {
        match expr {
            Expr::Identifier(ident) => match ident.quote_style {
                None if special(&ident.value).is_some() => {
                    self.builtin(&ident.value.to_lowercase(), Vec::new()).map(|found| found.unwrap_or_else(Sx::null))
                }
                _ => self.identifier(ident),
            },
            Expr::CompoundIdentifier(parts) => self.compound(parts),
            Expr::Nested(inner) => self.expr(inner),
            Expr::Collate { expr, .. } => self.expr(expr),
            Expr::Value(value) => self.value(&value.value),
            Expr::Prefixed { .. } => Err(unsupported("this literal")),
            Expr::TypedString(typed) => {
                let text = typed.value.value.clone().into_string().ok_or_else(|| unsupported("this literal"))?;
                let ty = super::datatype::resolve(&typed.data_type)?;
                self.cast(Sx::text_literal(&text), ty)
            }
            Expr::Cast { expr, data_type, format: None, kind, .. } => {
                if !matches!(kind, sqlparser::ast::CastKind::Cast | sqlparser::ast::CastKind::DoubleColon) {
                    return Err(unsupported("this kind of cast"));
                }
                let ty = super::datatype::resolve(data_type)?;
                let inner = self.expr(expr)?;
                let inner = match (ty, inner.record.is_some()) {
                    (_, true) => self.settle_record(inner)?,
                    _ => inner,
                };
                self.cast(inner, ty)
            }
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                self.chain(left, op, right)
            }
            Expr::BinaryOp { left, op, right } => self.fold_left(left, op, right),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                let not = if matches!(expr, Expr::IsNull(_)) { "" } else { "NOT " };
                let sx = self.expr(inner)?;
                // A row inside a row is there, whatever its own fields are.
                let test = |sx: &Sx| match sx.record {
                    Some(_) => u8::from(!not.is_empty()).to_string(),
                    None => format!("({} IS {not}NULL)", sx.sql),
                };
                Ok(Sx::new(match &sx.record {
                    Some(fields) => {
                        let all: Vec<String> = fields.iter().map(|f| test(&f.1)).collect();
                        format!("({})", all.join(" AND "))
                    }
                    None => test(&sx),
                }, Ty::Bool))
            }
            Expr::IsTrue(e) => self.is(e, "IS 1"),
            Expr::IsNotTrue(e) => self.is(e, "IS NOT 1"),
            Expr::IsFalse(e) => self.is(e, "IS 0"),
            Expr::IsNotFalse(e) => self.is(e, "IS NOT 0"),
            Expr::IsUnknown(e) => self.is(e, "IS NULL"),
            Expr::IsNotUnknown(e) => self.is(e, "IS NOT NULL"),
            Expr::IsDistinctFrom(a, b) => self.compare_exprs("IS NOT", a, b),
            Expr::IsNotDistinctFrom(a, b) => self.compare_exprs("IS", a, b),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Expr::InSubquery { expr, subquery, negated } => self.in_subquery(expr, subquery, *negated),
            Expr::Between { expr, negated, low, high } => {
                let value = self.expr(expr)?;
                let low = self.expr(low)?;
                let high = self.expr(high)?;
                let above = self.compare(">=", value.clone(), low)?;
                let below = self.compare("<=", value, high)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Sx::new(format!("({not}({} AND {}))", above.sql, below.sql), Ty::Bool))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), false, *negated)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), true, *negated)
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
                let value = self.text_of(expr)?;
                let pattern = self.text_of(pattern)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Sx::new(format!("({not}pg_similar({value}, {pattern}))"), Ty::Bool))
            }
            Expr::AnyOp { left, compare_op, right, .. } => self.any_all(left, compare_op, right, true),
            Expr::AllOp { left, compare_op, right } => self.any_all(left, compare_op, right, false),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Exists { subquery, negated } => {
                let query = self.query(subquery)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Sx::new(format!("({not}EXISTS ({}))", query.sql), Ty::Bool))
            }
            Expr::Subquery(query) => self.scalar_subquery(query),
            Expr::Tuple(items) => {
                let fields = self.exprs(items)?;
                Ok(super::record::row(fields))
            }
            Expr::Array(array) => {
                let items = self.exprs(&array.elem)?;
                self.array_of(items)
            }
            Expr::Function(function) => self.call(function),
            Expr::Extract { field, expr, .. } => {
                let sx = self.expr(expr)?;
                self.extract(&field.to_string().to_lowercase(), sx)
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                let sx = self.expr(timestamp)?;
                let zone = self.text_of(time_zone)?;
                self.at_time_zone(sx, &zone)
            }
            Expr::Interval(interval) => self.interval(interval),
            Expr::Position { expr, r#in } => {
                let (needle, text) = (self.text_of(expr)?, self.text_of(r#in)?);
                Ok(Sx::new(format!("instr({text}, {needle})"), Ty::Int4))
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut args = vec![self.expr(expr)?];
                if let Some(from) = substring_from {
                    args.push(self.expr(from)?);
                } else if substring_for.is_some() {
                    args.push(Sx::new("1", Ty::Int4));
                }
                if let Some(length) = substring_for {
                    args.push(self.expr(length)?);
                }
                self.builtin_or_missing("substring", args)
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                use sqlparser::ast::TrimWhereField::*;
                let name = match trim_where {
                    Some(Leading) => "ltrim",
                    Some(Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut args = vec![self.expr(expr)?];
                if let Some(what) = trim_what {
                    args.push(self.expr(what)?);
                }
                self.builtin_or_missing(name, args)
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![self.expr(expr)?, self.expr(overlay_what)?, self.expr(overlay_from)?];
                if let Some(length) = overlay_for {
                    args.push(self.expr(length)?);
                }
                self.builtin_or_missing("overlay", args)
            }
            Expr::Ceil { expr, .. } => {
                let sx = self.expr(expr)?;
                self.builtin_or_missing("ceil", vec![sx])
            }
            Expr::Floor { expr, .. } => {
                let sx = self.expr(expr)?;
                self.builtin_or_missing("floor", vec![sx])
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            _ => Err(unsupported("this expression")),
        }
    }

    pub(super) fn exprs(&mut self, exprs: &[Expr]) -> Result<Vec<Sx>, SqlError> {
        exprs.iter().map(|e| self.expr(e)).collect()
    }

    /// The SQL of an expression as text.
    pub(super) fn text_of(&mut self, expr: &Expr) -> Result<String, SqlError> {
        let sx = self.expr(expr)?;
        Ok(self.as_text(sx)?.sql)
    }

    fn value(&mut self, value: &Value) -> Result<Sx, SqlError> {
        Ok(match value {
            Value::Null => Sx::null(),
            Value::Boolean(b) => Sx::new(if *b { "1" } else { "0" }, Ty::Bool),
            Value::Number(text, _) => number(text)?,
            Value::Placeholder(name) => self.parameter(name)?,
            Value::DollarQuotedString(s) => Sx::text_literal(&s.value),
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s)
            | Value::NationalStringLiteral(s) => Sx::text_literal(s),
            _ => return Err(unsupported("this literal")),
        })
    }

    fn parameter(&mut self, name: &str) -> Result<Sx, SqlError> {
        let missing = || SqlError::new("42P02", format!("there is no parameter {name}"));
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).ok_or_else(missing)?;
        let index = number.checked_sub(1).filter(|i| *i < 1000).ok_or_else(missing)?;
        if index >= self.params.len() {
            self.params.resize(index + 1, Ty::Unknown);
            self.inferred.resize(index + 1, None);
        }
        let ty = self.params[index];
        let literal = (ty == Ty::Unknown).then_some(Literal::Param(index));
        Ok(Sx { sql: format!("?{number}"), ty, literal, record: None })
    }

    /// A chain of ANDs or ORs, however long, without recursing down its left side.
    fn chain(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Sx, SqlError> {
        let mut terms = vec![right];
        let mut left = left;
        while let Expr::BinaryOp { left: l, op: o, right: r } = left {
            if o != op {
                break;
            }
            terms.push(r);
            left = l;
        }
        terms.push(left);
        let word = if *op == BinaryOperator::And { "AND" } else { "OR" };
        let mut parts = Vec::new();
        for term in terms.into_iter().rev() {
            let sx = self.expr(term)?;
            parts.push(self.condition(sx, word)?.sql);
        }
        if parts.len() > 900 {
            return Err(SqlError::new("54001", "stack depth limit exceeded"));
        }
        Ok(Sx::new(balanced(&parts, word), Ty::Bool))
    }

    /// `a || b || c`, however long, without recursing down its left side.
    fn fold_left(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Sx, SqlError> {
        let mut steps = vec![(op, right)];
        let mut first = left;
        while let Expr::BinaryOp { left, op, right } = first {
            if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
                break;
            }
            steps.push((op, right));
            first = left;
        }
        if steps.len() > 250 {
            return Err(SqlError::new("54001", "stack depth limit exceeded"));
        }
        let mut sx = self.expr(first)?;
        for (op, right) in steps.into_iter().rev() {
            let right = self.expr(right)?;
            sx = self.binary(op, sx, right)?;
        }
        Ok(sx)
    }

    fn unary(&mut self, op: UnaryOperator, expr: &Expr) -> Result<Sx, SqlError> {
        if let (UnaryOperator::Minus, Expr::Value(v)) = (op, expr)
            && let Value::Number(text, _) = &v.value
        {
            return number(&format!("-{text}"));
        }
        let sx = self.expr(expr)?;
        match op {
            UnaryOperator::Not => {
                let sx = self.condition(sx, "NOT")?;
                Ok(Sx::new(format!("(NOT {})", sx.sql), Ty::Bool))
            }
            UnaryOperator::Plus => Ok(sx),
            UnaryOperator::Minus => match sx.ty {
                Ty::Numeric => Ok(Sx::new(format!("pg_num('-', '0', {})", sx.sql), Ty::Numeric)),
                Ty::Interval => Ok(Sx::new(format!("pg_interval_mul({}, -1.0)", sx.sql), Ty::Interval)),
                ty if ty.is_number() => Ok(Sx::new(format!("(- {})", sx.sql), ty)),
                Ty::Unknown => {
                    let sx = self.coerce(sx, Ty::Float8)?;
                    Ok(Sx::new(format!("(- {})", sx.sql), Ty::Float8))
                }
                ty => Err(super::ops::no_operator("-", None, ty)),
            },
            UnaryOperator::BitwiseNot if sx.ty.is_int() => Ok(Sx::new(format!("(~ {})", sx.sql), sx.ty)),
            UnaryOperator::PGAbs => self.builtin_or_missing("abs", vec![sx]),
            _ => Err(unsupported("this operator")),
        }
    }

    fn is(&mut self, expr: &Expr, test: &str) -> Result<Sx, SqlError> {
        let sx = self.expr(expr)?;
        let sx = self.condition(sx, "IS")?;
        Ok(Sx::new(format!("({} {test})", sx.sql), Ty::Bool))
    }

    fn compare_exprs(&mut self, op: &str, a: &Expr, b: &Expr) -> Result<Sx, SqlError> {
        let a = self.expr(a)?;
        let b = self.expr(b)?;
        self.compare(op, a, b)
    }

    fn case(&mut self, operand: Option<&Expr>, arms: &[CaseWhen], otherwise: Option<&Expr>) -> Result<Sx, SqlError> {
        let operand = operand.map(|e| self.expr(e)).transpose()?;
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        for arm in arms {
            let condition = self.expr(&arm.condition)?;
            conditions.push(match &operand {
                Some(value) => self.compare("=", value.clone(), condition)?,
                None => self.condition(condition, "CASE/WHEN")?,
            });
            results.push(self.expr(&arm.result)?);
        }
        results.push(match otherwise {
            Some(e) => self.expr(e)?,
            None => Sx::null(),
        });
        let (results, ty) = self.unify(results, "CASE")?;
        let mut sql = String::from("CASE");
        for (condition, result) in conditions.iter().zip(&results) {
            sql += &format!(" WHEN {} THEN {}", condition.sql, result.sql);
        }
        if let Some(last) = results.last() {
            sql += &format!(" ELSE {} END", last.sql);
        }
        Ok(Sx::new(format!("({sql})"), ty))
    }

    /// Brings values to the type that they have in common; all literals are text.
    pub(super) fn unify(&mut self, values: Vec<Sx>, what: &str) -> Result<(Vec<Sx>, Ty), SqlError> {
        let mut ty = Ty::Unknown;
        for value in &values {
            if value.record.is_some() {
                return Err(unsupported("a row here"));
            }
            ty = Ty::common(ty, value.ty).ok_or_else(|| {
                let message = format!("{what} types {} and {} cannot be matched", ty.display(), value.ty.display());
                SqlError::new("42804", message)
            })?;
        }
        let ty = if ty == Ty::Unknown { Ty::Text } else { ty };
        let values = values.into_iter().map(|v| self.coerce(v, ty)).collect::<Result<Vec<_>, _>>()?;
        Ok((values, ty))
    }

    fn access(&mut self, root: &Expr, chain: &[AccessExpr]) -> Result<Sx, SqlError> {
        let mut sx = self.expr(root)?;
        for access in chain {
            sx = match access {
                AccessExpr::Dot(Expr::Identifier(ident)) => {
                    let name = super::fold(ident);
                    let fields = sx.record.ok_or_else(|| {
                        let ty = sx.ty.display();
                        SqlError::new("42809", format!("column notation .{name} applied to type {ty}, which is not a composite type"))
                    })?;
                    let found = fields.into_iter().find(|(n, _)| *n == name);
                    found.ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" not found in data type record")))?.1
                }
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let Ty::Array(elem) = sx.ty else { return Err(unsupported("a subscript of this type")) };
                    let index = self.expr(index)?;
                    let index = self.coerce(index, Ty::Int4)?;
                    let code = super::quote(&elem.code());
                    Sx::new(format!("pg_subscript({code}, {}, {})", sx.sql, index.sql), *elem)
                }
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                    let Ty::Array(_) = sx.ty else { return Err(unsupported("a subscript of this type")) };
                    let mut bounds = ["1".to_string(), i32::MAX.to_string()];
                    for (bound, given) in bounds.iter_mut().zip([lower_bound, upper_bound]) {
                        if let Some(given) = given {
                            let given = self.expr(given)?;
                            *bound = self.coerce(given, Ty::Int4)?.sql;
                        }
                    }
                    Sx::new(format!("pg_array_slice({}, {}, {})", sx.sql, bounds[0], bounds[1]), sx.ty)
                }
                _ => return Err(unsupported("this access")),
            };
        }
        Ok(sx)
    }
}

/// A chain as a balanced tree: SQLite recurses as deep as the tree is.
fn balanced(parts: &[String], word: &str) -> String {
    match parts {
        [one] => one.clone(),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            format!("({} {word} {})", balanced(left, word), balanced(right, word))
        }
    }
}

/// Functions that SQL calls without parentheses.
fn special(name: &str) -> Option<()> {
    const NAMES: [&str; 11] = [
        "current_user", "session_user", "user", "current_role", "current_catalog", "current_schema",
        "current_timestamp", "localtimestamp", "current_date", "current_time", "localtime",
    ];
    NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)).then_some(())
}

/// A number: the smallest integer type that holds it, else numeric.
fn number(text: &str) -> Result<Sx, SqlError> {
    if let Ok(int) = text.parse::<i64>() {
        let ty = if i32::try_from(int).is_ok() { Ty::Int4 } else { Ty::Int8 };
        return Ok(Sx::new(super::literal_sql(&rusqlite::types::Value::Integer(int)), ty));
    }
    let value = crate::sql::engine::value::input::parse(Ty::Numeric, text, None)?;
    Ok(Sx::new(super::literal_sql(&value), Ty::Numeric))
}
