//! The two system calls that have no safe wrapper: making a TAP device, and taking the power from a
//! file system.
#![expect(unsafe_code, reason = "ioctl has no safe form")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::{Context, Result, ensure};

/// `struct ifreq`, as far as TUNSETIFF reads it.
#[repr(C)]
pub struct IfRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;

// _IOW('T', 202, int), linux/if_tun.h
nix::ioctl_write_ptr_bad!(tunsetiff, 0x4004_54ca, IfRequest);
// _IOR('X', 125, __u32), fs/ext4/ext4.h; it reads its argument nevertheless.
nix::ioctl_write_ptr_bad!(ext4_shutdown, 0x8004_587d_u64, u32);

/// A new TAP device in our network namespace. It lives as long as the file is open.
pub fn tap(name: &str) -> Result<File> {
    ensure!(name.len() < 16, "{name} is too long for an interface");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/net/tun")
        .context("open /dev/net/tun")?;
    let mut request = IfRequest { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the request is a complete `struct ifreq` and outlives the call.
    unsafe { tunsetiff(file.as_raw_fd(), &request) }.context(format!("make the TAP device {name}"))?;
    Ok(file)
}

/// Takes the power from the ext4 file system mounted at `mount`: what was not synced is gone, and
/// everything fails with EIO until it is mounted anew.
pub fn power_off(mount: &Path) -> Result<()> {
    const NO_LOG_FLUSH: u32 = 2;
    let dir = File::open(mount).context(format!("open {}", mount.display()))?;
    // SAFETY: the argument is a `__u32` that outlives the call.
    unsafe { ext4_shutdown(dir.as_raw_fd(), &NO_LOG_FLUSH) }
        .context(format!("shut {} down", mount.display()))?;
    Ok(())
}
