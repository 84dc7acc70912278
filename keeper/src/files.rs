//! Files that survive a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{KeeperError, Result};

/// Writes a whole file: temporary file, fsync, rename, fsync of the directory. Readers see the old
/// or the new content, never a part.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(dir)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        KeeperError::io(format!("cannot write {}", path.display()), &error)
    })
}

/// Makes renames and removals in a directory durable.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file, durably; that it is not there is fine.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {
            let _ = sync_dir(path.parent().unwrap_or(Path::new("/")));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KeeperError::io(format!("cannot remove {}", path.display()), &error)),
    }
}

/// Creates a directory that only its owner may look into, with its parents.
pub fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| KeeperError::io(format!("cannot create {}", path.display()), &error))
}

/// The content of a text file; `None` when it does not exist.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeeperError::io(format!("cannot read {}", path.display()), &error)),
    }
}
