"""The `mysql` shell: what a person types, judged by what the shell prints."""

import subprocess

import servers


def shell(target, *arguments, text=None, user=None, schema="shell"):
    """Runs the shell; exit code, output and error output."""
    result = subprocess.run(
        [servers.need("mariadb"), "--no-defaults", "--protocol=tcp", f"--host={target.host}",
         f"--port={target.port}", f"--user={user or target.user}",
         f"--password={target.password}", "--default-character-set=utf8mb4",
         "--max-allowed-packet=128M", *arguments, *([schema] if schema else [])],
        input=text, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout, result.stderr


def expect(found, wanted):
    """None when they are the same, else a text that shows both."""
    if found == wanted:
        return None
    return f"expected {str(wanted)[:400]!r}\nfound    {str(found)[:400]!r}"


def batch(target, sql, *arguments):
    """Output of a batch run without heads; raises when the shell fails."""
    code, out, error = shell(target, "--batch", "--skip-column-names", *arguments, text=sql)
    if code:
        raise AssertionError(f"exit {code}: {error}")
    return out


def select(target):
    return expect(batch(target, "SELECT 1; SELECT 'a', NULL, 2.50;"), "1\na\tNULL\t2.50\n")


def table(target):
    return expect(batch(target, """
        DROP TABLE IF EXISTS t;
        CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) NOT NULL, at DATETIME);
        INSERT INTO t (name, at) VALUES ('ä€😀', '2026-01-02 03:04:05'), ('b', NULL);
        SELECT LAST_INSERT_ID();
        UPDATE t SET name = CONCAT(name, '!') WHERE id = 2;
        SELECT ROW_COUNT();
        SELECT * FROM t ORDER BY id;
        DELETE FROM t WHERE id = 1;
        SELECT COUNT(*) FROM t;
        """), "1\n1\n1\tä€😀\t2026-01-02 03:04:05\n2\tb!\tNULL\n1\n")


def multi_statements(target):
    # The shell with another delimiter sends all three as one command.
    return expect(batch(target, "SELECT 1; SELECT 2; SELECT 3 //\n", "--delimiter=//"), "1\n2\n3\n")


def multi_statements_stop_at_error(target):
    code, out, error = shell(target, "--batch", "--skip-column-names", "--delimiter=//",
                             text="SELECT 1; SELECT * FROM missing; SELECT 3 //\n")
    return expect((code, out, "ERROR 1146 (42S02)" in error), (1, "1\n", True))


def multi_resultsets(target):
    batch(target, "DROP PROCEDURE IF EXISTS p //\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2, 3;"
                  " END //\n", "--delimiter=//")
    return expect(batch(target, "CALL p(); SELECT 'after';"), "1\n2\t3\nafter\n")


def warnings(target):
    out = batch(target, "SELECT 1/0; SELECT CAST('x' AS SIGNED);", "--show-warnings")
    return expect(out, "NULL\nWarning (Code 1365): Division by 0\n0\n"
                       "Warning (Code 1292): Truncated incorrect INTEGER value: 'x'\n")


def warnings_belong_to_the_last_statement(target):
    # Only a statement that reads a table forgets the warnings of the one before.
    return expect(batch(target, "SELECT 1/0; SHOW WARNINGS; SHOW COUNT(*) WARNINGS;"
                                "SELECT COUNT(*) FROM mysql.db WHERE FALSE; SHOW WARNINGS;"
                                "SELECT 'end';"),
                  "NULL\nWarning\t1365\tDivision by 0\n1\n0\nend\n")


def use_database(target):
    return expect(batch(target, "CREATE DATABASE IF NOT EXISTS shell_two; USE shell_two;"
                                "SELECT DATABASE(); USE shell; SELECT DATABASE();"),
                  "shell_two\nshell\n")


def no_initial_schema(target):
    code, out, error = shell(target, "--batch", "--skip-column-names", schema=None,
                             text="SELECT 7; SHOW DATABASES LIKE 'shell';")
    return expect((code, out), (0, "7\nshell\n")) and f"{out}\n{error}"


def unknown_schema(target):
    code, _, error = shell(target, "--execute=SELECT 1", schema="no_such_schema")
    return expect((code, "ERROR 1049 (42000)" in error), (1, True))


def errors_keep_the_session(target):
    code, out, error = shell(target, "--batch", "--skip-column-names", "--force",
                             text="SELEC 1; SELECT 'still here';")
    return expect((code, out, "ERROR 1064 (42000)" in error), (0, "still here\n", True))


def session_variables(target):
    return expect(batch(target, """
        SET SESSION sql_mode = 'ANSI_QUOTES'; SET time_zone = '+03:00'; SET @mine = 'kept';
        SELECT @@sql_mode, @@time_zone, @mine; SELECT "name" FROM (SELECT 1 AS name) AS x;
        """), "ANSI_QUOTES\t+03:00\tkept\n1\n")


def transaction(target):
    return expect(batch(target, """
        DROP TABLE IF EXISTS tx; CREATE TABLE tx (a INT) ENGINE=InnoDB;
        START TRANSACTION; INSERT INTO tx VALUES (1); SELECT COUNT(*) FROM tx; ROLLBACK;
        SELECT COUNT(*) FROM tx; SET autocommit = 0; INSERT INTO tx VALUES (2); COMMIT;
        SELECT a FROM tx; SET autocommit = 1;
        """), "1\n0\n2\n")


def an_unfinished_transaction_is_rolled_back(target):
    batch(target, "DROP TABLE IF EXISTS left_open; CREATE TABLE left_open (a INT) ENGINE=InnoDB;")
    batch(target, "START TRANSACTION; INSERT INTO left_open VALUES (1);")
    return expect(batch(target, "SELECT COUNT(*) FROM left_open;"), "0\n")


def temporary_table(target):
    return expect(batch(target, "CREATE TEMPORARY TABLE own (a INT); INSERT INTO own VALUES (5);"
                                "SELECT a FROM own;"), "5\n")


def found_rows(target):
    return expect(batch(target, "SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2 UNION SELECT 3 LIMIT 1;"
                                "SELECT FOUND_ROWS();"), "1\n3\n")


def large_value(target):
    size = 20 * 1024 * 1024
    out = batch(target, f"SELECT REPEAT('x', {size});", "--quick")
    return expect((len(out), set(out)), (size + 1, {"x", "\n"}))


def large_statement(target):
    size = 17 * 1024 * 1024
    return expect(batch(target, f"SELECT LENGTH('{'y' * size}');"), f"{size}\n")


def many_rows(target):
    out = batch(target, "SELECT seq, REPEAT('r', seq % 50) FROM numbers ORDER BY seq;", "--quick")
    wanted = "".join(f"{i}\t{'r' * (i % 50)}\n" for i in range(1, 100001))
    return expect(len(out), len(wanted)) or (None if out == wanted else "the rows differ")


def text_prepare(target):
    return expect(batch(target, "PREPARE s FROM 'SELECT ? + 1'; SET @a = 41; EXECUTE s USING @a;"
                                "DEALLOCATE PREPARE s;"), "42\n")


def status(target):
    code, out, error = shell(target, "--execute=status")
    wanted = ["Connection id", "Current database:\tshell", "Server version"]
    if not target.is_gateway:
        # COM_STATISTICS, which the gateway answers with 1047; the shell then leaves the line out.
        wanted.append("Uptime")
    missing = [word for word in wanted if word not in out]
    return f"exit {code}, missing {missing}: {out}{error}" if code or missing else None


def completion_tables(target):
    # With a rehash the shell asks for every table and field of the schema.
    code, out, error = shell(target, "--auto-rehash", "--execute=SELECT 1")
    return expect((code, out), (0, "1\n1\n")) and f"{out}\n{error}"


CASES = [
    select, table, multi_statements, multi_statements_stop_at_error, multi_resultsets, warnings,
    warnings_belong_to_the_last_statement, use_database, no_initial_schema, unknown_schema,
    errors_keep_the_session, session_variables, transaction,
    an_unfinished_transaction_is_rolled_back, temporary_table, found_rows, large_value,
    large_statement, many_rows, text_prepare, status, completion_tables,
]


def run(target):
    """Yields each case with its error."""
    target.server.sql("DROP DATABASE IF EXISTS shell; CREATE DATABASE shell")
    target.server.numbers("shell", 100_000)
    for case in CASES:
        try:
            yield case.__name__, case(target)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            yield case.__name__, str(error)
