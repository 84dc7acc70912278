//! TLS for SQL clients: which files, how they are read, and the self-signed pair.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ConfigError;

/// `[ssl]` of the configuration file, under pg_autoctl's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// We made the certificate ourselves; nobody can verify it.
    pub self_signed: bool,
    /// `sslmode` of the connection strings that we give out.
    pub sslmode: String,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Authority of the clients' certificates; those who present none are let in all the same.
    pub ca_file: Option<PathBuf>,
    pub crl_file: Option<PathBuf>,
}

impl ClientTls {
    /// The pair that [`ensure_self_signed`] makes, as pg_autoctl names the files.
    pub fn self_signed(pgdata: &Path) -> ClientTls {
        ClientTls {
            self_signed: true,
            sslmode: "require".to_string(),
            cert_file: pgdata.join("server.crt"),
            key_file: pgdata.join("server.key"),
            ca_file: None,
            crl_file: None,
        }
    }
}

/// Makes a key and a certificate for `hostname`, unless both files are there.
///
/// # Errors
/// The host cannot stand in a certificate, or a file cannot be written.
pub fn ensure_self_signed(tls: &ClientTls, hostname: &str) -> Result<(), ConfigError> {
    if tls.cert_file.exists() && tls.key_file.exists() {
        return Ok(());
    }
    let failed = |what: &dyn std::fmt::Display| ConfigError(format!("cannot make a self-signed certificate: {what}"));
    let made = rcgen::generate_simple_self_signed(vec![hostname.to_string()]).map_err(|e| failed(&e))?;
    let write = |path: &Path, mode: u32, text: &str| -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write(&tls.key_file, 0o600, &made.signing_key.serialize_pem())
        .and_then(|()| write(&tls.cert_file, 0o644, &made.cert.pem()))
        .map_err(|e| failed(&e))
}

fn named<T, E: std::fmt::Display>(path: &Path, result: Result<T, E>) -> Result<T, ConfigError> {
    result.map_err(|e| ConfigError(format!("{}: {e}", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = named(path, CertificateDer::pem_file_iter(path))?;
    let all: Vec<_> = named(path, all.collect::<Result<_, _>>())?;
    if all.is_empty() { Err(ConfigError(format!("{}: no certificate in it", path.display()))) } else { Ok(all) }
}

fn load(tls: &ClientTls) -> Result<TlsAcceptor, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError(e.to_string()))?;
    let builder = match &tls.ca_file {
        None => versions.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                named(ca, roots.add(certificate))?;
            }
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
            if let Some(crl) = &tls.crl_file {
                let lists = named(crl, CertificateRevocationListDer::pem_file_iter(crl))?;
                verifier = verifier.with_crls(named(crl, lists.collect::<Result<Vec<_>, _>>())?);
            }
            versions.with_client_cert_verifier(named(ca, verifier.build())?)
        }
    };
    let key = named(&tls.key_file, PrivateKeyDer::from_pem_file(&tls.key_file))?;
    let config = named(&tls.cert_file, builder.with_single_cert(certificates(&tls.cert_file)?, key))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The server's side, whose files can be read again while it runs.
pub struct ClientAcceptor {
    tls: ClientTls,
    acceptor: RwLock<TlsAcceptor>,
}

impl ClientAcceptor {
    /// Reads the files; the text of an error names the file.
    pub fn new(tls: &ClientTls) -> Result<ClientAcceptor, ConfigError> {
        Ok(ClientAcceptor { tls: tls.clone(), acceptor: RwLock::new(load(tls)?) })
    }

    /// Takes up renewed files for the connections to come; on an error the old ones stay.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let fresh = load(&self.tls)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The server's side of the handshake.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for ClientAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tls.fmt(f)
    }
}
