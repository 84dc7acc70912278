//! Arguments of calls, and the choice among overloads.

use sqlparser::ast::{
    BinaryOperator, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, UnaryOperator, Value,
};
use sqlparser::tokenizer::Location;

use super::query::{ParamTypes, data_type, fold};
use super::{ArgSource, Call};
use crate::sql::error::SqlError;
use crate::sql::function::{Function, Returns};
use crate::sql::functions;
use crate::sql::types::{Datum, PgType};
use crate::sql::values;

/// An argument as written: its name if it has one, where its value comes from, its type.
pub struct Given {
    pub name: Option<String>,
    pub source: ArgSource,
    pub ty: PgType,
}

/// Reads an expression: constants and parameters (with casts) directly, anything else is left to
/// the engine.
///
/// # Errors
/// A constant that its cast refuses.
pub fn source(expr: &Expr, types: &mut ParamTypes<'_>) -> Result<(ArgSource, PgType), SqlError> {
    Ok(match expr {
        Expr::Nested(inner) => source(inner, types)?,
        Expr::Value(value) => match literal(&value.value) {
            Some((datum, ty)) => (ArgSource::Const(datum, ty), ty),
            None => match &value.value {
                Value::Placeholder(name) => {
                    let index = types.placeholder(name)?;
                    (ArgSource::Param(index, Vec::new()), types.of(index))
                }
                _ => (ArgSource::Engine(Box::new(expr.clone())), PgType::Unknown),
            },
        },
        Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: inner } => match &**inner {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => {
                    let sign = if matches!(op, UnaryOperator::Minus) { "-" } else { "" };
                    let (datum, ty) = number(&format!("{sign}{digits}"));
                    (ArgSource::Const(datum, ty), ty)
                }
                _ => (ArgSource::Engine(Box::new(expr.clone())), PgType::Unknown),
            },
            _ => (ArgSource::Engine(Box::new(expr.clone())), PgType::Unknown),
        },
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type: ty, .. } => {
            let Some(ty) = data_type(ty) else {
                return Ok((ArgSource::Engine(Box::new(expr.clone())), PgType::Unknown));
            };
            match source(inner, types)? {
                (ArgSource::Const(datum, from), _) => (ArgSource::Const(values::cast(datum, from, ty)?, ty), ty),
                (ArgSource::Param(index, mut casts), _) => {
                    if casts.is_empty() {
                        types.suggest(index, ty);
                    }
                    casts.push(ty);
                    (ArgSource::Param(index, casts), ty)
                }
                (ArgSource::Engine(_), _) => (ArgSource::Engine(Box::new(expr.clone())), ty),
            }
        }
        Expr::Identifier(name) => (ArgSource::Engine(Box::new(expr.clone())), column_type(&fold(name))),
        Expr::CompoundIdentifier(parts) => {
            let ty = parts.last().map_or(PgType::Unknown, |p| column_type(&fold(p)));
            (ArgSource::Engine(Box::new(expr.clone())), ty)
        }
        _ => (ArgSource::Engine(Box::new(expr.clone())), PgType::Unknown),
    })
}

/// The types of columns that people pass to functions.
fn column_type(name: &str) -> PgType {
    match name {
        "nodeid" | "node_id" | "sysidentifier" => PgType::Int8,
        "groupid" | "group_id" | "nodeport" | "node_port" | "candidatepriority" => PgType::Int4,
        "nodename" | "nodehost" | "formationid" | "node_name" | "node_host" | "nodecluster" => PgType::Text,
        "replicationquorum" => PgType::Bool,
        "goalstate" | "reportedstate" => PgType::ReplicationState,
        "reportedlsn" => PgType::PgLsn,
        _ => PgType::Unknown,
    }
}

fn literal(value: &Value) -> Option<(Datum, PgType)> {
    Some(match value {
        Value::Number(digits, _) => number(digits),
        Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) => (Datum::Text(s.clone()), PgType::Unknown),
        Value::DollarQuotedString(s) => (Datum::Text(s.value.clone()), PgType::Unknown),
        Value::Boolean(b) => (Datum::Bool(*b), PgType::Bool),
        Value::Null => (Datum::Null, PgType::Unknown),
        _ => return None,
    })
}

fn number(digits: &str) -> (Datum, PgType) {
    match digits.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => (Datum::Int(value), PgType::Int4),
        Ok(value) => (Datum::Int(value), PgType::Int8),
        Err(_) => (Datum::Text(digits.to_string()), PgType::Numeric),
    }
}

/// The arguments of a call in FROM or in the SELECT list.
///
/// # Errors
/// 42601 for forms that are no plain arguments, and what [`source`] refuses.
pub fn given(args: &[FunctionArg], types: &mut ParamTypes<'_>) -> Result<Vec<Given>, SqlError> {
    let mut all: Vec<Given> = Vec::with_capacity(args.len());
    for arg in args {
        let (name, arg) = match arg {
            // `name := value`, which sqlparser takes for an operator.
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Assignment, right })) => {
                let Expr::Identifier(name) = &**left else {
                    return Err(SqlError::new("42601", "argument name expected"));
                };
                let (source, ty) = source(right, types)?;
                push(&mut all, Some(fold(name)), source, ty)?;
                continue;
            }
            FunctionArg::Unnamed(arg) => (None, arg),
            FunctionArg::Named { name, arg, .. } => (Some(fold(name)), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(fold(name)), arg),
            FunctionArg::ExprNamed { .. } => return Err(SqlError::new("42601", "argument name expected")),
        };
        let FunctionArgExpr::Expr(expr) = arg else {
            return Err(SqlError::new("42601", "this form of argument is not allowed here"));
        };
        let (source, ty) = source(expr, types)?;
        push(&mut all, name, source, ty)?;
    }
    Ok(all)
}

fn push(all: &mut Vec<Given>, name: Option<String>, source: ArgSource, ty: PgType) -> Result<(), SqlError> {
    if name.is_none() && all.last().is_some_and(|g| g.name.is_some()) {
        return Err(SqlError::new("42601", "positional argument cannot follow named argument"));
    }
    if let Some(name) = &name
        && all.iter().any(|g| g.name.as_ref() == Some(name))
    {
        return Err(SqlError::new("42601", format!("argument name \"{name}\" used more than once")));
    }
    all.push(Given { name, source, ty });
    Ok(())
}

/// Plain arguments, or `None` for forms with DISTINCT, ORDER BY and the like.
pub fn plain_arguments(args: &FunctionArguments) -> Option<&[FunctionArg]> {
    match args {
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => Some(&list.args),
        _ => None,
    }
}

/// How well a value of a known type is taken for another: `None` not at all.
fn conversion(from: PgType, to: PgType) -> Option<u32> {
    use PgType::{Float8, Int4, Int8, Name, Numeric, Text, Unknown};
    match (from, to) {
        _ if from == to => Some(0),
        (Unknown, _) => Some(0),
        (Int4, Int8) | (Name, Text) => Some(2),
        (Int4 | Int8, Numeric | Float8) | (Text, Name) | (PgType::Oid, Int8) => Some(3),
        _ => None,
    }
}

/// A function that the arguments fit, with the given argument of each declared one.
struct Candidate {
    function: &'static Function,
    slots: Vec<Option<usize>>,
    cost: u32,
}

impl Candidate {
    /// The declared type that given argument `i` is taken for.
    fn type_of(&self, i: usize) -> Option<PgType> {
        let at = self.slots.iter().position(|s| *s == Some(i))?;
        self.function.args.get(at).map(|a| a.ty)
    }
}

/// Chooses the overload that the arguments fit, as PostgreSQL would: the one that needs the least
/// conversion; where literals of unknown type leave a choice, the one that takes text.
///
/// # Errors
/// 42883 when none fits, 42725 when several do.
pub fn resolve(
    schema: &str,
    name: &str,
    at: Location,
    given: Vec<Given>,
    types: &mut ParamTypes<'_>,
) -> Result<Call, SqlError> {
    let mut candidates: Vec<Candidate> = functions::overloads(schema, name)
        .filter_map(|function| {
            let slots = place(function, &given)?;
            let costs = slots.iter().zip(function.args).filter_map(|(slot, arg)| {
                slot.and_then(|i| given.get(i)).map(|g| conversion(g.ty, arg.ty))
            });
            let cost = costs.sum::<Option<u32>>()?;
            Some(Candidate { function, slots, cost })
        })
        .collect();
    let least = candidates.iter().map(|c| c.cost).min();
    candidates.retain(|c| Some(c.cost) == least);
    let mut clear = true;
    if candidates.len() > 1 {
        let unknown = given.iter().enumerate().filter(|(_, g)| g.ty == PgType::Unknown).map(|(i, _)| i);
        let mut textual = Vec::new();
        for i in unknown {
            let mut seen: Vec<Option<PgType>> = candidates.iter().map(|c| c.type_of(i)).collect();
            seen.dedup();
            if seen.contains(&Some(PgType::Text)) {
                textual.push(i);
            } else {
                clear &= seen.len() == 1;
            }
        }
        candidates.retain(|c| textual.iter().all(|i| c.type_of(*i) == Some(PgType::Text)));
    }
    let words = || {
        let words: Vec<String> = given
            .iter()
            .map(|g| match &g.name {
                Some(name) => format!("{name} => {}", g.ty.name()),
                None => g.ty.name().to_string(),
            })
            .collect();
        format!("function {schema}.{name}({})", words.join(", "))
    };
    let several = candidates.len() > 1 || !clear;
    let found = candidates.pop();
    let Some(Candidate { function, slots, .. }) = found.filter(|_| !several) else {
        let error = if several {
            SqlError::new("42725", format!("{} is not unique", words()))
                .hint("Could not choose a best candidate function. You might need to add explicit type casts.")
        } else {
            SqlError::new("42883", format!("{} does not exist", words()))
                .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
        };
        return Err(types.at(error, at));
    };
    let mut given: Vec<Option<Given>> = given.into_iter().map(Some).collect();
    let mut args = Vec::with_capacity(function.args.len());
    for (slot, arg) in slots.into_iter().zip(function.args) {
        let taken = slot.and_then(|i| given.get_mut(i)).and_then(Option::take);
        args.push(match taken.map(|g| g.source) {
            Some(ArgSource::Const(datum, from)) => ArgSource::Const(values::cast(datum, from, arg.ty)?, arg.ty),
            Some(ArgSource::Param(index, casts)) => {
                if casts.is_empty() {
                    types.suggest(index, arg.ty);
                }
                ArgSource::Param(index, casts)
            }
            Some(engine) => engine,
            None => match arg.default {
                Some("NULL") | None => ArgSource::Const(Datum::Null, arg.ty),
                Some(text) => ArgSource::Const(values::parse(arg.ty, text)?, arg.ty),
            },
        });
    }
    Ok(Call { function, args })
}

/// For each declared argument the index of the given one; `None` when the call does not fit.
fn place(function: &Function, given: &[Given]) -> Option<Vec<Option<usize>>> {
    let mut slots = vec![None; function.args.len()];
    for (i, g) in given.iter().enumerate() {
        let at = match &g.name {
            None => i,
            Some(name) => function.args.iter().position(|a| a.name == name)?,
        };
        let slot = slots.get_mut(at)?;
        if slot.is_some() {
            return None;
        }
        *slot = Some(i);
    }
    let complete = slots.iter().zip(function.args).all(|(slot, arg)| slot.is_some() || arg.default.is_some());
    complete.then_some(slots)
}

/// The type of the column that a call makes in a SELECT list. A row type is shown as its text.
pub fn list_type(function: &Function) -> PgType {
    match function.returns {
        Returns::Scalar(ty) => ty,
        Returns::Record(_) | Returns::SetOf(_) => PgType::Text,
    }
}

/// The name of a function without its schema, as an identifier list has it.
pub fn split_name(parts: &[Ident]) -> Option<(String, String)> {
    match parts {
        [schema, name] => Some((fold(schema), fold(name))),
        [_, schema, name] => Some((fold(schema), fold(name))),
        _ => None,
    }
}
