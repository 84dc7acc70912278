//! The reference documentation, rendered from the registry.

use std::fmt::Write;

use super::registry;
use crate::sql::function::{Function, Handler, Returns};

/// `docs/reference/sql-functions.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# SQL functions\n\n<!-- Generated from monitor/src/sql/functions; a test keeps it fresh. -->\n\n\
         Any monitor answers any of these: a follower passes the call on to the leader. A call that lost its leader \
         under way fails with SQLSTATE 40001: whether it was done is not known, so look, then repeat it. \
         `node_active` is harmless to repeat and is repeated by the monitor itself.\n\n\
         Strict functions answer NULL, or no rows, as soon as one argument is NULL.\n",
    );
    for function in registry() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {}.{}\n\n", function.schema, function.name);
        let _ = write!(text, "```\n{}\n```\n\n{}\n", signature(function), function.doc);
        let _ = write!(
            text,
            "\n{}{}.\n",
            if matches!(function.handler, Handler::Write(_)) { "Writes" } else { "Reads" },
            if function.strict { ", strict" } else { ", takes NULLs" },
        );
    }
    text
}

/// The signature in SQL words.
pub fn signature(function: &Function) -> String {
    let mut text = format!("{}(", function.name);
    for (i, arg) in function.args.iter().enumerate() {
        let _ = write!(text, "{}{} {}", if i > 0 { ", " } else { "" }, arg.name, arg.ty.name());
        match arg.default {
            Some("NULL") => text.push_str(" DEFAULT NULL"),
            Some(default) => {
                let _ = write!(text, " DEFAULT '{default}'");
            }
            None => {}
        }
    }
    text.push_str(")\n  RETURNS ");
    match &function.returns {
        Returns::Scalar(ty) => text.push_str(ty.name()),
        Returns::Record(out) | Returns::SetOf(out) => {
            text.push_str(if matches!(function.returns, Returns::SetOf(_)) { "TABLE (" } else { "ROW (" });
            for (i, column) in out.iter().enumerate() {
                let _ = write!(text, "{}{} {}", if i > 0 { ", " } else { "" }, column.name, column.ty.name());
            }
            text.push(')');
        }
    }
    text
}
