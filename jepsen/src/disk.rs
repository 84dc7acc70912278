//! A disk for each machine: ext4 in a file, so that it can lose power, fill up and hang.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::requirements::in_path;
use crate::wait::wait_for;
use crate::{Context, Lab, Result, command, ensure, sys};

const SIZE: u64 = 700 << 20;

/// Longer than any test that mounts something in a namespace of its own.
const OTHERS: Duration = Duration::from_secs(120);

struct Disk {
    machine: String,
    image: PathBuf,
    mount: PathBuf,
}

pub struct Disks {
    disks: Vec<Disk>,
    /// Ends when we do, however that happens, and brings every disk into a state to be removed.
    reaper: Option<Child>,
}

/// Whether this machine can mount images; the error says what is missing.
pub fn probe() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "mounting disks needs root");
    for program in ["mkfs.ext4", "mount", "umount", "fsfreeze", "losetup"] {
        in_path(program).context(format!("{program} is missing (Debian: e2fsprogs, mount, util-linux)"))?;
    }
    ensure!(Path::new("/dev/loop-control").exists(), "there are no loop devices");
    Ok(())
}

fn run(program: &str, args: &[&str], path: &[&Path]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).args(path);
    command::run(command, Duration::from_secs(30))?.ok().map(drop)
}

impl Disks {
    /// Mounts a disk at the directory of each machine.
    pub fn start(lab: &Lab, machines: &[&str]) -> Result<Self> {
        probe()?;
        let mut disks = Self { disks: Vec::new(), reaper: None };
        for machine in machines {
            let (image, mount) = (lab.path(format!("{machine}.img")), lab.path(machine));
            File::create(&image)?.set_len(SIZE)?;
            run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"], &[&image])?;
            fs::create_dir_all(&mount)?;
            let disk = Disk { machine: (*machine).to_owned(), image, mount };
            disk.mount()?;
            disks.disks.push(disk);
        }
        let mounts: Vec<&Path> = disks.disks.iter().map(|d| d.mount.as_path()).collect();
        // It waits for its input to end: ours does when we do.
        let script = "trap '' INT TERM HUP; read -r _; for m; do fsfreeze -u \"$m\"; umount -l \"$m\"; done";
        let mut reaper = Command::new("sh");
        reaper.args(["-c", script, "reaper"]).args(&mounts).stdin(Stdio::piped());
        reaper.stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut reaper, 0);
        disks.reaper = Some(reaper.spawn().context("start the reaper of the disks")?);
        Ok(disks)
    }

    fn of(&self, machine: &str) -> Result<&Disk> {
        self.disks.iter().find(|d| d.machine == machine).context(format!("{machine} has no disk of its own"))
    }

    /// Takes the power from the disk. Whatever runs there must be killed before it is mounted again.
    pub fn power_off(&self, machine: &str) -> Result<()> {
        sys::power_off(&self.of(machine)?.mount)
    }

    /// Mounts the disk anew: what was not synced before is gone.
    pub fn power_on(&self, machine: &str) -> Result<()> {
        let disk = self.of(machine)?;
        wait_for(&format!("{machine}'s disk to be free"), Duration::from_secs(10), || {
            run("umount", &[], &[&disk.mount]).map(Some)
        })?;
        // A mount namespace that somebody else made in the meantime has a copy of the mount: a second mount of
        // the image would be the same, dead file system.
        let what = format!("other mount namespaces to let go of {machine}'s disk");
        wait_for(&what, OTHERS, || Ok(disk.is_free()?.then_some(())))?;
        disk.mount()
    }

    /// Every write hangs until `thaw`.
    pub fn freeze(&self, machine: &str) -> Result<()> {
        run("fsfreeze", &["-f"], &[&self.of(machine)?.mount])
    }

    pub fn thaw(&self, machine: &str) -> Result<()> {
        run("fsfreeze", &["-u"], &[&self.of(machine)?.mount])
    }

    /// Leaves no byte free. Returns the file that does it.
    pub fn fill(&self, machine: &str) -> Result<PathBuf> {
        let path = self.of(machine)?.mount.join("ballast");
        let mut file = File::create(&path)?;
        let block = vec![0u8; 1 << 20];
        // It ends with "no space left on device"; smaller pieces take the rest.
        for size in [1 << 20, 4096, 1] {
            while let Some(part) = block.get(..size)
                && std::io::Write::write_all(&mut file, part).is_ok()
            {}
        }
        Ok(path)
    }
}

impl Disk {
    /// No loop device holds the image.
    fn is_free(&self) -> Result<bool> {
        let mut command = Command::new("losetup");
        command.arg("--associated").arg(&self.image);
        Ok(command::run(command, Duration::from_secs(10))?.ok()?.stdout.trim().is_empty())
    }

    fn mount(&self) -> Result<()> {
        let (image, at) = (self.image.as_path(), self.mount.as_path());
        run("mount", &["-o", "loop"], &[image, at])?;
        if let Ok(account) = crate::requirements::account() {
            std::os::unix::fs::chown(at, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        Ok(())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.disks {
            _ = run("fsfreeze", &["-u"], &[&disk.mount]);
            // Lazily: what still runs there is killed with the lab.
            if let Err(error) = run("umount", &["-l"], &[&disk.mount]) {
                eprintln!("{error}");
            }
        }
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            _ = reaper.wait();
        }
    }
}
