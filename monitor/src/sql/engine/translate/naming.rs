//! The names of output columns, and ORDER BY terms.

use sqlparser::ast::{Expr, OrderBy, OrderByExpr, OrderByKind, OrderBySort, Value};

use super::{fold, qualified, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// The name that PostgreSQL gives to an output column without an alias.
pub fn column_name(expr: &Expr) -> String {
    figure(expr).unwrap_or_else(|| "?column?".to_string())
}

fn figure(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => fold(ident),
        Expr::CompoundIdentifier(parts) => fold(parts.last()?),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(sqlparser::ast::AccessExpr::Dot(Expr::Identifier(ident))) => fold(ident),
            _ => return figure(root),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return figure(inner),
        Expr::AtTimeZone { .. } => "timezone".to_string(),
        Expr::Function(f) => qualified(&f.name).ok()?.1,
        Expr::Cast { expr, data_type, .. } => {
            return figure(expr).or_else(|| super::datatype::type_name(data_type));
        }
        Expr::TypedString(typed) => super::datatype::type_name(&typed.data_type)?,
        Expr::Interval(_) => "interval".to_string(),
        Expr::Case { else_result, .. } => {
            let named = else_result.as_deref().and_then(|e| match e {
                Expr::Value(_) => None,
                e => figure(e),
            });
            named.unwrap_or_else(|| "case".to_string())
        }
        Expr::Exists { .. } => "exists".to_string(),
        Expr::Subquery(query) => return subquery_name(query),
        Expr::Array(_) => "array".to_string(),
        Expr::Tuple(_) => "row".to_string(),
        Expr::Extract { .. } => "extract".to_string(),
        Expr::Position { .. } => "position".to_string(),
        Expr::Substring { .. } => "substring".to_string(),
        Expr::Overlay { .. } => "overlay".to_string(),
        Expr::Ceil { .. } => "ceil".to_string(),
        Expr::Floor { .. } => "floor".to_string(),
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(sqlparser::ast::TrimWhereField::Leading) => "ltrim".to_string(),
            Some(sqlparser::ast::TrimWhereField::Trailing) => "rtrim".to_string(),
            _ => "btrim".to_string(),
        },
        Expr::Value(v) if matches!(v.value, Value::Boolean(_)) => "bool".to_string(),
        _ => return None,
    })
}

fn subquery_name(query: &sqlparser::ast::Query) -> Option<String> {
    use sqlparser::ast::{SelectItem, SetExpr};
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                return match select.projection.first()? {
                    SelectItem::UnnamedExpr(e) => figure(e),
                    SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                    _ => None,
                };
            }
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => return subquery_name(inner),
            SetExpr::Values(_) => return Some("column1".to_string()),
            _ => return None,
        }
    }
}

/// The terms of an ORDER BY clause.
pub fn order_terms(order_by: &OrderBy) -> Result<&[OrderByExpr], SqlError> {
    match &order_by.kind {
        OrderByKind::Expressions(terms) if order_by.interpolate.is_none() => Ok(terms),
        _ => Err(unsupported("this ORDER BY clause")),
    }
}

/// Direction and NULL placement, as PostgreSQL's defaults have it: NULL is larger than all.
pub fn sort_suffix(ty: Ty, term: &OrderByExpr) -> String {
    let descending = match &term.options.sort {
        Some(OrderBySort::Desc) => true,
        Some(OrderBySort::Using(op)) => op.to_string().ends_with('>'),
        _ => false,
    };
    let nulls_first = term.options.nulls_first.unwrap_or(descending);
    let collation = if ty == Ty::Numeric { " COLLATE PGNUM" } else { "" };
    let direction = if descending { "DESC" } else { "ASC" };
    format!("{collation} {direction} NULLS {}", if nulls_first { "FIRST" } else { "LAST" })
}
