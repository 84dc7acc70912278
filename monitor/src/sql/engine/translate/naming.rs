//! The names of output columns, and ORDER BY terms.

use sqlparser::ast::{Expr, OrderBy, OrderByExpr, OrderByKind, OrderBySort};

use super::{fold, qualified, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// The name that PostgreSQL gives to an output column without an alias.
pub fn column_name(expr: &Expr) -> String {
    figure(expr).map(|f| f.0).unwrap_or_else(|| "?column?".to_string())
}

/// A name, and whether it is a strong one: a cast or a CASE lends its own name to what has none or
/// a weak one.
fn figure(expr: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_string(), true));
    let weak = |name: &str| Some((name.to_string(), false));
    match expr {
        Expr::Identifier(ident) => strong(&fold(ident)),
        Expr::CompoundIdentifier(parts) => strong(&fold(parts.last()?)),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(sqlparser::ast::AccessExpr::Dot(Expr::Identifier(ident))) => strong(&fold(ident)),
            _ => figure(root),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Function(f) => strong(&qualified(&f.name).ok()?.1),
        Expr::Cast { expr, data_type, .. } => {
            figure(expr).filter(|f| f.1).or_else(|| weak(&super::datatype::type_name(data_type)?))
        }
        Expr::TypedString(typed) => weak(&super::datatype::type_name(&typed.data_type)?),
        Expr::Interval(_) => weak("interval"),
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(figure).filter(|f| f.1).or_else(|| weak("case"))
        }
        Expr::Exists { .. } => strong("exists"),
        Expr::Subquery(query) => subquery_name(query),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { shorthand, .. } => strong(if *shorthand { "substr" } else { "substring" }),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(sqlparser::ast::TrimWhereField::Leading) => "ltrim",
            Some(sqlparser::ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        _ => None,
    }
}

fn subquery_name(query: &sqlparser::ast::Query) -> Option<(String, bool)> {
    use sqlparser::ast::{SelectItem, SetExpr};
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                return match select.projection.first()? {
                    SelectItem::UnnamedExpr(e) => figure(e),
                    SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
                    _ => None,
                };
            }
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => return subquery_name(inner),
            SetExpr::Values(_) => return Some(("column1".to_string(), true)),
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
