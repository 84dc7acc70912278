//! Mutual TLS, with certificates made by the `openssl` command.

use std::path::Path;
use std::process::Command;

use tokio::io::AsyncReadExt;

use super::cluster::*;
use crate::*;

fn openssl(dir: &Path, args: &[&str]) {
    let out = Command::new("openssl").current_dir(dir).args(args).output().expect("the openssl command");
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// An authority and one certificate for 127.0.0.1. Different CNs: with equal ones verification fails.
fn authority(dir: &Path, name: &str) {
    let (ca_key, ca) = (format!("{name}-ca.key"), format!("{name}-ca.pem"));
    let (key, csr, cert) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca_subject = format!("/CN={name} authority");
    openssl(dir, &[&["req", "-x509"], &ec[..], &["-keyout", &ca_key, "-out", &ca, "-subj", &ca_subject, "-days", "2"]].concat());
    openssl(dir, &[&["req"], &ec[..], &["-keyout", &key, "-out", &csr, "-subj", &format!("/CN={name} replica")]].concat());
    std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n").unwrap();
    openssl(
        dir,
        &["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-out", &cert, "-days", "2", "-extfile", "ext"],
    );
}

fn config(dir: &Path, name: &str) -> TlsConfig {
    TlsConfig {
        ca: dir.join(format!("{name}-ca.pem")),
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls() {
    let certs = tempfile::tempdir().unwrap();
    authority(certs.path(), "good");
    authority(certs.path(), "evil");
    let good = config(certs.path(), "good");
    let mut c = Cluster::prepare(3, |_| {}).await;
    for id in [1, 2] {
        let tls = good.clone();
        c.try_run(id, |cfg| cfg.tls = Some(tls)).await.unwrap();
    }
    c.write("secret").await;
    let answer = c.r(1).call(2, b"x".to_vec(), soon(30_000)).await.unwrap();
    assert_eq!(answer, b"2<-1:x");
    // A replica with a certificate of another authority, one without TLS, and a client without a
    // certificate are all kept out.
    let evil = config(certs.path(), "evil");
    c.try_run(3, |cfg| cfg.tls = Some(evil)).await.unwrap();
    let e = c.r(3).call(1, b"x".to_vec(), soon(1_500)).await;
    assert!(matches!(e, Err(CallError::Unreachable(_))), "{e:?}");
    assert_eq!(c.r(3).status().role, Role::Uninitialised);
    c.stop(3).await;
    std::fs::remove_dir_all(c.dir_of(3)).unwrap();
    c.run(3).await;
    let e = c.r(3).call(1, b"x".to_vec(), soon(1_500)).await;
    assert!(e.is_err());
    c.stop(3).await;
    std::fs::remove_dir_all(c.dir_of(3)).unwrap();

    let no_certificate = {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        use rustls::pki_types::pem::PemObject;
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(&good.ca).unwrap()).unwrap();
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", c.ports[&1])).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let connected = tokio_rustls::TlsConnector::from(std::sync::Arc::new(no_certificate)).connect(name, tcp).await;
    // In TLS 1.3 the client learns of the refusal when it reads.
    let refused = match connected {
        Err(_) => true,
        Ok(mut s) => s.read_u8().await.is_err(),
    };
    assert!(refused, "a client without a certificate was let in");

    let tls = good.clone();
    c.try_run(3, |cfg| cfg.tls = Some(tls)).await.unwrap();
    c.until("the right certificate joins", |c| c.entries(3) == [b"secret".to_vec()]).await;
    c.stop_all().await;
}

#[tokio::test]
async fn unusable_files_are_named() {
    let mut c = Cluster::prepare(1, |_| {}).await;
    let e = c
        .try_run(1, |cfg| {
            cfg.tls = Some(TlsConfig { ca: "/nonexistent/ca.pem".into(), cert: "/x".into(), key: "/y".into() });
        })
        .await
        .expect_err("no files");
    assert!(e.to_string().contains("/nonexistent/ca.pem"), "{e}");
}
