//! The monitor's own reading functions, called from inside a query.

use failover::WallTime;
use rusqlite::functions::Context as Call;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::{QueryContext, Shared, bounded, int_arg, text_value, volatile, with};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::input::{lsn_from_i64, state_from_i64};
use crate::sql::engine::value::output;
use crate::sql::error::SqlError;
use crate::sql::function::{Handler, Returns};
use crate::sql::types::{Datum, PgType};

pub fn register(c: &Connection, shared: &Shared) -> Result<()> {
    let shared = shared.clone();
    // Number of the function in the registry, then its arguments in order, defaults filled in.
    volatile(c, "pg_api", -1, move |a| with(&shared, |context| call(context, a)).map(text_value))
}

fn call(context: &QueryContext, a: &Call<'_>) -> std::result::Result<String, SqlError> {
    let gone = || SqlError::new("XX000", "function registry changed under a query");
    let function = usize::try_from(int_arg(a, 0)).ok().and_then(|i| context.functions.get(i)).ok_or_else(gone)?;
    let (Some(view), Handler::Read(handler)) = (&context.view, &function.handler) else { return Err(gone()) };
    let types: Vec<Ty> = match &function.returns {
        Returns::Scalar(ty) => vec![Ty::from_wire(*ty)],
        Returns::Record(out) | Returns::SetOf(out) => out.iter().map(|c| Ty::from_wire(c.ty)).collect(),
    };
    let mut args = Vec::with_capacity(function.args.len());
    for (i, arg) in function.args.iter().enumerate() {
        args.push(if i + 1 < a.len() { datum(arg.ty, a.get_raw(i + 1)) } else { Datum::Null });
    }
    let rows = if function.strict && args.contains(&Datum::Null) {
        match function.returns {
            Returns::SetOf(_) => Vec::new(),
            _ => vec![vec![Datum::Null; types.len()]],
        }
    } else {
        handler(view, &args)?
    };
    let mut out = String::from("[");
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i > 0 { ",[" } else { "[" });
        for (j, (value, ty)) in row.iter().zip(&types).enumerate() {
            if j > 0 {
                out.push(',');
            }
            super::sets::push_value(&mut out, &output::stored(*ty, value)?);
        }
        out.push(']');
        bounded(out.len() / 2)?;
    }
    out.push(']');
    Ok(out)
}

/// A stored value as the registry's functions take it.
fn datum(ty: PgType, value: ValueRef<'_>) -> Datum {
    match (ty, value) {
        (_, ValueRef::Null) => Datum::Null,
        (PgType::Bool, ValueRef::Integer(i)) => Datum::Bool(i != 0),
        (PgType::PgLsn, ValueRef::Integer(i)) => Datum::Lsn(lsn_from_i64(i)),
        (PgType::Timestamptz, ValueRef::Integer(i)) => Datum::Time(WallTime(i)),
        (PgType::ReplicationState, ValueRef::Integer(i)) => state_from_i64(i).map(Datum::State).unwrap_or(Datum::Null),
        (_, ValueRef::Integer(i)) => Datum::Int(i),
        (_, ValueRef::Real(f)) => Datum::Float(f),
        (ty, other) => output::text(Ty::from_wire(ty), other).map(Datum::Text).unwrap_or(Datum::Null),
    }
}

