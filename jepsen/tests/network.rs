//! Machines of a lab: they reach each other, and cuts and errors do what they say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use jepsen::faults::io::{self, Calls, Errors};
use jepsen::net::switch::Effect;
use jepsen::net::{HERE, Network};
use jepsen::process::Process;
use jepsen::wait::wait_for;
use jepsen::{Context, Lab, Result, command, ensure, requirements};

const PORT: u16 = 7;

/// An echo server on every machine.
const ECHO: &str = "import socket,sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    c, _ = s.accept()
    c.settimeout(5)
    try:
        while (b := c.recv(4096)):
            c.sendall(b)
    except OSError:
        pass
";

#[test]
fn cuts_delays_and_losses_do_what_they_say() {
    let name = "network";
    let python = requirements::in_path("python3").context("python3 is missing").map(drop);
    if !requirements::met_with_network(name, python) {
        return;
    }
    Lab::run(name, |lab| {
        let network = Network::start(lab, &["a", "b"], 1)?;
        for machine in network.machines() {
            let mut echo = machine.command(lab, "python3")?;
            echo.args(["-c", ECHO, &machine.address, &(8000 + PORT).to_string()]);
            Process::spawn(&machine.name, echo, &lab.log(&machine.name))?;
        }
        for machine in network.machines() {
            wait_for("an echo", Duration::from_secs(10), || echo(&network, &machine.name).map(Some))?;
        }
        from_a_to_b(lab, &network, true)?;
        whole_cuts(lab, &network)?;
        one_way_and_ports(&network)?;
        late_lost_and_doubled(&network)?;
        if requirements::met("syncs fail", io::probe()) {
            syncs_fail(lab, &network)?;
        }
        machines_die_alone(&network)
    });
}

/// For a connection, and for the byte.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A byte to a machine and back, and how long it took.
fn echo(network: &Network, to: &str) -> Result<Duration> {
    let address: SocketAddr = format!("{}:{}", network.machine(to)?.address, 8000 + PORT).parse()?;
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(begun.elapsed())
}

fn from_a_to_b(lab: &Lab, network: &Network, wanted: bool) -> Result<()> {
    let mut talk = network.machine("a")?.command(lab, "python3")?;
    let text = "import socket,sys\nc = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.7)\n\
                c.sendall(b'x')\nassert c.recv(1) == b'x'";
    talk.args(["-c", text, &network.machine("b")?.address, &(8000 + PORT).to_string()]);
    let done = command::run(talk, Duration::from_secs(20))?;
    ensure!((done.code == 0) == wanted, "a reaches b: expected {wanted}: {done}");
    ensure!(wanted || done.stderr.contains("timed out"), "a cut must swallow, not refuse: {done}");
    Ok(())
}

fn whole_cuts(lab: &Lab, network: &Network) -> Result<()> {
    let rules = network.cut(&["a"], &["b"])?;
    from_a_to_b(lab, network, false)?;
    echo(network, "a")?;
    echo(network, "b")?;
    ensure!(rules.iter().map(|rule| network.remove(*rule)).sum::<u64>() > 0, "the rules touched nothing");
    from_a_to_b(lab, network, true)
}

fn one_way_and_ports(network: &Network) -> Result<()> {
    for (from, to) in [(HERE, "a"), ("a", HERE)] {
        network.cut_one_way(&[from], &[to])?;
        ensure!(echo(network, "a").is_err(), "{from} to {to} is cut, and a answers");
        echo(network, "b")?;
        network.heal();
        echo(network, "a")?;
    }
    let port = |port| Effect { cut_ports: vec![port], ..Effect::default() };
    network.add(HERE, "a", port(1))?;
    echo(network, "a")?;
    network.add(HERE, "a", port(8000 + PORT))?;
    ensure!(echo(network, "a").is_err(), "its port is cut, and a answers");
    network.heal();
    Ok(())
}

fn late_lost_and_doubled(network: &Network) -> Result<()> {
    // Less than what the client waits for either of the two frames there, the connection's first and the byte;
    // more than what a busy machine takes.
    let delay = Duration::from_millis(400);
    let rule = network.add(HERE, "a", Effect { delay, ..Effect::default() })?;
    let took = echo(network, "a")?;
    ensure!(took >= 2 * delay, "with {delay:?} one way it took {took:?}");
    ensure!(network.remove(rule) > 1, "no frame was late");
    let took = echo(network, "a")?;
    ensure!(took < 2 * delay, "after the delay it took {took:?}");
    let rule = network.add(HERE, "a", Effect { duplicate: 1.0, ..Effect::default() })?;
    echo(network, "a")?;
    ensure!(network.remove(rule) > 1, "no frame was doubled");
    let rule = network.add(HERE, "a", Effect { loss: 0.5, ..Effect::default() })?;
    for _ in 0..10 {
        _ = echo(network, "a");
    }
    ensure!(network.remove(rule) > 0, "no frame was lost");
    Ok(())
}

/// Says once in a while whether a sync has succeeded.
const SYNC: &str = "import os,sys,time
while True:
    try:
        os.fsync(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT))
        said = 'done'
    except OSError as error:
        said = os.strerror(error.errno)
    with open(sys.argv[1] + '.said', 'w') as file:
        file.write(said)
    time.sleep(0.05)
    os.closerange(3, 100)
";

/// They fail on one machine, and no longer after the heal.
fn syncs_fail(lab: &Lab, network: &Network) -> Result<()> {
    let start = |name: &str| {
        let mut sync = network.machine(name)?.command(lab, "python3")?;
        sync.args(["-c", SYNC]).arg(lab.path("run").join(name));
        Process::spawn(name, sync, &lab.log("sync")).map(drop)
    };
    let says = |name: &str, wanted: &str| {
        wait_for(&format!("{name}: {wanted}"), Duration::from_secs(10), || {
            let said = std::fs::read_to_string(lab.path("run").join(format!("{name}.said")))?;
            Ok((said == wanted).then_some(()))
        })
    };
    for name in ["a", "b"] {
        start(name)?;
        says(name, "done")?;
    }
    let errors = Errors::install(lab, network.machine("a")?, Calls::Syncs)?;
    says("a", "Input/output error")?;
    says("b", "done")?;
    ensure!(errors.heal()? > 0, "no call met it");
    says("a", "done")?;
    ensure!(errors.heal()? > 0, "healed twice, it forgets");
    Ok(())
}

fn machines_die_alone(network: &Network) -> Result<()> {
    network.machine("a")?.pause()?;
    ensure!(echo(network, "a").is_err(), "a is frozen, and answers");
    network.machine("a")?.resume()?;
    wait_for("a to answer again", Duration::from_secs(10), || echo(network, "a").map(Some))?;
    network.machine("a")?.kill()?;
    let error = echo(network, "a").err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(error.contains("refused"), "a is dead: {error}");
    echo(network, "b").map(drop)
}
