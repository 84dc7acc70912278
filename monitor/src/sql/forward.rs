//! Statements on their way from a follower to the leader, and their answers.

use bincode::Options;
use failover::{Call, Reply};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backend::TransactionId;
use super::context::StatementContext;
use super::error::SqlError;
use super::execute::{Done, Fail};
use super::types::{Datum, PgType};

/// The version of these encodings: the first byte of each message.
const VERSION: u8 = 2;
/// Longest message that is decoded.
const LIMIT: u64 = 16 * 1024 * 1024;

/// What a follower asks of the leader's executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ForwardRequest {
    Statement { text: String, oids: Vec<u32>, params: Vec<(PgType, Datum)>, context: Box<StatementContext> },
    Commit { transaction: TransactionId, calls: Vec<Call>, expected: Vec<Reply> },
    Rollback { transaction: TransactionId },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ForwardReply {
    Done(Done),
    Sql(SqlError),
    NotLeader,
    NoLeader,
    Unknown,
}

impl From<Result<Done, Fail>> for ForwardReply {
    fn from(result: Result<Done, Fail>) -> ForwardReply {
        match result {
            Ok(done) => ForwardReply::Done(done),
            Err(Fail::Sql(e)) => ForwardReply::Sql(e),
            Err(Fail::NotLeader) => ForwardReply::NotLeader,
            Err(Fail::NoLeader) => ForwardReply::NoLeader,
            Err(Fail::Unknown) => ForwardReply::Unknown,
        }
    }
}

impl From<ForwardReply> for Result<Done, Fail> {
    fn from(reply: ForwardReply) -> Result<Done, Fail> {
        match reply {
            ForwardReply::Done(done) => Ok(done),
            ForwardReply::Sql(e) => Err(Fail::Sql(e)),
            ForwardReply::NotLeader => Err(Fail::NotLeader),
            ForwardReply::NoLeader => Err(Fail::NoLeader),
            ForwardReply::Unknown => Err(Fail::Unknown),
        }
    }
}

fn codec() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(LIMIT)
}

/// Encodes a request or a reply.
///
/// # Errors
/// XX000 for messages beyond the limit.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, SqlError> {
    let mut bytes = vec![VERSION];
    codec()
        .serialize_into(&mut bytes, message)
        .map_err(|e| SqlError::new("54000", format!("the statement or its result cannot be forwarded: {e}")))?;
    Ok(bytes)
}

/// Decodes a request or a reply.
///
/// # Errors
/// XX000 for other versions and for anything that is no message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SqlError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => codec()
            .deserialize(body)
            .map_err(|e| SqlError::new("XX000", format!("a message between monitors could not be read: {e}"))),
        Some((version, _)) => Err(SqlError::new("XX000", format!("a message between monitors has version {version}, known is {VERSION}"))
            .hint("The monitors run different releases: finish the upgrade.")),
        None => Err(SqlError::new("XX000", "a message between monitors is empty")),
    }
}
