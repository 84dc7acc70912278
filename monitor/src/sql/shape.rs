//! Filter, order and projection of a simple query's rows.

use std::cmp::Ordering;

use super::engine::Param;
use super::error::SqlError;
use super::plan::{ArgSource, Shape};
use super::types::{Column, Datum, PgType, RowSet};
use super::values;

/// The value of a simple argument, converted to the type that is wanted.
///
/// # Errors
/// What the conversion refuses.
pub fn value(source: &ArgSource, wanted: PgType, params: &[Param]) -> Result<Datum, SqlError> {
    match source {
        ArgSource::Const(datum, from) => values::cast(datum.clone(), *from, wanted),
        ArgSource::Param(index, casts) => {
            let param = params.get(*index).ok_or_else(|| {
                SqlError::new("42P02", format!("there is no parameter ${}", index + 1))
            })?;
            let (mut datum, mut ty) = (param.value.clone(), param.ty);
            for cast in casts {
                datum = values::cast(datum, ty, *cast)?;
                ty = *cast;
            }
            values::cast(datum, ty, wanted)
        }
        ArgSource::Engine(_) => Err(SqlError::new("XX000", "an expression was not evaluated")),
    }
}

/// What a simple query makes of its source's rows.
///
/// # Errors
/// Values that do not convert; a negative LIMIT.
pub fn apply(shape: &Shape, mut rows: Vec<Vec<Datum>>, params: &[Param]) -> Result<RowSet, SqlError> {
    for (column, ty, source) in &shape.filter {
        let wanted = value(source, *ty, params)?;
        rows.retain(|row| wanted != Datum::Null && row.get(*column) == Some(&wanted));
    }
    if !shape.order.is_empty() {
        rows.sort_by(|a, b| compare_rows(shape, a, b));
    }
    if let Some(limit) = &shape.limit {
        // NULL is no limit.
        if let Datum::Int(n) = value(limit, PgType::Int8, params)? {
            let n = usize::try_from(n).map_err(|_| SqlError::new("2201W", "LIMIT must not be negative"))?;
            rows.truncate(n);
        }
    }
    let identity = shape.output.iter().enumerate().all(|(i, (from, _))| i == *from);
    let whole = rows.first().is_none_or(|row| row.len() == shape.output.len());
    if !(identity && whole) {
        rows = rows
            .into_iter()
            .map(|row| shape.output.iter().map(|(from, _)| row.get(*from).cloned().unwrap_or(Datum::Null)).collect())
            .collect();
    }
    Ok(RowSet { columns: columns(shape), rows })
}

/// The result columns.
pub fn columns(shape: &Shape) -> Vec<Column> {
    shape.output.iter().map(|(_, column)| column.clone()).collect()
}

fn compare_rows(shape: &Shape, a: &[Datum], b: &[Datum]) -> Ordering {
    for (column, descending, nulls_first) in &shape.order {
        let (x, y) = (a.get(*column).unwrap_or(&Datum::Null), b.get(*column).unwrap_or(&Datum::Null));
        let nulls = |null: bool| if null == *nulls_first { Ordering::Less } else { Ordering::Greater };
        let order = match (x, y) {
            (Datum::Null, Datum::Null) => Ordering::Equal,
            (Datum::Null, _) => nulls(true),
            (_, Datum::Null) => nulls(false),
            _ if *descending => compare(y, x),
            _ => compare(x, y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn compare(x: &Datum, y: &Datum) -> Ordering {
    match (x, y) {
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Lsn(a), Datum::Lsn(b)) => a.cmp(b),
        (Datum::State(a), Datum::State(b)) => a.cmp(b),
        (Datum::Time(a), Datum::Time(b)) => a.cmp(b),
        (Datum::Float(a), Datum::Float(b)) => a.total_cmp(b),
        _ => values::to_text(x).cmp(&values::to_text(y)),
    }
}
