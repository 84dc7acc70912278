//! Statements that are no queries: transactions, settings, LISTEN and the like. Their grammar is
//! small, and sqlparser does not know all of it.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::lex::{Piece, syntax_error};
use super::{Modes, Plan, TransactionPlan};
use crate::sql::engine::quote_ident;
use crate::sql::error::SqlError;

/// A cursor over the tokens of one statement.
pub(super) struct Words<'a> {
    query: &'a str,
    tokens: &'a [TokenWithSpan],
    end: Option<&'a TokenWithSpan>,
    at: usize,
}

type Parsed = Result<Plan, SqlError>;

impl<'a> Words<'a> {
    /// Behind the first word.
    pub(super) fn after_first(query: &'a str, piece: &'a Piece) -> Words<'a> {
        Words { query, tokens: &piece.tokens, end: piece.end.as_ref(), at: 1 }
    }

    /// How many tokens were taken.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Tokens in all.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Takes the next token if it is this one.
    pub(super) fn token(&mut self, token: &Token) -> bool {
        let is_it = self.peek().is_some_and(|t| t.token == *token);
        self.at += usize::from(is_it);
        is_it
    }

    /// Takes what stands in brackets, if a bracket comes next: from where to where.
    pub(super) fn brackets(&mut self) -> Result<Option<(usize, usize)>, SqlError> {
        if !self.token(&Token::LParen) {
            return Ok(None);
        }
        let (from, mut open) = (self.at, 1);
        while open > 0 {
            match self.next().map(|t| &t.token) {
                Some(Token::LParen) => open += 1,
                Some(Token::RParen) => open -= 1,
                Some(_) => {}
                None => return Err(syntax_error(self.query, self.end)),
            }
        }
        Ok(Some((from, self.at - 1)))
    }

    /// Takes a whole number with its sign, if one comes next.
    pub(super) fn whole_number(&mut self) -> Result<Option<i64>, SqlError> {
        let sign = if self.token(&Token::Minus) { -1 } else { 1 };
        let Some(Token::Number(digits, _)) = self.peek().map(|t| &t.token) else {
            return if sign < 0 { Err(self.error()) } else { Ok(None) };
        };
        let Ok(number) = digits.parse::<i64>() else { return Err(self.error()) };
        self.at += 1;
        Ok(Some(sign * number))
    }

    pub(super) fn peek(&self) -> Option<&'a TokenWithSpan> {
        self.tokens.get(self.at)
    }

    pub(super) fn error(&self) -> SqlError {
        syntax_error(self.query, self.peek().or(self.end))
    }

    fn next(&mut self) -> Option<&'a TokenWithSpan> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// Takes the next token if it is this unquoted word.
    pub(super) fn word(&mut self, word: &str) -> bool {
        match self.peek().map(|t| &t.token) {
            Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word) => {
                self.at += 1;
                true
            }
            _ => false,
        }
    }

    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        if words.iter().all(|w| self.word(w)) {
            return true;
        }
        self.at = start;
        false
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.word(word) { Ok(()) } else { Err(self.error()) }
    }

    pub(super) fn identifier(&mut self) -> Result<String, SqlError> {
        match self.peek().map(|t| &t.token) {
            Some(Token::Word(w)) => {
                self.at += 1;
                Ok(if w.quote_style.is_some() { w.value.clone() } else { w.value.to_ascii_lowercase() })
            }
            _ => Err(self.error()),
        }
    }

    /// `name` or `prefix.name`.
    pub(super) fn setting_name(&mut self) -> Result<String, SqlError> {
        let mut name = self.identifier()?;
        while matches!(self.peek().map(|t| &t.token), Some(Token::Period)) {
            self.at += 1;
            name = format!("{name}.{}", self.identifier()?);
        }
        Ok(name)
    }

    pub(super) fn end(&self) -> Result<(), SqlError> {
        if self.at >= self.tokens.len() { Ok(()) } else { Err(self.error()) }
    }

    /// One value of SET: a literal, a number or a bare word.
    pub(super) fn value(&mut self) -> Result<String, SqlError> {
        let Some(token) = self.next() else { return Err(syntax_error(self.query, self.end)) };
        match &token.token {
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => Ok(s.clone()),
            Token::DollarQuotedString(s) => Ok(s.value.clone()),
            Token::Number(n, _) => Ok(n.clone()),
            Token::Word(w) if w.quote_style.is_some() => Ok(w.value.clone()),
            Token::Word(w) => Ok(w.value.to_ascii_lowercase()),
            Token::Minus | Token::Plus => match self.next().map(|t| &t.token) {
                Some(Token::Number(n, _)) => Ok(format!("{}{n}", if token.token == Token::Minus { "-" } else { "" })),
                _ => Err(syntax_error(self.query, Some(token))),
            },
            _ => Err(syntax_error(self.query, Some(token))),
        }
    }

    /// `{TO | =} {value [, ...] | DEFAULT}`; `None` is DEFAULT.
    fn assigned(&mut self, name: &str) -> Result<Option<String>, SqlError> {
        if !self.word("to") {
            match self.peek().map(|t| &t.token) {
                Some(Token::Eq) => self.at += 1,
                _ => return Err(self.error()),
            }
        }
        if self.word("default") {
            self.end()?;
            return Ok(None);
        }
        // Its value is a list of names, kept as they would have to be written.
        let listed = |value: String| if name == "search_path" { quote_ident(&value) } else { value };
        let mut value = listed(self.value()?);
        while matches!(self.peek().map(|t| &t.token), Some(Token::Comma)) {
            if !matches!(name, "search_path" | "datestyle") && !name.contains('.') {
                return Err(SqlError::new("22023", format!("SET {name} takes only one argument")));
            }
            self.at += 1;
            value = format!("{value}, {}", listed(self.value()?));
        }
        self.end()?;
        Ok(Some(value))
    }

    fn modes(&mut self) -> Result<Modes, SqlError> {
        const LEVELS: [(&str, &[&str]); 4] = [
            ("serializable", &["serializable"]),
            ("repeatable read", &["repeatable", "read"]),
            ("read committed", &["read", "committed"]),
            ("read uncommitted", &["read", "uncommitted"]),
        ];
        let mut modes = Modes::default();
        while self.peek().is_some() {
            if self.words(&["isolation", "level"]) {
                let level = LEVELS.iter().find(|(_, words)| self.words(words));
                modes.isolation = Some(level.ok_or_else(|| self.error())?.0);
            } else if self.words(&["read", "only"]) {
                modes.read_only = Some(true);
            } else if self.words(&["read", "write"]) {
                modes.read_only = Some(false);
            } else if !(self.word("deferrable") || self.words(&["not", "deferrable"])) {
                return Err(self.error());
            }
            if matches!(self.peek().map(|t| &t.token), Some(Token::Comma)) {
                self.at += 1;
            }
        }
        Ok(modes)
    }
}

/// Parses a utility statement; `None` when the first word starts no utility statement.
pub fn parse(query: &str, piece: &Piece) -> Option<Parsed> {
    let tokens = &piece.tokens;
    let Some(Token::Word(first)) = tokens.first().map(|t| &t.token) else { return None };
    let mut w = Words { query, tokens, end: piece.end.as_ref(), at: 1 };
    let unsupported = |what: &str| Err(SqlError::new("0A000", format!("{what} is not supported")));
    Some(match first.value.to_ascii_lowercase().as_str() {
        "begin" => begin(&mut w, false),
        "start" => begin(&mut w, true),
        "commit" | "end" => finish(&mut w, true),
        "rollback" | "abort" => finish(&mut w, false),
        "savepoint" => w.identifier().and_then(|name| {
            w.end()?;
            Ok(Plan::Transaction(TransactionPlan::Savepoint(name)))
        }),
        "release" => {
            w.word("savepoint");
            w.identifier().and_then(|name| {
                w.end()?;
                Ok(Plan::Transaction(TransactionPlan::Release(name)))
            })
        }
        "set" => set(&mut w),
        "reset" => reset(&mut w),
        "show" => show(&mut w),
        "listen" => w.identifier().and_then(|c| w.end().map(|()| Plan::Listen(c))),
        "unlisten" => unlisten(&mut w),
        "notify" => unsupported("NOTIFY"),
        "discard" => discard(&mut w),
        "deallocate" => deallocate(&mut w),
        "alter" => alter(&mut w),
        "drop" => drop_object(&mut w),
        "create" => create(&mut w),
        "explain" => unsupported("EXPLAIN"),
        "prepare" | "execute" => unsupported("PREPARE and EXECUTE in SQL").map_err(|e| e.hint("Use the extended protocol.")),
        other @ ("lock" | "vacuum" | "analyze" | "analyse" | "checkpoint" | "do" | "call" | "grant" | "revoke"
        | "comment" | "security" | "reindex" | "cluster" | "refresh" | "import" | "load" | "reassign") => {
            unsupported(&other.to_ascii_uppercase())
        }
        _ => return None,
    })
}

fn begin(w: &mut Words<'_>, start: bool) -> Parsed {
    if start {
        w.expect("transaction")?;
    } else if !w.word("transaction") {
        w.word("work");
    }
    let modes = w.modes()?;
    Ok(Plan::Transaction(TransactionPlan::Begin { start, modes }))
}

fn finish(w: &mut Words<'_>, commit: bool) -> Parsed {
    if w.word("prepared") {
        return Err(SqlError::new("0A000", "two-phase commit is not supported"));
    }
    if !w.word("transaction") {
        w.word("work");
    }
    if !commit && w.word("to") {
        w.word("savepoint");
        let name = w.identifier()?;
        w.end()?;
        return Ok(Plan::Transaction(TransactionPlan::RollbackTo(name)));
    }
    let chain = w.words(&["and", "chain"]);
    if !chain {
        w.words(&["and", "no", "chain"]);
    }
    w.end()?;
    Ok(Plan::Transaction(if commit { TransactionPlan::Commit { chain } } else { TransactionPlan::Rollback { chain } }))
}

fn set(w: &mut Words<'_>) -> Parsed {
    let local = w.word("local");
    if w.words(&["session", "characteristics", "as", "transaction"]) {
        let modes = w.modes()?;
        return Ok(Plan::SetModes { modes, session: true });
    }
    if !local {
        w.word("session");
    }
    if w.word("transaction") {
        let modes = w.modes()?;
        return Ok(Plan::SetModes { modes, session: false });
    }
    if w.words(&["time", "zone"]) {
        let value = match w.word("interval") {
            true => {
                let value = format!("interval {}", w.value()?);
                w.words(&["hour", "to", "minute"]);
                value
            }
            false => w.value()?,
        };
        w.end()?;
        let value = Some(value).filter(|v| v != "default" && v != "local");
        return Ok(Plan::Set { name: "TimeZone".to_string(), value, local });
    }
    if w.word("names") {
        let value = if w.peek().is_some() { Some(w.value()?) } else { None };
        w.end()?;
        return Ok(Plan::Set { name: "client_encoding".to_string(), value, local });
    }
    // What the session is anyway.
    if w.words(&["role", "none"]) || w.words(&["authorization", "default"]) {
        w.end()?;
        return Ok(Plan::Set { name: "role".to_string(), value: None, local });
    }
    let assigned = |w: &Words<'_>| matches!(w.tokens.get(w.at + 1).map(|t| &t.token), Some(Token::Eq));
    if !assigned(w) && (w.word("role") || w.word("authorization")) {
        let value = Some(w.value()?);
        w.end()?;
        return Ok(Plan::Set { name: "role".to_string(), value, local });
    }
    let name = w.setting_name()?;
    let value = w.assigned(&name)?;
    Ok(Plan::Set { name, value, local })
}

fn reset(w: &mut Words<'_>) -> Parsed {
    let plan = if w.word("all") {
        Plan::Reset(None)
    } else if w.words(&["time", "zone"]) {
        Plan::Reset(Some("TimeZone".to_string()))
    } else if w.words(&["session", "authorization"]) || w.word("role") {
        Plan::Reset(Some("role".to_string()))
    } else {
        Plan::Reset(Some(w.setting_name()?))
    };
    w.end()?;
    Ok(plan)
}

fn show(w: &mut Words<'_>) -> Parsed {
    let plan = if w.word("all") {
        Plan::Show(None)
    } else if w.words(&["time", "zone"]) {
        Plan::Show(Some("TimeZone".to_string()))
    } else if w.words(&["transaction", "isolation", "level"]) {
        Plan::Show(Some("transaction_isolation".to_string()))
    } else {
        Plan::Show(Some(w.setting_name()?))
    };
    w.end()?;
    Ok(plan)
}

fn unlisten(w: &mut Words<'_>) -> Parsed {
    if matches!(w.peek().map(|t| &t.token), Some(Token::Mul)) {
        w.at += 1;
        w.end()?;
        return Ok(Plan::Unlisten(None));
    }
    let channel = w.identifier()?;
    w.end()?;
    Ok(Plan::Unlisten(Some(channel)))
}

fn discard(w: &mut Words<'_>) -> Parsed {
    let what = w.identifier()?;
    let all = match what.as_str() {
        "all" => true,
        "plans" | "sequences" | "temp" | "temporary" => false,
        _ => {
            w.at -= 1;
            return Err(w.error());
        }
    };
    w.end()?;
    let what = if what == "temporary" { "TEMP".to_string() } else { what.to_ascii_uppercase() };
    Ok(Plan::Discard { all, tag: format!("DISCARD {what}") })
}

fn deallocate(w: &mut Words<'_>) -> Parsed {
    w.word("prepare");
    let plan = if w.word("all") { Plan::Deallocate(None) } else { Plan::Deallocate(Some(w.identifier()?)) };
    w.end()?;
    Ok(plan)
}

fn alter(w: &mut Words<'_>) -> Parsed {
    let system = w.word("system");
    if !system {
        if w.word("extension") {
            let name = w.identifier()?;
            w.expect("update")?;
            let to = if w.word("to") { Some(w.value()?) } else { None };
            w.end()?;
            return Ok(Plan::UpdateExtension { name, to });
        }
        if !w.word("database") {
            return Err(SqlError::new("0A000", "this form of ALTER is not supported"));
        }
        w.identifier()?;
    }
    if w.word("reset") {
        let name = if w.word("all") { None } else { Some(w.setting_name()?) };
        w.end()?;
        return Ok(Plan::AlterSetting { system, name, value: None });
    }
    if !w.word("set") {
        return Err(w.error());
    }
    let name = w.setting_name()?;
    let value = w.assigned(&name)?;
    Ok(Plan::AlterSetting { system, name: Some(name), value })
}

fn drop_object(w: &mut Words<'_>) -> Parsed {
    let unsupported = || Err(SqlError::new("0A000", "DROP is not supported"));
    let Some(kind) = ["extension", "table", "view"].into_iter().find(|kind| w.word(kind)) else { return unsupported() };
    let if_exists = w.words(&["if", "exists"]);
    let name = w.setting_name()?;
    if !(w.word("cascade") || w.word("restrict")) && w.peek().is_some() {
        return unsupported();
    }
    w.end()?;
    Ok(Plan::Drop { kind, if_exists, name })
}

fn create(w: &mut Words<'_>) -> Parsed {
    if !w.word("extension") {
        return Err(SqlError::new("0A000", "this form of CREATE is not supported"));
    }
    let if_not_exists = w.words(&["if", "not", "exists"]);
    let name = w.identifier()?;
    w.word("with");
    while w.peek().is_some() {
        if !(w.word("cascade") || ((w.word("schema") || w.word("version")) && w.value().is_ok())) {
            return Err(w.error());
        }
    }
    Ok(Plan::CreateExtension { if_not_exists, name })
}
