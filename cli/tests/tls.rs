//! A monitor with a certificate of its own, and clients that trust it, distrust it, or do without.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Monitor {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pgquorum(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
    command.args(args).env_remove("PGDATA").env_remove("PG_AUTOCTL_MONITOR").env("PGCONNECT_TIMEOUT", "3");
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Monitor {
    fn start() -> Monitor {
        let dir = tempfile::tempdir().unwrap();
        let (port, replica_port) = (support::free_port(), support::free_port());
        let pgdata = dir.path().join("m1");
        let replicas = format!("m1=127.0.0.1:{port}:{replica_port}");
        let created = pgquorum(&[
            "create", "monitor", "--pgdata", pgdata.to_str().unwrap(), "--name", "m1", "--replicas", &replicas,
            "--auth", "trust", "--ssl-self-signed",
        ]);
        assert!(created.status.success(), "{}", text(&created.stderr));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgquorum"))
            .args(["run", "--pgdata", pgdata.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let monitor = Monitor { child, port, dir };
        monitor.until("it leads", |m| m.state("disable").status.success());
        monitor
    }

    fn until(&self, what: &str, holds: impl Fn(&Monitor) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within 60 s: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn certificate(&self) -> std::path::PathBuf {
        self.dir.path().join("m1/server.crt")
    }

    /// `show state` with these parameters in the URI.
    fn state(&self, sslmode: &str) -> Output {
        let uri = format!("postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover?sslmode={sslmode}", self.port);
        pgquorum(&["show", "state", "--monitor", &uri])
    }

    fn with_root(&self, sslmode: &str, root: &Path) -> Output {
        self.state(&format!("{sslmode}&sslrootcert={}", root.display()))
    }
}

#[test]
fn clients_encrypt_and_verify_as_their_sslmode_says() {
    let monitor = Monitor::start();
    for mode in ["disable", "allow", "prefer", "require"] {
        let done = monitor.state(mode);
        assert!(done.status.success(), "{mode}: {}", text(&done.stderr));
    }
    // The certificate is its own authority.
    for mode in ["require", "verify-ca", "verify-full"] {
        let done = monitor.with_root(mode, &monitor.certificate());
        assert!(done.status.success(), "{mode}: {}", text(&done.stderr));
    }
    // Another monitor's certificate proves nothing about this one.
    let other = monitor.dir.path().join("other.crt");
    let made = pgquorum(&[
        "create", "monitor", "--pgdata", monitor.dir.path().join("m2").to_str().unwrap(), "--hostname", "127.0.0.1",
        "--pgport", "5432", "--auth", "trust", "--ssl-self-signed",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    fs::copy(monitor.dir.path().join("m2/server.crt"), &other).unwrap();
    let refused = monitor.with_root("verify-ca", &other);
    assert!(!refused.status.success(), "a foreign certificate was believed");
    assert!(text(&refused.stderr).contains("certificate"), "{}", text(&refused.stderr));
    let missing = monitor.with_root("verify-full", Path::new("/nowhere/root.crt"));
    assert!(!missing.status.success());
    assert!(text(&missing.stderr).contains("/nowhere/root.crt"), "{}", text(&missing.stderr));
    // Its own connection string asks for encryption.
    let uri = pgquorum(&["show", "uri", "--pgdata", monitor.dir.path().join("m1").to_str().unwrap()]);
    assert!(text(&uri.stdout).contains("sslmode=require"), "{}", text(&uri.stdout));
}

#[test]
fn renewed_certificates_are_taken_up_and_broken_ones_are_not() {
    let monitor = Monitor::start();
    let hup = || {
        assert!(Command::new("kill").args(["-HUP", &monitor.child.id().to_string()]).status().unwrap().success());
    };
    let good = fs::read(monitor.certificate()).unwrap();
    fs::write(monitor.certificate(), "no certificate").unwrap();
    hup();
    monitor.until("the broken file is told", |m| m.log().contains("the present certificate stays in use"));
    assert!(monitor.state("require").status.success());
    fs::write(monitor.certificate(), good).unwrap();
    hup();
    monitor.until("the files are read again", |m| m.log().contains("the certificate files are read again"));
    assert!(monitor.state("require").status.success());
}
