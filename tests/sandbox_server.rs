//! The embedded shard as a client sees it: mysql_async against a live one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value, params};
use ringgate::sandbox::{Shard, ShardOptions};

fn start() -> Shard {
    Shard::start(ShardOptions {
        users: vec![
            ("ann".into(), "secret".into()),
            ("open".into(), String::new()),
        ],
        databases: vec!["shop".into()],
        ..ShardOptions::default()
    })
    .unwrap()
}

fn options(shard: &Shard, user: &str, password: &str) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(shard.address().port())
        .user(Some(user))
        .pass(Some(password))
        .db_name(Some("shop"))
        .prefer_socket(false)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn logins_succeed_and_fail_as_mysqls_do() {
    let shard = start();
    block_on(async {
        let check = async |user: &str, password: &str, schema: &str, expect: Option<u16>| {
            let options = options(&shard, user, password).db_name(Some(schema));
            let error = match Conn::new(options).await {
                Ok(conn) => {
                    conn.disconnect().await.unwrap();
                    None
                }
                Err(mysql_async::Error::Server(error)) => Some(error.code),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(error, expect, "{user} {password} {schema}");
        };
        check("ann", "secret", "shop", None).await;
        check("ann", "wrong", "shop", Some(1045)).await;
        check("ann", "", "shop", Some(1045)).await;
        check("nobody", "secret", "shop", Some(1045)).await;
        check("open", "", "shop", None).await;
        check("open", "x", "shop", Some(1045)).await;
        check("ann", "secret", "nowhere", Some(1049)).await;
    });
}

#[test]
fn text_and_binary_results_agree_and_keep_their_types() {
    let shard = start();
    block_on(async {
        let mut conn = Conn::new(options(&shard, "ann", "secret")).await.unwrap();
        conn.query_drop(
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, big BIGINT UNSIGNED, price DECIMAL(8,2), \
             ratio DOUBLE, name VARCHAR(30), data BLOB, at DATETIME, day DATE, span TIME, yes BOOL)",
        )
        .await
        .unwrap();
        let insert = "INSERT INTO t (big, price, ratio, name, data, at, day, span, yes) \
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let at = Value::Date(2024, 2, 29, 12, 30, 15, 0);
        let day = Value::Date(2024, 2, 29, 0, 0, 0, 0);
        let span = Value::Time(false, 0, 10, 11, 12, 0);
        let row = (
            7_u64,
            "12.5",
            0.25,
            "it's ä",
            b"\x00\xff".to_vec(),
            at.clone(),
            day.clone(),
            span.clone(),
            true,
        );
        conn.exec_drop(insert, row).await.unwrap();
        assert_eq!(conn.last_insert_id(), Some(1));
        assert_eq!(conn.affected_rows(), 1);
        let text: Row = conn.query_first("SELECT * FROM t").await.unwrap().unwrap();
        let text: Vec<String> = text.unwrap().into_iter().map(|v| v.as_sql(false)).collect();
        let written = [
            "'1'",
            "'7'",
            "'12.50'",
            "'0.25'",
            "'it\\'s ä'",
            "X'00ff'",
            "'2024-02-29 12:30:15'",
            "'2024-02-29'",
            "'10:11:12'",
            "'1'",
        ];
        assert_eq!(text[..5], written[..5]);
        assert_eq!(text[6..], written[6..]);
        let binary: Row = conn
            .exec_first("SELECT * FROM t WHERE id = ?", (1,))
            .await
            .unwrap()
            .unwrap();
        let expect = [
            Value::Int(1),
            Value::Int(7),
            Value::Bytes(b"12.50".to_vec()),
            Value::Double(0.25),
            Value::Bytes("it's ä".into()),
            Value::Bytes(b"\x00\xff".to_vec()),
            at,
            day,
            span,
            Value::Int(1),
        ];
        let binary = binary.unwrap();
        assert_eq!(binary, expect);
        conn.disconnect().await.unwrap();
    });
}

#[test]
fn transactions_multi_statements_errors_and_resets_work() {
    let shard = start();
    shard
        .execute("shop", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)")
        .unwrap();
    block_on(async {
        let mut conn = Conn::new(options(&shard, "ann", "secret")).await.unwrap();
        conn.query_drop("BEGIN; INSERT INTO t VALUES (2); ROLLBACK")
            .await
            .unwrap();
        let all: Vec<i64> = conn.query("SELECT a FROM t").await.unwrap();
        assert_eq!(all, [1]);
        let mut result = conn.query_iter("SELECT 1; SELECT 'x', 2").await.unwrap();
        assert_eq!(result.collect::<i64>().await.unwrap(), [1]);
        assert_eq!(
            result.collect::<(String, i64)>().await.unwrap(),
            [("x".to_owned(), 2)]
        );
        drop(result);
        let error = conn
            .query_drop("SELECT * FROM missing")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1146") && error.contains("shop.missing"),
            "{error}"
        );
        let error = conn
            .prep("SELECT * FROM missing")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("1146"), "{error}");
        conn.query_drop("SET @a = 5; CREATE TEMPORARY TABLE tmp (a INT)")
            .await
            .unwrap();
        assert!(conn.reset().await.unwrap());
        let gone: Option<Option<i64>> = conn.query_first("SELECT @a").await.unwrap();
        assert_eq!(gone, Some(None));
        assert!(
            conn.query_drop("SELECT * FROM tmp")
                .await
                .unwrap_err()
                .to_string()
                .contains("1146")
        );
        conn.ping().await.unwrap();
        conn.disconnect().await.unwrap();
    });
}

#[test]
fn large_values_cross_packet_boundaries_both_ways() {
    let shard = start();
    block_on(async {
        let mut conn = Conn::new(options(&shard, "ann", "secret")).await.unwrap();
        conn.query_drop("CREATE TABLE big (id INT, data LONGBLOB)")
            .await
            .unwrap();
        for (id, length) in [(1, 1 << 10), (2, (1 << 24) - 20), (3, 17 << 20)] {
            let data = vec![0xee_u8; length];
            let named = params! { "id" => id, "data" => data };
            conn.exec_drop("INSERT INTO big VALUES (:id, :data)", named)
                .await
                .unwrap();
            let back: Option<Vec<u8>> = conn
                .exec_first("SELECT data FROM big WHERE id = ?", (id,))
                .await
                .unwrap();
            let back = back.unwrap();
            assert!(
                back.len() == length && back.iter().all(|byte| *byte == 0xee),
                "{length}"
            );
        }
        conn.disconnect().await.unwrap();
    });
}

#[test]
fn a_dropped_shard_closes_its_connections_and_its_port() {
    let shard = start();
    let address = shard.address();
    block_on(async {
        let mut conn = Conn::new(options(&shard, "ann", "secret")).await.unwrap();
        assert_eq!(shard.sessions(), 1);
        drop(shard);
        assert!(conn.ping().await.is_err());
    });
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_connection_can_be_killed_and_writers_wait_for_each_other() {
    let shard = start();
    shard
        .execute("shop", "CREATE TABLE n (v INT); INSERT INTO n VALUES (0)")
        .unwrap();
    block_on(async {
        let mut one = Conn::new(options(&shard, "ann", "secret")).await.unwrap();
        let mut two = Conn::new(options(&shard, "open", "")).await.unwrap();
        let add = async |conn: &mut Conn| {
            for _ in 0..20 {
                let sql = "BEGIN; SELECT v FROM n FOR UPDATE; UPDATE n SET v = v + 1; COMMIT";
                conn.query_drop(sql).await.unwrap();
            }
        };
        tokio::join!(add(&mut one), add(&mut two));
        let sum: Option<i64> = one.query_first("SELECT v FROM n").await.unwrap();
        assert_eq!(sum, Some(40));
        one.query_drop(format!("KILL {}", two.id())).await.unwrap();
        assert!(two.ping().await.is_err());
        one.disconnect().await.unwrap();
    });
}
