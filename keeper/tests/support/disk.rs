//! Small file systems of a test's own, which can be full or read-only. They need root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory; unmounted when dropped.
pub struct Disk {
    pub at: PathBuf,
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).status().unwrap().success()
}

impl Disk {
    pub fn mount(at: &Path, megabytes: u32) -> Disk {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m,mode=755");
        assert!(run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", at.to_str().unwrap()]));
        super::own(at);
        Disk { at: at.to_path_buf() }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Not a byte is left.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    pub fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Fails while a file is open for writing.
    pub fn read_only(&self, on: bool) -> bool {
        let how = if on { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", how, self.at.to_str().unwrap()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.at.to_str().unwrap()]);
    }
}
