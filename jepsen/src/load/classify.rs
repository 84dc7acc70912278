//! What an answer of PostgreSQL or of a monitor proves.

use tokio::time::error::Elapsed;

use crate::history::Outcome;
use crate::sql::{Row, SqlError};

/// An answer within a deadline.
pub type Answer = Result<Result<Vec<Row>, SqlError>, Elapsed>;

/// The notice with which PostgreSQL says that a commit stands here and perhaps nowhere else.
pub fn cancelled_wait(notices: &[String]) -> Option<&String> {
    notices.iter().find(|notice| notice.contains("synchronous replication"))
}

/// Errors of PostgreSQL that prove that a statement, or a COMMIT, did not take effect.
const PROVED: [&str; 8] = ["25006", "40001", "40P01", "42P01", "53300", "23505", "23514", "55P03"];

/// An autocommitted statement, or a COMMIT, that was sent.
pub fn commit(answer: Answer, notices: &[String], ignore_notices: bool) -> Result<Vec<Row>, Outcome> {
    let rows = match answer {
        Err(_) => return Err(Outcome::Info("no answer within the deadline".to_owned())),
        Ok(Err(error)) if error.code().is_some_and(|code| PROVED.contains(&code)) => {
            return Err(Outcome::Fail(error.to_string()));
        }
        Ok(Err(error)) => return Err(Outcome::Info(error.to_string())),
        Ok(Ok(rows)) => rows,
    };
    match cancelled_wait(notices) {
        Some(notice) if !ignore_notices => Err(Outcome::Info(notice.clone())),
        _ => Ok(rows),
    }
}

/// A statement inside a transaction: whatever went wrong, without its COMMIT nothing takes effect.
pub fn before_commit(answer: Answer) -> Result<Vec<Row>, Outcome> {
    match answer {
        Err(_) => Err(Outcome::Fail("no answer within the deadline".to_owned())),
        Ok(Err(error)) => Err(Outcome::Fail(error.to_string())),
        Ok(Ok(rows)) => Ok(rows),
    }
}

/// A call of a monitor. 40001 says that it is not known whether the call was done.
pub fn call(answer: Answer) -> Result<Vec<Row>, Outcome> {
    match answer {
        Err(_) => Err(Outcome::Info("no answer within the deadline".to_owned())),
        Ok(Err(error)) if error.code() == Some("57P03") => Err(Outcome::Fail(error.to_string())),
        Ok(Err(error)) => Err(Outcome::Info(error.to_string())),
        Ok(Ok(rows)) => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> Answer {
        Ok(Err(SqlError::Server { code: code.into(), message: String::new() }))
    }

    #[test]
    fn only_a_proved_rollback_is_a_failure() {
        for proved in ["25006", "40001", "23505"] {
            assert!(matches!(commit(server(proved), &[], false), Err(Outcome::Fail(_))), "{proved}");
        }
        for unsure in ["57P01", "57P02", "57P03", "08006", "XX000", "57014"] {
            assert!(matches!(commit(server(unsure), &[], false), Err(Outcome::Info(_))), "{unsure}");
        }
        assert!(matches!(commit(Ok(Err(SqlError::Deadline)), &[], false), Err(Outcome::Info(_))));
        let reset = Ok(Err(SqlError::Connection("reset".into())));
        assert!(matches!(commit(reset, &[], false), Err(Outcome::Info(_))));
        assert!(matches!(before_commit(server("57P01")), Err(Outcome::Fail(_))));
    }

    #[test]
    fn a_cancelled_wait_is_no_acknowledgement() {
        let notice = ["01000 canceling the wait for synchronous replication and terminating".to_owned()];
        assert!(matches!(commit(Ok(Ok(vec![])), &notice, false), Err(Outcome::Info(_))));
        assert!(commit(Ok(Ok(vec![])), &notice, true).is_ok());
        assert!(commit(Ok(Ok(vec![])), &["01000 something else".to_owned()], false).is_ok());
    }

    #[test]
    fn a_monitor_that_changed_its_leader_leaves_a_call_open() {
        assert!(matches!(call(server("40001")), Err(Outcome::Info(_))));
        assert!(matches!(call(server("57P03")), Err(Outcome::Fail(_))));
    }
}
