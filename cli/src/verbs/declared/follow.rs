//! Follows the file beside a node that runs: what may change is taken up, what may not is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::apply::apply;
use super::file::NodeFile;
use crate::exit::CliError;
use crate::verbs::block_on;

/// The file is read this often: notifications of the file system do not reach into every container.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two attempts to have the monitors take it up.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// From now on, until the process ends. What the file says already is taken up as soon as somebody can be
/// asked, too: it may have changed while nothing ran.
pub fn start(path: &Path, file: NodeFile) -> Result<(), CliError> {
    let mut follower = Follower { path: path.to_path_buf(), text: fs::read_to_string(path)?, file, tried: None, told: String::new() };
    std::thread::Builder::new().name("node file".to_string()).spawn(move || {
        let mut pending = true;
        loop {
            std::thread::sleep(LOOK_EVERY);
            pending |= follower.changed();
            if pending && follower.tried.is_none_or(|tried| tried.elapsed() >= TRY_EVERY) {
                pending = !follower.took_up();
            }
        }
    })?;
    Ok(())
}

struct Follower {
    path: PathBuf,
    text: String,
    file: NodeFile,
    tried: Option<Instant>,
    /// What was said of the last attempt, which is not said again.
    told: String,
}

impl Follower {
    /// Is there something new to take up?
    fn changed(&mut self) -> bool {
        // It may be about to be replaced.
        let Ok(text) = fs::read_to_string(&self.path) else { return false };
        if text == self.text {
            return false;
        }
        self.text = text;
        match NodeFile::parse(&self.text) {
            Ok(file) => {
                info!("{} has changed", self.path.display());
                for what in fixed(&self.file, &file) {
                    warn!("{what} takes effect when the node is started again");
                }
                self.file = file;
                self.tried = None;
                true
            }
            Err(error) => {
                warn!("{} has changed and is not taken up: {}", self.path.display(), error.text());
                false
            }
        }
    }

    fn took_up(&mut self) -> bool {
        self.tried = Some(Instant::now());
        match block_on(apply(&self.file)) {
            Ok(_) => {
                self.told.clear();
                true
            }
            Err(error) => {
                if self.told != error.text() {
                    warn!("{} is not taken up yet: {}", self.path.display(), error.text());
                    self.told = error.text().to_string();
                }
                false
            }
        }
    }
}

/// What differs and cannot change under a node that runs.
fn fixed(before: &NodeFile, after: &NodeFile) -> Vec<&'static str> {
    let pairs = [
        ("[node] kind", before.kind == after.kind),
        ("[node] name", before.name == after.name),
        ("[node] hostname", before.hostname == after.hostname),
        ("[node] port", before.port == after.port),
        ("[postgresql] pgdata", before.pgdata == after.pgdata),
        ("[postgresql] pg_ctl", before.pg_ctl == after.pg_ctl),
        ("[monitor]", (&before.monitor, before.node_id, &before.replicas) == (&after.monitor, after.node_id, &after.replicas)),
        ("[formation]", before.formation == after.formation),
        ("[options]", (&before.auth, before.pg_hba_lan) == (&after.auth, after.pg_hba_lan)),
        ("TLS", before.ssl == after.ssl),
    ];
    pairs.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "[postgresql]\npgdata = /data\n[monitor]\npguri = postgres://autoctl_node@m/pg_auto_failover\n";

    #[test]
    fn a_change_is_noticed_once_and_a_broken_file_is_not_taken_up() {
        let path = std::env::temp_dir().join(format!("pgquorum-follow-{}.ini", std::process::id()));
        let write = |text: &str| fs::write(&path, text).unwrap();
        write(FILE);
        let file = NodeFile::parse(FILE).unwrap();
        let text = FILE.to_string();
        let mut follower = Follower { path: path.clone(), text, file, tried: None, told: String::new() };
        assert!(!follower.changed());
        write(&format!("{FILE}[settings]\ncandidate_priority = 80\n"));
        assert!(follower.changed() && !follower.changed());
        assert_eq!(follower.file.settings.candidate_priority, Some(80));
        write("[settings]\ncandidat_priority = 90\n");
        assert!(!follower.changed());
        assert_eq!(follower.file.settings.candidate_priority, Some(80));
        fs::remove_file(&path).unwrap();
        assert!(!follower.changed());
    }

    #[test]
    fn what_needs_a_start_is_named() {
        let before = NodeFile::parse(FILE).unwrap();
        let mut after = NodeFile::parse(&FILE.replace("/data", "/other")).unwrap();
        after.settings.replication_quorum = Some(false);
        assert_eq!(fixed(&before, &after), ["[postgresql] pgdata"]);
    }
}
