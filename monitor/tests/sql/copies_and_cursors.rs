//! COPY ... TO STDOUT, and the cursors that psql makes with FETCH_COUNT. What is expected here is what
//! PostgreSQL 15 answers to the same.

use crate::basics::{REGISTER, REGISTER_OIDS, node};
use crate::mock::Server;
use crate::raw::*;

const ROWS: &str = "VALUES (1, 'one'), (2, NULL), (3, 'a,\"b\"'), (4, '')";

#[tokio::test]
async fn copies_are_written_in_both_formats() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    for (options, copied) in [
        ("", "1\tone\n2\t\\N\n3\ta,\"b\"\n4\t\n"),
        (" csv header", "column1,column2\n1,one\n2,\n3,\"a,\"\"b\"\"\"\n4,\"\"\n"),
        (" WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'none')", "column1;column2\n1;one\n2;none\n3;\"a,\"\"b\"\"\"\n4;\n"),
        (" with delimiter as '|' null as '-'", "1|one\n2|-\n3|a,\"b\"\n4|\n"),
        (" (format csv, header off, quote '''')", "1,one\n2,\n3,'a,\"b\"'\n4,''\n"),
    ] {
        let answer = c.simple(&format!("COPY ({ROWS}) TO STDOUT{options}")).await;
        assert_eq!((answer.copied.as_str(), &answer.tags[..]), (copied, &["COPY 4".to_string()][..]), "{options}: {answer:?}");
        assert!(answer.kinds.starts_with("Hd") && answer.kinds.ends_with("dcCZ"), "{}", answer.kinds);
    }
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let table = "COPY pgautofailover.node (nodename, nodeport) TO STDOUT CSV";
    assert_eq!(c.simple(table).await.copied, "a,1\n");
    // In the extended protocol it describes no rows.
    let answer = c.params(table, &[], &[]).await;
    assert_eq!((answer.copied.as_str(), answer.kinds.as_str()), ("a,1\n", "12nHdcCZ"));
}

#[tokio::test]
async fn copies_that_cannot_be_made() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    for (sql, sqlstate) in [
        ("COPY pgautofailover.node FROM STDIN", "0A000"),
        ("COPY pgautofailover.node TO '/tmp/x'", "0A000"),
        ("COPY pgautofailover.node TO STDOUT BINARY", "0A000"),
        ("COPY pgautofailover.node TO STDOUT (FORMAT yaml)", "22023"),
        ("COPY pgautofailover.node TO STDOUT (DELIMITER 'ab')", "0A000"),
        ("COPY pgautofailover.node TO STDOUT (QUOTE 'a')", "0A000"),
        ("COPY pgautofailover.node TO STDOUT (HEADER maybe)", "42601"),
        ("COPY pgautofailover.node TO STDOUT (nosuch 1)", "42601"),
        ("COPY pgautofailover.nosuch TO STDOUT", "42P01"),
        ("COPY pgautofailover.node (nosuch) TO STDOUT", "42703"),
        ("COPY (SHOW port) TO STDOUT", "42601"),
        ("COPY (SELECT 1 TO STDOUT", "42601"),
        ("COPY (SELECT 1) STDOUT", "42601"),
        ("COPY (COPY (SELECT 1) TO STDOUT) TO STDOUT", "42601"),
        ("COPY (DELETE FROM pgautofailover.node) TO STDOUT", "42601"),
        ("COPY", "42601"),
        ("COPY (SELECT 1) TO STDOUT (", "42601"),
    ] {
        assert_eq!(c.simple(sql).await.sqlstate(), sqlstate, "{sql}");
    }
    let nested = format!("{}SELECT 1", "DECLARE c CURSOR FOR ".repeat(4_000));
    assert_eq!(c.simple(&nested).await.sqlstate(), "42601");
    assert_eq!(c.simple("SELECT 1").await.row(), ["1"], "the session goes on");
}

#[tokio::test]
async fn cursors_give_their_rows_piece_by_piece() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    // As psql with FETCH_COUNT.
    c.simple("BEGIN").await;
    assert_eq!(c.simple(&format!("DECLARE _psql_cursor NO SCROLL CURSOR FOR\n{ROWS}")).await.tags, ["DECLARE CURSOR"]);
    let answer = c.simple("FETCH FORWARD 3 FROM _psql_cursor").await;
    assert_eq!((answer.rows.len(), &answer.tags[..], answer.names()), (3, &["FETCH 3".to_string()][..], vec!["column1", "column2"]));
    let answer = c.simple("FETCH FORWARD 3 FROM _psql_cursor").await;
    assert_eq!((answer.rows.len(), &answer.tags[..]), (1, &["FETCH 1".to_string()][..]));
    assert_eq!(c.simple("FETCH _psql_cursor").await.tags, ["FETCH 0"]);
    assert_eq!(c.simple("CLOSE _psql_cursor").await.tags, ["CLOSE CURSOR"]);
    let answer = c.simple("FETCH _psql_cursor").await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("34000", "cursor \"_psql_cursor\" does not exist"));
    c.simple("ROLLBACK").await;
    // In the extended protocol, with a parameter; FETCH is described by its cursor.
    c.simple("BEGIN").await;
    let declared = c.params("DECLARE c CURSOR WITHOUT HOLD FOR SELECT $1::int + 1 AS more", &[], &["41"]).await;
    assert_eq!((&declared.tags[..], declared.kinds.as_str()), (&["DECLARE CURSOR".to_string()][..], "12nCZ"));
    let answer = c.params("FETCH ALL IN c", &[], &[]).await;
    assert_eq!((answer.names(), answer.row()), (vec!["more"], vec!["42"]));
    c.simple(&format!("DECLARE d CURSOR FOR {ROWS}")).await;
    assert_eq!(c.simple("MOVE 2 d").await.tags, ["MOVE 2"]);
    assert_eq!(c.simple("FETCH NEXT FROM d").await.row()[0], "3");
    assert_eq!(c.simple("CLOSE ALL").await.tags, ["CLOSE CURSOR ALL"]);
    assert_eq!(c.simple("COMMIT").await.tags, ["COMMIT"]);
}

#[tokio::test]
async fn cursors_end_with_their_transaction() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let answer = c.simple("DECLARE c CURSOR FOR SELECT 1").await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("25P01", "DECLARE CURSOR can only be used in transaction blocks"));
    c.simple("BEGIN").await;
    c.simple("DECLARE c CURSOR FOR SELECT 1").await;
    c.simple("COMMIT").await;
    assert_eq!(c.simple("FETCH c").await.sqlstate(), "34000");
    for (sql, sqlstate) in [
        ("DECLARE c SCROLL CURSOR FOR SELECT 1", "0A000"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "0A000"),
        ("DECLARE c CURSOR FOR SHOW port", "42601"),
        ("DECLARE c CURSOR FOR", "42601"),
        ("DECLARE c CURSOR FOR SELECT nosuch", "42703"),
        ("FETCH BACKWARD 1 FROM c", "55000"),
        ("FETCH -1 FROM c", "55000"),
        ("FETCH 99999999999999999999 FROM c", "42601"),
        ("FETCH", "42601"),
        ("CLOSE nosuch", "34000"),
    ] {
        c.simple("BEGIN").await;
        let answer = c.simple(sql).await;
        assert_eq!((answer.sqlstate(), answer.status), (sqlstate, b'E'), "{sql}");
        c.simple("ROLLBACK").await;
    }
    c.simple("BEGIN").await;
    c.simple("DECLARE c CURSOR FOR SELECT 1").await;
    assert_eq!(c.simple("DECLARE c CURSOR FOR SELECT 1").await.sqlstate(), "42P03");
    c.simple("ROLLBACK").await;
    // A writing function in a cursor is part of the transaction like any other.
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    c.simple("BEGIN").await;
    c.simple("DECLARE c CURSOR FOR SELECT pgautofailover.remove_node(1, true)").await;
    assert_eq!(c.simple("FETCH c").await.row(), ["t"]);
    c.simple("ROLLBACK").await;
    assert_eq!(c.simple("SELECT count(*) FROM pgautofailover.node").await.row(), ["1"]);
}

#[tokio::test]
async fn cursors_hold_so_much_and_no_more() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.simple("BEGIN").await;
    let many = "SELECT a.g, b.g FROM generate_series(1, 300) AS a(g), generate_series(1, 300) AS b(g)";
    let mut declared = 0;
    let refused = loop {
        let answer = c.simple(&format!("DECLARE c{declared} CURSOR FOR {many}")).await;
        if answer.error.is_some() {
            break answer;
        }
        declared += 1;
    };
    // 180,000 values each: the third one reaches the limit, which is looked at before the fourth.
    assert_eq!((refused.sqlstate(), declared), ("53400", 3));
    c.simple("ROLLBACK").await;
    assert_eq!(c.simple("SELECT 1").await.row(), ["1"]);
}

#[tokio::test]
async fn followers_copy_and_fetch_too() {
    let (_leader, follower) = Server::pair().await;
    let mut c = Client::connect(follower.address).await;
    assert_eq!(c.simple(&format!("COPY ({ROWS}) TO STDOUT")).await.tags, ["COPY 4"]);
    c.simple("BEGIN").await;
    c.simple(&format!("DECLARE c CURSOR FOR {ROWS}")).await;
    assert_eq!(c.simple("FETCH ALL c").await.rows.len(), 4);
}
