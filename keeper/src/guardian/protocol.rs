//! What keeper and guardian say to each other: one JSON object per line over a Unix socket in the
//! node's data home, which only its owner may enter.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::boottime::BootTime;

/// Goes up when one side could misunderstand the other; the keeper then replaces a guardian that it finds,
/// which takes `Status`, `Stop` and `Quit` as they are here. Fields that are not known are passed over.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Status,
    /// Starts the postmaster; its output goes to `log`.
    Start { program: PathBuf, args: Vec<String>, log: PathBuf },
    /// Watches, and fences when need be, a postmaster that somebody else started.
    Adopt { pid: i32 },
    /// Sends the signal; the end is announced as an event.
    Stop { mode: StopMode },
    /// Fence at this moment unless told otherwise before; `None`: no fence.
    Lease { until: Option<BootTime> },
    /// Ends the guardian; refused while a postmaster runs.
    Quit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    Fast,
    /// Immediate, and SIGKILL for what remains a second later.
    Fence,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to a request, one each, in order.
    Answer(Answer),
    /// The postmaster is gone, and with it every process of its data directory.
    Exited(LastExit),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub status: Status,
    /// Why the request was not carried out.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: u32,
    pub pid: u32,
    /// The postmaster.
    pub postmaster: Option<i32>,
    pub lease: Option<BootTime>,
    pub last_exit: Option<LastExit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    pub pid: i32,
    /// `exit 1`, `signal 9`, `unknown` for an adopted one.
    pub how: String,
    pub at: BootTime,
    /// The guardian did it because the lease had ended.
    pub fenced: bool,
}
