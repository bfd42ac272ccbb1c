//! The account that the gateway logs in with is that of many clients: none of them may change it.

use crate::support::{ACCOUNT, Client, Gateway, MariaDb, PASSWORD, Shape};
use crate::{Form, Scene, ask, fails};

/// The gateway's refusal.
const REFUSED: u16 = 1235;

/// Statements about the account itself.
fn statements() -> Vec<String> {
    let mut all: Vec<String> = [
        "ALTER USER USER() IDENTIFIED BY 'x'",
        "ALTER USER CURRENT_USER() IDENTIFIED BY 'x'",
        "ALTER USER CURRENT_USER ACCOUNT LOCK",
        "SET PASSWORD = PASSWORD('x')",
        "SET sql_notes = 1, PASSWORD = PASSWORD('x')",
        "SET PASSWORD FOR CURRENT_USER = PASSWORD('x')",
        "SET DEFAULT ROLE NONE",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM CURRENT_USER",
        "GRANT USAGE ON *.* TO CURRENT_USER IDENTIFIED BY 'x'",
        "CREATE ROLE more WITH ADMIN CURRENT_USER",
        "CREATE USER ''@'127.0.0.1' IDENTIFIED BY 'x'",
        "CREATE USER '\\0x'@'127.0.0.1' IDENTIFIED BY 'x'",
    ]
    .map(str::to_owned)
    .into();
    let named = [
        "ALTER USER ACCT IDENTIFIED BY 'x'",
        "ALTER USER IF EXISTS bob@'%' IDENTIFIED BY 'y', 'ACCT'@'%' IDENTIFIED BY 'x'",
        "SET PASSWORD FOR 'ACCT'@'%' = PASSWORD('x')",
        "SET DEFAULT ROLE NONE FOR `ACCT`@`%`",
        "CREATE OR REPLACE USER \"ACCT\"@'%' IDENTIFIED BY 'x'",
        "CREATE USER ACCT@'127.0.0.1' IDENTIFIED BY 'x'",
        "RENAME USER 'ACCT'@'%' TO gone",
        "DROP USER 'ACCT'@'%'",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'ACCT'@'%'",
        "GRANT USAGE ON *.* TO ACCT IDENTIFIED BY 'x'",
        "CREATE ROLE more WITH ADMIN ACCT",
        "SET PASSWORD FOR 'ACCT\\0'@'%' = PASSWORD('x')",
        "ALTER USER 'ACCT\0x'@'%' ACCOUNT LOCK",
    ];
    all.extend(named.map(|sql| sql.replace("ACCT", ACCOUNT)));
    all
}

/// The server still takes the gateway's password, and the account still has its rights.
fn is_as_it_was(scene: &Scene) {
    let direct = scene.direct_login();
    let mut direct = Client::connect(&direct).expect("the account's own password");
    ask(&mut direct, Form::Text, "SELECT * FROM test.t");
}

const TABLES: &str = "CREATE OR REPLACE TABLE test.t (user INT, password INT);\n\
     CREATE USER IF NOT EXISTS bob@'%' IDENTIFIED BY 'y';\n\
     CREATE ROLE IF NOT EXISTS reader;";

/// What stands between the quotes of a literal.
fn literal(sql: &str) -> String {
    sql.replace('\\', "\\\\").replace('\'', "''")
}

fn hex(sql: &str) -> String {
    sql.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn statements_about_the_shared_account_are_refused_in_every_form() {
    let scene = Scene::new(2, TABLES);
    let mut client = scene.client(true);
    for sql in statements() {
        for form in Form::ALL {
            assert_eq!(fails(&mut client, form, &sql), REFUSED, "{form:?} {sql}");
        }
        for around in [
            format!("SELECT 1; {sql}"),
            format!("/*!50000 {sql} */"),
            format!("/*!999999 SELECT 1; */ {sql}"),
            format!("SET STATEMENT max_statement_time = 9 FOR {sql}"),
            format!("BEGIN NOT ATOMIC {sql}; END"),
            format!("EXECUTE IMMEDIATE '{}'", literal(&sql)),
            format!("EXECUTE IMMEDIATE 0x{}", hex(&sql)),
            format!("EXECUTE IMMEDIATE x'{}'", hex(&sql)),
            format!(
                "BEGIN NOT ATOMIC EXECUTE IMMEDIATE '{}'; END",
                literal(&sql)
            ),
            format!("IF 1 THEN EXECUTE IMMEDIATE '{}'; END IF", literal(&sql)),
            format!("CREATE PROCEDURE p() EXECUTE IMMEDIATE '{}'", literal(&sql)),
            format!(
                "BEGIN NOT ATOMIC DECLARE EXIT HANDLER FOR SQLEXCEPTION {sql}; SIGNAL SQLSTATE '45000'; END"
            ),
            format!(
                "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1064, NOT FOUND {sql}; DO 1; END"
            ),
            format!("SET sql_mode = ORACLE; BEGIN GOTO l; <<l>> {sql}; END"),
            format!("CREATE PROCEDURE test.update() {sql}"),
        ] {
            let error = client.query(&around).expect_err(&around);
            assert_eq!(error.errno(), REFUSED, "{around}: {error}");
            assert!(error.to_string().contains("shared_account"), "{error}");
        }
    }
    assert_eq!(ask(&mut client, Form::Text, "SELECT 1"), "1");
    is_as_it_was(&scene);
    let mut other = scene.client(false);
    assert_eq!(ask(&mut other, Form::Binary, "SELECT 2"), "2");
}

#[test]
fn other_accounts_and_columns_of_these_names_are_nobodys_concern() {
    let scene = Scene::new(2, TABLES);
    let mut client = scene.client(true);
    for form in Form::ALL {
        for sql in [
            "ALTER USER bob@'%' IDENTIFIED BY 'rg'",
            "SET PASSWORD FOR bob@'%' = PASSWORD('z')",
            "CREATE OR REPLACE USER alice@'%' IDENTIFIED BY 'rg'",
            "GRANT SELECT ON test.* TO alice@'%', bob@'%'",
            "REVOKE SELECT ON test.* FROM alice@'%'",
            "RENAME USER alice@'%' TO carol@'%'",
            "DROP USER carol@'%'",
            "FLUSH PRIVILEGES",
            "INSERT INTO t SET user = 1, password = 2",
            "SELECT user, password, CURRENT_USER() FROM t",
            "SHOW GRANTS FOR CURRENT_USER()",
            "ALTER TABLE t ALTER password SET DEFAULT 3",
            "BEGIN NOT ATOMIC UPDATE t SET password = 1, user = 2; END",
            "BEGIN NOT ATOMIC IF 1 THEN INSERT INTO t SET password = 1, user = 2; END IF; END",
            "CREATE OR REPLACE TRIGGER r BEFORE UPDATE ON t FOR EACH ROW SET NEW.password = 3",
            "CREATE OR REPLACE PROCEDURE p() BEGIN UPDATE t SET password = 1; SELECT user FROM t; END",
            "BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'UPDATE t SET password = 4'; END",
        ] {
            ask(&mut client, form, sql);
        }
    }
    is_as_it_was(&scene);
}

#[test]
fn an_account_that_only_this_client_uses_is_its_own() {
    let server = MariaDb::with_test_schema(
        "CREATE USER IF NOT EXISTS own@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('rg-test-password');\n\
         GRANT ALL PRIVILEGES ON *.* TO own@'%';",
    );
    let own = "[tenants.a]\nupstream = { user = \"own\", password = { env = \"RG_UPSTREAM_PASSWORD\" } }\n";
    let second = "[users.b]\ntenant = \"a\"\nplugin = \"mysql_native_password\"\n\
                  password = { env = \"RG_B_PASSWORD\" }\n";
    for (extra, is_own) in [("", true), (second, false)] {
        let shape = Shape {
            extra,
            ..Shape::default()
        };
        let gateway = Gateway::start(|ports| {
            let config = shape.config(ports, server.port());
            config.replace("[tenants.a]\n", own)
        });
        let mut client = gateway.client();
        let sql = format!("SET PASSWORD = PASSWORD('{PASSWORD}')");
        let answer = client.query_one(&sql);
        match is_own {
            true => assert_eq!(answer.expect("its own account").affected, 0),
            false => assert_eq!(answer.expect_err("shared").errno(), REFUSED),
        }
    }
}
