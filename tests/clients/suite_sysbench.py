"""sysbench's read-write transactions, with text and with prepared statements."""

import re
import subprocess

import servers

TABLES, ROWS, THREADS, EVENTS = 2, 1000, 8, 400


def sysbench(target, command, *arguments):
    """Runs sysbench on the schema `sbtest`; its output. Raises when it fails."""
    result = subprocess.run(
        [servers.need("sysbench"), "oltp_read_write", "--db-driver=mysql",
         f"--mysql-host={target.host}", f"--mysql-port={target.port}",
         f"--mysql-user={target.user}", f"--mysql-password={target.password}",
         "--mysql-db=sbtest", f"--tables={TABLES}", f"--table-size={ROWS}", *arguments, command],
        capture_output=True, text=True, timeout=180)
    if result.returncode:
        raise AssertionError(result.stdout[-1500:] + result.stderr[-1500:])
    return result.stdout


def number(output, name):
    """A count of sysbench's report; an error line that is absent would otherwise pass as zero."""
    found = re.search(rf"{name}:\s+(\d+)", output)
    if found is None:
        raise AssertionError(f"no {name} in:\n{output}")
    return int(found.group(1))


def load(target, *arguments):
    """A bounded run. Deadlocks are MariaDB's right and sysbench repeats them; a reconnect is not."""
    output = sysbench(target, "run", f"--threads={THREADS}", f"--events={EVENTS}", "--time=120",
                      *arguments)
    transactions, reconnects = number(output, "transactions"), number(output, "reconnects")
    if transactions < EVENTS or reconnects:
        return output
    return None


def rows(target):
    """Each transaction deletes one row and puts it back: none may be missing or twice there."""
    found = target.server.sql("SELECT COUNT(*), COUNT(DISTINCT id) FROM sbtest.sbtest1;"
                              "SELECT COUNT(*), COUNT(DISTINCT id) FROM sbtest.sbtest2;").split()
    return None if found == [str(ROWS)] * 4 else f"rows and different ids: {found}"


def run(target):
    """Yields each case with its error."""
    target.server.sql("DROP DATABASE IF EXISTS sbtest; CREATE DATABASE sbtest")
    cases = [
        ("prepare", lambda: sysbench(target, "prepare") and None),
        ("text statements", lambda: load(target, "--db-ps-mode=disable")),
        ("prepared statements", lambda: load(target, "--db-ps-mode=auto")),
        ("prepared, no transactions", lambda: load(target, "--db-ps-mode=auto", "--skip-trx=on",
                                                   "--delete-inserts=0", "--index-updates=1")),
        ("rows", lambda: rows(target)),
        ("cleanup", lambda: sysbench(target, "cleanup") and None),
    ]
    for name, case in cases:
        try:
            yield name, case()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            yield name, str(error)
