//! Self-signed certificates, made by the openssl command.

use std::path::PathBuf;
use std::time::Duration;

use tracing::info;

use super::command::Program;
use crate::config::Config;
use crate::error::{KeeperError, Result};

/// Ten years: nobody renews these, and an expired one stops replication (sslmode=require encrypts, it
/// proves nobody's identity).
const DAYS: &str = "3650";

/// Where the certificate and the key lie.
pub fn paths(config: &Config) -> (PathBuf, PathBuf) {
    (config.pgdata.join("server.crt"), config.pgdata.join("server.key"))
}

/// Makes the certificate unless it is there. A base backup brings the primary's: `anew` replaces it.
pub async fn ensure(config: &Config, anew: bool) -> Result<()> {
    if !(config.ssl.active && config.ssl.self_signed) {
        return Ok(());
    }
    let (certificate, key) = paths(config);
    if !anew && certificate.exists() && key.exists() {
        return Ok(());
    }
    let new_key = key.with_extension("key.new");
    let new_certificate = certificate.with_extension("crt.new");
    Program::new("openssl")
        .args(["req", "-new", "-x509", "-nodes", "-days", DAYS, "-subj"])
        .arg(format!("/CN={}", config.hostname))
        .arg("-keyout")
        .arg(&new_key)
        .arg("-out")
        .arg(&new_certificate)
        .run(Duration::from_secs(60))
        .await
        .map_err(|error| KeeperError::config(format!("cannot make a self-signed certificate: {error}")))?;
    let moved = (|| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&new_key, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new_key, &key)?;
        std::fs::rename(&new_certificate, &certificate)
    })();
    moved.map_err(|error: std::io::Error| KeeperError::io("cannot put the certificate in place", &error))?;
    info!("made a self-signed certificate for {} ({})", config.hostname, certificate.display());
    Ok(())
}
