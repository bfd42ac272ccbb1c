//! The mysql_async driver against MariaDB itself, as the oracle, and through the gateway.

#![allow(clippy::expect_used, reason = "a failure must fail the test")]

mod support;

use std::future::Future;

use mysql_async::prelude::{BatchQuery, Query, Queryable, WithParams};
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row, TxOpts, Value,
};
use support::{ACCOUNT, Gateway, MariaDb, MariaDbOptions, PASSWORD};

type Done = Result<(), Error>;
type Typed = (i64, f64, String, Vec<u8>, Option<i32>);

fn server() -> MariaDb {
    MariaDb::start(MariaDbOptions {
        init_sql: "CREATE DATABASE IF NOT EXISTS test;".to_owned(),
        ..MariaDbOptions::default()
    })
}

fn opts(port: u16, user: &str, password: &str) -> Opts {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(user))
        .pass(Some(password))
        .db_name(Some("test"))
        .prefer_socket(false)
        .stmt_cache_size(Some(4))
        .into()
}

fn block_on(work: impl Future<Output = Done>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(work)
        .expect("no error from the driver");
}

async fn query(conn: &mut Conn) -> Done {
    let rows: Vec<(u32, String, Option<u8>)> = conn.query("SELECT 1, 'zwei ä€😀', NULL").await?;
    assert_eq!(rows, [(1, "zwei ä€😀".to_owned(), None)]);
    let error = conn.query_drop("SELECT * FROM no_such_table").await;
    assert!(matches!(error, Err(Error::Server(error)) if error.code == 1146));
    conn.ping().await
}

async fn prepared(conn: &mut Conn) -> Done {
    conn.query_drop(
        "CREATE OR REPLACE TABLE typed (i BIGINT, d DOUBLE, s TEXT, b LONGBLOB, n INT)",
    )
    .await?;
    let blob: Vec<u8> = (0..=255).collect();
    for number in [i64::MIN, -1, 0, i64::MAX] {
        let row = (number, 1.5e300, "ä€😀", &blob, None::<i32>);
        conn.exec_drop("INSERT INTO typed VALUES (?, ?, ?, ?, ?)", row)
            .await?;
    }
    let rows: Vec<Typed> = conn
        .exec("SELECT * FROM typed WHERE i >= ? ORDER BY i", (-1,))
        .await?;
    assert_eq!(
        rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        [-1, 0, i64::MAX]
    );
    assert!(
        rows.iter()
            .all(|row| row.3 == blob && row.2 == "ä€😀" && row.4.is_none())
    );
    // More statements than the cache holds: each is closed and prepared again.
    for round in 0..40_u32 {
        let sql = format!("SELECT {} + ?", round % 8);
        assert_eq!(
            conn.exec_first(sql, (round,)).await?,
            Some(round % 8 + round)
        );
    }
    Ok(())
}

async fn batch(conn: &mut Conn) -> Done {
    conn.query_drop("CREATE OR REPLACE TABLE batched (a INT PRIMARY KEY, b INT)")
        .await?;
    let rows = (0..200).map(|number| (number, number * 2));
    "INSERT INTO batched VALUES (?, ?)"
        .with(rows)
        .batch(&mut *conn)
        .await?;
    assert_eq!(conn.affected_rows(), 1);
    let sum: Option<(u32, u32)> = "SELECT COUNT(*), SUM(b) FROM batched"
        .first(&mut *conn)
        .await?;
    assert_eq!(sum, Some((200, 39_800)));
    Ok(())
}

async fn transaction(conn: &mut Conn) -> Done {
    conn.query_drop("CREATE OR REPLACE TABLE moved (a INT) ENGINE=InnoDB")
        .await?;
    let mut open = conn.start_transaction(TxOpts::default()).await?;
    open.query_drop("INSERT INTO moved VALUES (1)").await?;
    open.rollback().await?;
    let mut open = conn.start_transaction(TxOpts::default()).await?;
    open.exec_drop("INSERT INTO moved VALUES (?)", (2,)).await?;
    open.commit().await?;
    assert_eq!(conn.query::<u32, _>("SELECT a FROM moved").await?, [2]);
    Ok(())
}

async fn several_results(conn: &mut Conn) -> Done {
    let mut result = conn
        .query_iter("SELECT 1; SELECT 2, 3; DO 1; SELECT 4")
        .await?;
    assert_eq!(result.collect::<u32>().await?, [1]);
    assert_eq!(result.collect::<(u32, u32)>().await?, [(2, 3)]);
    assert!(result.collect::<Row>().await?.is_empty());
    assert_eq!(result.collect::<u32>().await?, [4]);
    result.drop_result().await?;
    conn.query_drop("CREATE OR REPLACE PROCEDURE two() BEGIN SELECT 5; SELECT 6; END")
        .await?;
    let mut result = conn.exec_iter("CALL two()", Params::Empty).await?;
    assert_eq!(result.collect::<u32>().await?, [5]);
    assert_eq!(result.collect::<u32>().await?, [6]);
    result.drop_result().await
}

/// Around the length at which a packet needs a second one.
async fn big_packets(conn: &mut Conn) -> Done {
    for length in [
        0xff_ff_ff - 5,
        0xff_ff_ff - 1,
        0xff_ff_ff,
        0x1_00_00_00,
        33 << 20,
    ] {
        let text = "x".repeat(length);
        let found: Option<usize> = conn.exec_first("SELECT LENGTH(?)", (&text,)).await?;
        assert_eq!(found, Some(length), "a parameter of {length} bytes");
        let back: Option<Vec<u8>> = conn
            .query_first(format!("SELECT REPEAT('x', {length})"))
            .await?;
        assert_eq!(
            back.map(|bytes| bytes == text.as_bytes()),
            Some(true),
            "{length} bytes back"
        );
    }
    Ok(())
}

async fn session_state(conn: &mut Conn) -> Done {
    conn.query_drop("SET @kept = 'mine', time_zone = '+02:00'")
        .await?;
    for _ in 0..5 {
        let row: Option<(String, String)> = conn.query_first("SELECT @kept, @@time_zone").await?;
        assert_eq!(row, Some(("mine".to_owned(), "+02:00".to_owned())));
    }
    conn.query_drop("CREATE OR REPLACE TABLE ids (id INT PRIMARY KEY AUTO_INCREMENT)")
        .await?;
    conn.query_drop("INSERT INTO ids VALUES (NULL), (NULL)")
        .await?;
    assert_eq!(conn.last_insert_id(), Some(1));
    assert_eq!(conn.query_first("SELECT LAST_INSERT_ID()").await?, Some(1));
    assert!(conn.reset().await?);
    let row: Option<Value> = conn.query_first("SELECT @kept").await?;
    assert_eq!(row, Some(Value::NULL));
    Ok(())
}

async fn pooled(opts: Opts) -> Done {
    let sizes = PoolConstraints::new(0, 8).expect("sizes in order");
    let pool = Pool::new(
        OptsBuilder::from_opts(opts).pool_opts(PoolOpts::default().with_constraints(sizes)),
    );
    let tasks: Vec<_> = (0..32_u32)
        .map(|task| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let mut conn = pool.get_conn().await?;
                    let tag = task * 1000 + round;
                    assert_eq!(conn.exec_first("SELECT ? + 0", (tag,)).await?, Some(tag));
                    assert_eq!(conn.query_first(format!("SELECT {tag}")).await?, Some(tag));
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task that does not panic")?;
    }
    pool.disconnect().await
}

async fn everything(opts: Opts) -> Done {
    let mut conn = Conn::new(opts.clone()).await?;
    query(&mut conn).await?;
    prepared(&mut conn).await?;
    batch(&mut conn).await?;
    transaction(&mut conn).await?;
    several_results(&mut conn).await?;
    big_packets(&mut conn).await?;
    session_state(&mut conn).await?;
    conn.disconnect().await?;
    pooled(opts).await
}

#[test]
fn mysql_async_works_on_mariadb_itself() {
    let server = server();
    block_on(everything(opts(server.port(), ACCOUNT, PASSWORD)));
}

#[test]
fn mysql_async_works_through_the_gateway() {
    let (a, b) = (server(), server());
    let gateway = Gateway::two_shards(&a, &b, 2, "");
    block_on(everything(opts(gateway.port(), "a", "password-of-a")));
    block_on(everything(opts(gateway.port(), "b", "password-of-b")));
}
