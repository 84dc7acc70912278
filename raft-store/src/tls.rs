//! Mutual TLS between replicas, switched on by configuration. Both sides present a certificate of
//! the configured authority; the connecting side also checks the name it dialled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Paths of PEM files.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Authority that signs every replica's certificate.
    pub ca: PathBuf,
    /// This replica's certificate chain; usable as server and as client, naming the host that the
    /// other replicas dial.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A connection, plain or encrypted.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Loaded certificates for both directions.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

fn named<T, E: std::fmt::Display>(path: &Path, r: Result<T, E>) -> Result<T, String> {
    r.map_err(|e| format!("{}: {e}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = named(path, CertificateDer::pem_file_iter(path))?;
    let all: Vec<_> = named(path, all.collect::<Result<_, _>>())?;
    if all.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(all) }
}

impl Tls {
    /// Reads the files; the text of an error names the file.
    pub fn load(cfg: &TlsConfig) -> Result<Tls, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in certificates(&cfg.ca)? {
            named(&cfg.ca, roots.add(ca))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&cfg.cert)?;
        let key = named(&cfg.key, PrivateKeyDer::from_pem_file(&cfg.key))?;
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| format!("{}: {e}", cfg.ca.display()))?;
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key());
        let server = named(&cfg.cert, server)?;
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key);
        let client = named(&cfg.cert, client)?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(server)), connector: TlsConnector::from(Arc::new(client)) })
    }

    /// Server side of the TLS handshake.
    pub async fn accept(&self, tcp: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.acceptor.accept(tcp).await?))
    }

    /// Client side of the TLS handshake.
    pub async fn connect(&self, host: &str, tcp: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?;
        Ok(Box::new(self.connector.connect(name, tcp).await?))
    }
}
