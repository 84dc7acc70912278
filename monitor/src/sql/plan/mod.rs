//! What a statement asks for, worked out once and cached by its text.

mod cache;
mod call;
mod dml;
mod lex;
mod literal;
mod query;
mod utility;
mod wrapped;

use std::sync::Arc;

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::deep::deep;
use super::error::SqlError;
use super::function::Function;
use super::types::{Column, Datum, PgType};
use super::values;

pub use cache::PlanCache;
pub use lex::{Piece, locate, split};
pub use query::{fold, list_column};

/// The table that stands for the rows of a call in [`Plan::CallInQuery`].
pub const CALL_ROWS: &str = "pgquorum_call_rows";

/// A statement ready to be executed.
#[derive(Debug)]
pub struct Planned {
    /// The statement's own text: what is forwarded to the leader.
    pub text: String,
    pub plan: Plan,
    /// OIDs of the parameters: as declared, else as the statement suggests, else text.
    pub param_oids: Vec<u32>,
}

impl Planned {
    /// The query inside of a statement around one, or itself.
    pub fn query(&self) -> &Planned {
        match &self.plan {
            Plan::Declare { query, .. } | Plan::CopyOut { query, .. } => query,
            _ => self,
        }
    }

    pub fn param_types(&self) -> Vec<PgType> {
        self.param_oids.iter().map(|oid| values::type_of_oid(*oid).unwrap_or(PgType::Text)).collect()
    }
}

/// What a statement says about its transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    pub read_only: Option<bool>,
    pub isolation: Option<&'static str>,
}

#[derive(Debug)]
pub enum TransactionPlan {
    Begin { start: bool, modes: Modes },
    Commit { chain: bool },
    Rollback { chain: bool },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

#[derive(Debug)]
pub enum Plan {
    Empty,
    Transaction(TransactionPlan),
    /// `None` is DEFAULT.
    Set { name: String, value: Option<String>, local: bool },
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS.
    SetModes { modes: Modes, session: bool },
    /// `None`: all.
    Reset(Option<String>),
    /// `None`: all.
    Show(Option<String>),
    Listen(String),
    Unlisten(Option<String>),
    Discard { all: bool, tag: String },
    Deallocate(Option<String>),
    /// ALTER SYSTEM, ALTER DATABASE: SET or RESET (`value` is `None`); no name: RESET ALL.
    AlterSetting { system: bool, name: Option<String>, value: Option<String> },
    CreateExtension { if_not_exists: bool, name: String },
    /// ALTER EXTENSION ... UPDATE [TO version].
    UpdateExtension { name: String, to: Option<String> },
    /// DROP of a kind of object; extensions and tables.
    Drop { kind: &'static str, if_exists: bool, name: String },
    /// `SELECT set_config(name, value, is_local)`.
    SetConfig { args: [ArgSource; 3], column: String },
    /// `SELECT ... FROM pg_available_extensions WHERE name = ...`.
    AvailableExtensions(Box<Shape>),
    /// `SELECT ... FROM function(...)`, simple enough to need no engine.
    CallFrom { call: Call, shape: Box<Shape> },
    /// A writing function in FROM of a query that only the engine can answer: the call's rows take
    /// its place.
    CallInQuery { call: Call, query: Arc<Statement>, alias: String },
    /// Calls in the SELECT list, over the rows of a base query or one empty row.
    CallList(Box<CallList>),
    /// Answered by the read tier.
    Query(Arc<Statement>),
    /// Test mode: UPDATE of pgautofailover.node.
    UpdateNode(Box<UpdateNode>),
    /// DECLARE ... CURSOR FOR query.
    Declare { name: String, query: Arc<Planned> },
    /// FETCH, and MOVE when it gives no rows.
    Fetch { cursor: String, count: usize, rows: bool },
    /// `None`: all.
    CloseCursor(Option<String>),
    /// COPY ... TO STDOUT.
    CopyOut { query: Arc<Planned>, format: CopyFormat },
}

/// How COPY writes rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    pub csv: bool,
    pub header: bool,
    pub delimiter: char,
    pub null: String,
    /// This and the next one in CSV alone.
    pub quote: char,
    pub escape: char,
}

/// Where an argument's value comes from.
#[derive(Clone, Debug)]
pub enum ArgSource {
    /// Of the declared type already.
    Const(Datum, PgType),
    /// A parameter by its zero-based number, then casts in order.
    Param(usize, Vec<PgType>),
    /// Anything else: the engine evaluates it.
    Engine(Box<sqlparser::ast::Expr>),
}

/// A call of an API function: one source for each declared argument.
#[derive(Clone, Debug)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<ArgSource>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What a simple query does with the rows of its one source.
#[derive(Debug, Default)]
pub struct Shape {
    /// Source column and output column.
    pub output: Vec<(usize, Column)>,
    /// Source column, its type, wanted value.
    pub filter: Vec<(usize, PgType, ArgSource)>,
    /// Source column, descending, NULLs first.
    pub order: Vec<(usize, bool, bool)>,
    pub limit: Option<ArgSource>,
}

/// One item of a SELECT list with calls.
#[derive(Debug)]
pub enum Item {
    /// As many columns as the engine makes of it (more than one for `*`).
    Base,
    Call { call: Call, name: String },
}

#[derive(Debug)]
pub struct CallList {
    pub items: Vec<Item>,
    /// Evaluates the base items, then the arguments of all calls that are not simple. `None` when
    /// there is nothing to evaluate.
    pub base: Option<Arc<Statement>>,
    /// Trailing columns of `base` that are arguments.
    pub engine_args: usize,
}

#[derive(Debug)]
pub struct UpdateNode {
    /// Column names in the order of the base query's columns after `nodeid`.
    pub columns: Vec<String>,
    /// `SELECT nodeid, <new values> FROM pgautofailover.node WHERE ...`.
    pub base: Arc<Statement>,
    /// `SELECT <returning> FROM pgautofailover.node`: restricted by node id when run.
    pub returning: Option<Box<sqlparser::ast::Query>>,
}

/// Plans one statement.
///
/// # Errors
/// Syntax errors and everything else that PostgreSQL finds wrong before executing.
pub fn plan(query: &str, piece: &Piece, oids: &[u32], test_mode: bool) -> Result<Planned, SqlError> {
    deep(|| plan_here(query, piece, oids, test_mode))
}

fn plan_here(query: &str, piece: &Piece, oids: &[u32], test_mode: bool) -> Result<Planned, SqlError> {
    for oid in oids {
        if values::type_of_oid(*oid).is_none() {
            return Err(SqlError::new("0A000", format!("parameters of the type with OID {oid} are not supported")));
        }
    }
    if let Some(plan) = wrapped::parse(query, piece, oids, test_mode) {
        let planned = Planned { text: piece.text.clone(), plan: plan?, param_oids: Vec::new() };
        let param_oids = planned.query().param_oids.clone();
        return Ok(Planned { param_oids, ..planned });
    }
    let mut types = query::ParamTypes::new(query, oids);
    let plan = match utility::parse(query, piece) {
        Some(plan) => plan?,
        None => {
            let statement = parse(query, piece)?;
            query::route(query, statement, &mut types, test_mode)?
        }
    };
    Ok(Planned { text: piece.text.clone(), plan, param_oids: types.finish() })
}

fn parse(query: &str, piece: &Piece) -> Result<Statement, SqlError> {
    // sqlparser knows statements of other systems too, some of which nest without a limit.
    let starts_query = match piece.tokens.first().map(|t| &t.token) {
        Some(Token::LParen) => true,
        Some(Token::Word(w)) => matches!(
            w.keyword,
            Keyword::SELECT
                | Keyword::VALUES
                | Keyword::TABLE
                | Keyword::WITH
                | Keyword::INSERT
                | Keyword::UPDATE
                | Keyword::DELETE
                | Keyword::TRUNCATE
                | Keyword::MERGE
        ),
        _ => false,
    };
    if !starts_query {
        return Err(lex::syntax_error(query, piece.tokens.first()));
    }
    let dialect = PostgreSqlDialect {};
    let mut tokens = literal::as_casts(piece.tokens.clone());
    if let Some(Token::Word(word)) = tokens.first().map(|t| &t.token)
        && word.keyword == Keyword::TABLE
        && word.quote_style.is_none()
    {
        // `TABLE x`, which sqlparser does not take at the start: `SELECT * FROM x`.
        let all = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
        tokens.splice(..1, all.map(TokenWithSpan::wrap));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    match parser.parse_statement() {
        Ok(statement) => {
            let next = parser.peek_token();
            if next.token == Token::EOF {
                Ok(statement)
            } else {
                Err(lex::syntax_error(query, Some(&next)))
            }
        }
        Err(ParserError::RecursionLimitExceeded) => Err(SqlError::new("54001", "statement too complex")),
        Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => {
            let at = error_location(&message);
            let token = at.and_then(|(line, column)| {
                piece.tokens.iter().find(|t| t.span.start.line == line && t.span.start.column == column)
            });
            Err(lex::syntax_error(query, token.or(piece.end.as_ref())))
        }
    }
}

/// The location that sqlparser appends to its messages.
fn error_location(message: &str) -> Option<(u64, u64)> {
    let (_, tail) = message.rsplit_once(" at Line: ")?;
    let (line, column) = tail.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan_all(text: &str) -> Result<Vec<Planned>, SqlError> {
        split(text)?.iter().map(|piece| plan(text, piece, &[], true)).collect()
    }

    /// Pieces of statements, to be strung together in any way.
    const WORDS: &[&str] = &[
        "SELECT", "FROM", "WHERE", "SET", "ALTER", "SYSTEM", "DATABASE", "BEGIN", "COMMIT", "ROLLBACK", "TO", "=", ",",
        "(", ")", "*", ";", "$1", "$9", "'a'", "\"x\"", "1", "-", "::", "int", "pgautofailover", ".", "node_active",
        "get_nodes", "=>", ":=", "AS", "x", "ORDER", "BY", "LIMIT", "AND", "NULL", "RESET", "ALL", "SHOW", "LISTEN",
        "UPDATE", "node", "RETURNING", "CREATE", "EXTENSION", "IF", "NOT", "EXISTS", "TABLE", "VALUES", "WITH", "\u{e9}",
        "$$", "E'", "/*", "--", "\n", "register_node", "remove_node", "'default'", "CAST", "CASE", "DECLARE", "CURSOR", "FOR", "FETCH", "MOVE", "CLOSE",
        "COPY", "STDOUT", "CSV", "FORMAT", "HEADER",
    ];

    proptest! {
        #[test]
        fn planning_never_panics(text in "\\PC{0,80}") {
            let _ = plan_all(&text);
        }

        #[test]
        fn planning_word_salad_never_panics(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..25)) {
            let _ = plan_all(&words.join(" "));
        }
    }

    #[test]
    fn calls_are_planned_without_the_engine() {
        for text in [
            "SELECT * FROM pgautofailover.node_active($1, $2, $3, $4::pgautofailover.replication_state, $5, $6, $7, $8)",
            "SELECT * FROM pgautofailover.get_nodes($1, $2) WHERE node_id = $3",
            "SELECT * FROM pgautofailover.get_other_nodes($1) ORDER BY node_id",
            "SELECT default_version, installed_version  FROM pg_available_extensions WHERE name = $1",
            "select pgautofailover.synchronous_standby_names($1, $2)",
        ] {
            let planned = plan_all(text).unwrap();
            assert!(!matches!(planned[0].plan, Plan::Query(_)), "{text}");
            assert!(!planned[0].param_oids.contains(&0), "{text}: {:?}", planned[0].param_oids);
        }
    }
}
