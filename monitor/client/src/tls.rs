//! TLS to the monitors, with libpq's `sslmode`.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::target::Target;

/// How a target's sessions are encrypted.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    /// `verify-full`.
    checks_name: bool,
    config: Arc<ClientConfig>,
}

fn named<T, E: std::fmt::Display>(path: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{path}: {e}"))
}

impl Tls {
    /// Reads the files that the target names.
    ///
    /// `allow` counts as `prefer`: TLS where it is on offer. `require` with a root certificate verifies
    /// as `verify-ca` does, as libpq has it.
    ///
    /// # Errors
    /// A file is missing or holds no certificate, in words; `verify-*` without a root certificate.
    pub(crate) fn of(target: &Target) -> Result<Tls, String> {
        let given = |key: &str| target.others.get(key).filter(|value| !value.is_empty()).cloned();
        let mode = match target.sslmode.as_str() {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        };
        let verifies = target.sslmode.starts_with("verify-");
        let root = given("sslrootcert").or_else(|| verifies.then(default_root).flatten());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match root {
            Some(root) if verifies || target.sslmode == "require" => {
                let crl = given("sslcrl");
                let inner = verifier(&root, crl.as_deref(), provider.clone())?;
                match target.sslmode.as_str() {
                    "verify-full" => inner,
                    _ => Arc::new(AnyName(inner)),
                }
            }
            None if verifies => {
                return Err(format!(
                    "sslmode={} needs the authority's certificate: sslrootcert=FILE, or ~/.postgresql/root.crt",
                    target.sslmode
                ));
            }
            _ => Arc::new(Anybody(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (given("sslcert"), given("sslkey")) {
            (Some(certificate), Some(key)) => {
                let chain = named(&certificate, CertificateDer::pem_file_iter(&certificate))?;
                let chain = named(&certificate, chain.collect::<Result<Vec<_>, _>>())?;
                let secret = named(&key, PrivateKeyDer::from_pem_file(&key))?;
                named(&certificate, builder.with_client_auth_cert(chain, secret))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Tls { mode, checks_name: target.sslmode == "verify-full", config: Arc::new(config) })
    }
}

fn default_root() -> Option<String> {
    let home = std::env::var("HOME").ok()?;
    let path = format!("{home}/.postgresql/root.crt");
    Path::new(&path).exists().then_some(path)
}

fn verifier(
    root: &str,
    crl: Option<&str>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in named(root, CertificateDer::pem_file_iter(root))? {
        named(root, roots.add(named(root, certificate)?))?;
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = crl {
        let lists = named(crl, CertificateRevocationListDer::pem_file_iter(crl))?;
        builder = builder.with_crls(named(crl, lists.collect::<Result<Vec<_>, _>>())?);
    }
    named(root, builder.build())
}

/// `require`: encrypts, and believes whoever answers.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca`: the chain counts, the name does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The verifier looks at the name last, when the chain has been found good.
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = ToHost;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToHost, Self::Error> {
        // A socket's directory is no host name, and one with an underscore is none that certificates know.
        let name = match ServerName::try_from(host.to_string()) {
            Ok(name) => name,
            Err(_) if !self.checks_name => ServerName::try_from("localhost")?,
            Err(error) => return Err(error),
        };
        Ok(ToHost { name, connector: TlsConnector::from(self.config.clone()) })
    }
}

/// The handshake with one host.
pub(crate) struct ToHost {
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl TlsConnect<Socket> for ToHost {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.name, socket).await?)) })
    }
}

/// An encrypted session's stream.
pub(crate) struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Encrypted {
    /// SCRAM without channel binding: our monitors do not offer it.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
