//! Sessions with monitors alone, no PostgreSQL node: psql, LISTEN, transactions, garbage, restarts.

use std::time::Duration;

use jepsen::command::run as run_command;
use jepsen::raw::{RawClient, extended};
use jepsen::sql::{SqlError, block_on, connect, query, rows, value};
use jepsen::wait::wait_for;
use jepsen::{Context, Kind, Lab, Monitors, Result, Steps, ensure, ensure_eq, requirements};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn pgquorum() {
    run("sessions", Kind::Pgquorum);
}

#[test]
#[ignore = "the reference: shows what the stock monitor does"]
fn stock() {
    run("sessions-stock", Kind::Stock);
}

fn run(name: &str, kind: Kind) {
    if requirements::met(name, kind.requirements()) {
        Lab::run(name, |lab| {
            let mut monitors = kind.start(lab)?;
            body(lab, monitors.as_mut())
        });
    }
}

fn body(lab: &Lab, monitors: &mut dyn Monitors) -> Result<()> {
    let mut steps = Steps::new();
    let rest = || Ok(());
    for i in 0..monitors.len() {
        steps.run(&format!("psql's backslash commands on monitor {i}"), rest, || psql(lab, monitors, i))?;
    }
    steps.run("notifications", rest, || notifications(monitors))?;
    steps.run("a registration is a transaction", rest, || registration(monitors))?;
    steps.run("garbage is answered, not fatal", rest, || garbage(monitors))?;
    steps.run("errors carry upstream's SQLSTATEs", rest, || errors(monitors))?;
    if monitors.len() > 1 {
        for i in 0..3 {
            steps.run(&format!("leader killed between register_node and COMMIT, {i}"), rest, || {
                killed_before_commit(monitors, i)
            })?;
        }
        steps.run("every monitor says the same", rest, || same_everywhere(monitors))?;
    }
    steps.run("nothing is forgotten by a restart of all", rest, || restart_all(monitors))?;
    steps.verdict()
}

/// What psql prints for a script, from one monitor.
fn psql(lab: &Lab, monitors: &dyn Monitors, i: usize) -> Result<()> {
    let scripts: [(&str, &[&str]); 11] = [
        (r"\d", &["No relations|Did not find any relations"]),
        (r"\d pgautofailover.node", &["goalstate", "reportedstate", "candidatepriority"]),
        (r"\dt pgautofailover.*", &["formation", "node", "event"]),
        (r"\dn", &["pgautofailover"]),
        (r"\df pgautofailover.*", &["node_active", "register_node", "perform_failover"]),
        (r"\l", &["pg_auto_failover"]),
        (r"\du", &["autoctl_node"]),
        (
            r"\x \\ select * from pgautofailover.formation",
            &["-[ RECORD 1 ]", "formationid", "number_sync_standbys"],
        ),
        (r"\conninfo", &["pg_auto_failover", "autoctl_node"]),
        (r"select formationid, count(*) from pgautofailover.formation group by 1 order by 1", &["default"]),
        ("show server_version", &["."]),
    ];
    let uri = monitors.uri(i);
    for (script, words) in scripts {
        let script: Vec<&str> = script.split(r" \\ ").collect();
        let mut command = lab.command("psql");
        command.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", &uri]);
        for part in &script {
            command.args(["-c", part]);
        }
        let shown = run_command(command, PATIENCE)?.ok()?;
        let all = format!("{}{}", shown.stdout, shown.stderr);
        for word in words {
            ensure!(word.split('|').any(|word| all.contains(word)), "no {word}: {shown}");
        }
    }
    // \watch runs until it is stopped.
    let mut command = lab.command("sh");
    let watch = format!("printf 'select 40 + 2 as answer \\\\watch 0.2\\n' | timeout 2 psql -X -d '{uri}'");
    command.args(["-c", &watch]);
    let shown = run_command(command, PATIENCE)?;
    ensure!(shown.stdout.matches("42").count() >= 3, "\\watch: {shown}");
    Ok(())
}

/// Registers a simulated node and returns its id.
fn register(monitors: &dyn Monitors, formation: &str, name: &str, port: u16) -> Result<i64> {
    let sql = register_sql(formation, name, port);
    Ok(value(&monitors.uri(monitors.leader()?), &sql)?.parse()?)
}

fn register_sql(formation: &str, name: &str, port: u16) -> String {
    format!(
        "SELECT assigned_node_id FROM pgautofailover.register_node('{formation}', '127.0.0.1', {port}, 'postgres', \
         '{name}', 7000000000000000000)"
    )
}

fn make_formation(monitors: &dyn Monitors, name: &str) -> Result<()> {
    let sql =
        format!("SELECT * FROM pgautofailover.create_formation('{name}', 'pgsql', 'postgres', true, 0)");
    query(&monitors.uri(monitors.leader()?), &sql).map(drop)
}

fn notifications(monitors: &dyn Monitors) -> Result<()> {
    make_formation(monitors, "listen")?;
    block_on(async {
        let mut sessions = Vec::new();
        for i in 0..monitors.len() {
            let session = connect(&monitors.uri(i), PATIENCE).await?;
            rows(&session.client, "LISTEN \"state\"").await?;
            rows(&session.client, "LISTEN \"log\"").await?;
            sessions.push(session);
        }
        let session = connect(&monitors.uri_all(), PATIENCE).await?;
        let answer = rows(&session.client, &register_sql("listen", "heard", 1)).await?;
        let id = answer.first().and_then(|r| r.first()).cloned().flatten().context("no id")?;
        let report = format!("SELECT * FROM pgautofailover.node_active('listen', {id}, 0, 'single')");
        rows(&session.client, &report).await?;
        for (i, session) in sessions.iter().enumerate() {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let heard = session.heard.notifications();
                let state = heard.iter().find(|n| {
                    n.channel() == "state"
                        && n.payload().contains("\"reportedState\": \"single\", \"goalState\": \"single\"")
                });
                let log = heard.iter().any(|n| n.channel() == "log" && n.payload().contains("\"single\""));
                if let Some(state) = state
                    && log
                {
                    let wanted = format!(
                        "{{\"type\": \"state\", \"formation\": \"listen\", \"groupId\": 0, \"nodeId\": {id}, \
                         \"name\": \"heard\", \"host\": \"127.0.0.1\", \"port\": 1, \"reportedState\": \"single\", \
                         \"goalState\": \"single\", \"health\":\"unknown\"}}"
                    );
                    let payload = state.payload().replace("\"bad\"", "\"unknown\"");
                    ensure_eq!(payload, wanted, "the payload on monitor {i}");
                    break;
                }
                ensure!(tokio::time::Instant::now() < deadline, "monitor {i} notified only {heard:?}");
                // An idle session must be told without asking: only yield to the connection's task.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    })?
}

fn registration(monitors: &dyn Monitors) -> Result<()> {
    make_formation(monitors, "transaction")?;
    let last = monitors.uri(monitors.len() - 1);
    let count = || value(&last, "SELECT count(*) FROM pgautofailover.node WHERE formationid = 'transaction'");
    block_on(async {
        let session = connect(&monitors.uri(0), PATIENCE).await?;
        rows(&session.client, "BEGIN").await?;
        rows(&session.client, &register_sql("transaction", "one", 2)).await?;
        // Dropped here without COMMIT.
        Ok::<_, SqlError>(())
    })??;
    wait_for("the abandoned registration to be undone", PATIENCE, || {
        ensure_eq!(count()?, "0", "nodes");
        Ok(Some(()))
    })?;
    block_on(async {
        let session = connect(&last, PATIENCE).await?;
        rows(&session.client, "BEGIN").await?;
        rows(&session.client, &register_sql("transaction", "one", 2)).await?;
        let seen = connect(&monitors.uri(0), PATIENCE).await?;
        let sql = "SELECT nodename FROM pgautofailover.node WHERE formationid = 'transaction'";
        ensure!(rows(&seen.client, sql).await?.is_empty(), "an uncommitted registration is seen");
        rows(&session.client, "COMMIT").await?;
        ensure_eq!(rows(&seen.client, sql).await?.len(), 1, "nodes after COMMIT, seen by another session");
        Ok(())
    })??;
    // The same place again is refused; nothing is counted twice.
    let again = query(&monitors.uri(0), &register_sql("transaction", "two", 2));
    ensure!(again.is_err_and(|e| e.to_string().contains("23505")), "host and port are taken");
    ensure_eq!(count()?, "1", "nodes");
    Ok(())
}

fn garbage(monitors: &dyn Monitors) -> Result<()> {
    block_on(async {
        for port in monitors.ports() {
            let mut client = RawClient::connect(port, true).await?;
            let statement = "SELECT * FROM pgautofailover.get_nodes($1, $2) ORDER BY node_id";
            let mut garbled = extended(statement, &[25, 23], &["default", "XYZXYZ"])?;
            let at = garbled.windows(6).position(|w| w == b"XYZXYZ").context("the parameter")?;
            garbled
                .get_mut(at..at + 6)
                .context("the parameter")?
                .copy_from_slice(b"\x10\xc9\x11\xff\xfe\x7f");
            let empty = extended(statement, &[25, 23], &["default", ""])?;
            for (request, codes) in [(&garbled, ["22021", "22P02"]), (&empty, ["22P02", "22P02"])] {
                let error = client.ask(request).await.err().context("garbage was accepted")?;
                ensure!(error.code().is_some_and(|code| codes.contains(&code)), "port {port}: {error}");
            }
            let proper = extended(statement, &[25, 23], &["default", "0"])?;
            client.ask(&proper).await.context("the connection is of no use after an error")?;
        }
        Ok(())
    })?
}

fn errors(monitors: &dyn Monitors) -> Result<()> {
    let statements = [
        ("42704", "SELECT * FROM pgautofailover.node_active('default', 987654, 0, 'secondary')"),
        ("42P17", "SELECT * FROM pgautofailover.register_node('nowhere', 'h', 1, 'postgres', 'n')"),
        ("23505", "SELECT * FROM pgautofailover.create_formation('default', 'pgsql', 'postgres', true, 0)"),
        ("22023", "SELECT * FROM pgautofailover.create_formation('odd', 'oracle', 'postgres', true, 0)"),
        ("XX000", "SELECT pgautofailover.perform_failover('default', 0)"),
        ("42601", "SELECT FROM * FROM pgautofailover.node"),
        ("42P01", "SELECT * FROM pgautofailover.nothing"),
        ("42883", "SELECT pgautofailover.no_such_function()"),
        ("42703", "SELECT no_such_column FROM pgautofailover.node"),
    ];
    for i in 0..monitors.len() {
        for (code, statement) in statements {
            match jepsen::sql::try_query(&monitors.uri(i), statement, PATIENCE)? {
                Err(error) => {
                    ensure!(error.code() == Some(code), "`{statement}` on monitor {i}: {error}, not {code}")
                }
                Ok(rows) => jepsen::bail!("`{statement}` on monitor {i} returned {rows:?}"),
            }
        }
    }
    Ok(())
}

/// The client keeps its transaction open while the leader dies; whatever COMMIT says, the node is
/// there once or not at all, on every monitor, and a client that tries again gets its node.
fn killed_before_commit(monitors: &mut dyn Monitors, round: usize) -> Result<()> {
    let formation = format!("killed{round}");
    let port = u16::try_from(10 + round)?;
    make_formation(monitors, &formation)?;
    let leader = monitors.leader()?;
    // Through the leader itself, a follower, and all.
    let uri = match round {
        0 => monitors.uri(leader),
        1 => monitors.uri(monitors.follower()?),
        _ => monitors.uri_all(),
    };
    let committed = block_on(async {
        let session = connect(&uri, PATIENCE).await?;
        rows(&session.client, "BEGIN").await?;
        rows(&session.client, &register_sql(&formation, "one", port)).await?;
        monitors.kill(leader)?;
        match tokio::time::timeout(PATIENCE, rows(&session.client, "COMMIT")).await {
            Ok(answer) => Ok::<_, jepsen::Failure>(answer),
            Err(_) => jepsen::bail!("COMMIT was not answered within {PATIENCE:?}"),
        }
    })??;
    eprintln!("    COMMIT: {}", committed.as_ref().err().map_or("done".to_owned(), ToString::to_string));
    monitors.leader()?;
    let sql = format!("SELECT nodeid FROM pgautofailover.node WHERE formationid = '{formation}'");
    let now = query(&monitors.uri_all(), &sql)?;
    ensure!(now.len() <= 1, "{} nodes came of one registration", now.len());
    match &committed {
        Ok(_) => ensure!(now.len() == 1, "a committed registration is gone"),
        // 40001 and a lost connection leave it open; everything else says that nothing was done.
        Err(SqlError::Server { code, .. }) if code != "40001" => {
            ensure!(now.is_empty(), "refused, yet it is there")
        }
        Err(_) => {}
    }
    if now.is_empty() {
        register(monitors, &formation, "one", port)?;
    }
    monitors.restart(leader)?;
    monitors.serving(leader)?;
    for i in 0..monitors.len() {
        ensure_eq!(query(&monitors.uri(i), &sql)?.len(), 1, "nodes seen through monitor {i}");
    }
    Ok(())
}

/// Formations, nodes and events as every monitor tells them, asked to look only at itself.
fn same_everywhere(monitors: &dyn Monitors) -> Result<()> {
    let tell = |i: usize| -> Result<String> {
        block_on(async {
            let session = connect(&monitors.uri(i), PATIENCE).await?;
            rows(&session.client, "SET pgquorum.read_consistency = 'local'").await?;
            let mut all = String::new();
            for sql in [
                "SELECT formationid, kind, dbname, number_sync_standbys FROM pgautofailover.formation ORDER BY 1",
                "SELECT nodeid, formationid, nodename, nodeport, goalstate, reportedstate \
                 FROM pgautofailover.node ORDER BY 1",
                "SELECT eventid, eventtime, nodeid, description FROM pgautofailover.event ORDER BY 1",
            ] {
                all.push_str(&format!("{:?}\n", rows(&session.client, sql).await?));
            }
            Ok(all)
        })?
    };
    wait_for("all monitors to have applied the same", PATIENCE, || {
        let first = tell(0)?;
        for i in 1..monitors.len() {
            let other = tell(i)?;
            ensure!(first == other, "monitor 0:\n{first}\nmonitor {i}:\n{other}");
        }
        Ok(Some(()))
    })
}

fn restart_all(monitors: &mut dyn Monitors) -> Result<()> {
    let all = "SELECT nodeid, formationid, nodename, goalstate FROM pgautofailover.node ORDER BY 1";
    make_formation(monitors, "restart")?;
    let dropped = register(monitors, "restart", "dropped", 41)?;
    query(&monitors.uri_all(), &format!("SELECT pgautofailover.remove_node({dropped}, true)"))?;
    let before = query(&monitors.uri_all(), all)?;
    let last_event =
        value(&monitors.uri_all(), "SELECT max(eventid) FROM pgautofailover.event")?.parse::<i64>()?;
    for i in 0..monitors.len() {
        monitors.kill(i)?;
    }
    for i in 0..monitors.len() {
        monitors.restart(i)?;
    }
    for i in 0..monitors.len() {
        monitors.serving(i)?;
    }
    ensure_eq!(query(&monitors.uri_all(), all)?, before, "nodes after the restart");
    let now = value(&monitors.uri_all(), "SELECT max(eventid) FROM pgautofailover.event")?.parse::<i64>()?;
    ensure!(now >= last_event, "events {now} after {last_event}");
    let next = register(monitors, "restart", "next", 42)?;
    ensure!(next > dropped, "id {next} was given after {dropped}: ids are used again");
    Ok(())
}
