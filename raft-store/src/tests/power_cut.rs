//! Power cuts for real: the store on an ext4 file system on a loop device; right after an
//! acknowledgement the block device is copied, and the copy is mounted and opened. What only the page
//! cache knew is not in the copy. Needs root and loop devices; skipped with a reason otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::storage_suite::{append, entry};
use crate::log_store::LogStore;
use crate::types::Vote;

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr))) }
}

struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Result<Mounted, String> {
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &at.to_string_lossy()])?;
        Ok(Mounted(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", &self.0.to_string_lossy()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_entries_survive_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    let make = || {
        std::fs::File::create(&image).and_then(|f| f.set_len(48 << 20)).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()])?;
        Mounted::new(&image, &dir.path().join("live"))
    };
    let live = match make() {
        Ok(m) => m,
        Err(e) => {
            println!("SKIPPED, no loop device can be mounted here: {e}");
            return;
        }
    };
    let path = live.0.join("data/log");
    let mut log = LogStore::create(&path, &[7; 16]).unwrap();
    let mut next = 0u64;
    for (cut, batches) in [1u64, 3, 40, 150].into_iter().enumerate() {
        let term = cut as u64 + 1;
        for b in 0..batches {
            let batch = (0..1 + b % 5).map(|i| entry(term, next + i, &vec![b as u8; 300])).collect::<Vec<_>>();
            next += batch.len() as u64;
            append(&mut log, batch).await;
        }
        log.save_vote(&Vote::new(term, 1)).await.unwrap();
        // The power goes: what the device holds now is all there is.
        let copy = dir.path().join(format!("cut{cut}"));
        run("cp", &["--sparse=always", &image.to_string_lossy(), &copy.to_string_lossy()]).unwrap();
        let after = Mounted::new(&copy, &dir.path().join(format!("after{cut}"))).unwrap();
        let mut found = LogStore::open(&after.0.join("data/log"), &[7; 16]).unwrap();
        assert_eq!(found.try_get_log_entries(..).await.unwrap().len() as u64, next, "cut {cut}");
        assert_eq!(found.read_vote().await.unwrap(), Some(Vote::new(term, 1)), "cut {cut}");
        drop(found);
        drop(after);
        println!("cut {cut}: all {next} acknowledged entries and the vote are there");
    }
}
