//! `pg_lsn '0/10'`: constants that name their type.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Types that sqlparser does not know in this place.
const TYPES: &[&str] = &[
    "bpchar", "inet", "name", "oid", "pg_lsn", "regnamespace", "regproc", "regrole", "regtype", "replication_state", "uuid",
    "xid",
];
/// With a schema in front it knows none.
const SCHEMAS: &[&str] = &["pg_catalog", "pgautofailover"];

/// Writes them as `'0/10'::pg_lsn`, which means the same.
pub fn as_casts(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let name = match token.token {
            Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::DollarQuotedString(_) => {
                type_name(&out)
            }
            _ => 0,
        };
        let ty = out.split_off(out.len() - name);
        let cast = (name > 0).then_some(TokenWithSpan { token: Token::DoubleColon, span: token.span });
        out.push(token);
        out.extend(cast.into_iter().chain(ty));
    }
    out
}

/// How many tokens at the end name a type.
fn type_name(tokens: &[TokenWithSpan]) -> usize {
    let is = |token: &TokenWithSpan, names: &[&str]| match &token.token {
        Token::Word(w) if w.quote_style.is_some() => names.contains(&w.value.as_str()),
        Token::Word(w) => names.iter().any(|name| name.eq_ignore_ascii_case(&w.value)),
        _ => false,
    };
    match tokens {
        [.., schema, dot, name] if dot.token == Token::Period => {
            let qualified = matches!(name.token, Token::Word(_)) && is(schema, SCHEMAS);
            if qualified { 3 } else { 0 }
        }
        [.., name] if is(name, TYPES) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sql::plan::split;

    fn rewritten(query: &str) -> String {
        let tokens = as_casts(split(query).unwrap().remove(0).tokens);
        tokens.iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn constants_that_name_their_type_are_casts() {
        assert_eq!(rewritten("select pg_lsn '0/10' - PG_LSN '0/0'"), "select '0/10' :: pg_lsn - '0/0' :: PG_LSN");
        let state = "select pgautofailover.replication_state 'primary'";
        assert_eq!(rewritten(state), "select 'primary' :: pgautofailover . replication_state");
        for other in ["select name , 'x'", "select n . name 'x'", "select 'a' 'b'", "'x'", "select f ( oid , 'x' )"] {
            assert_eq!(rewritten(other), other);
        }
    }
}
