"""The mysql2 driver for Node.js: runs the suite in `mysql2/` and reads its lines."""

import os
import pathlib
import subprocess

import servers

SUITE = pathlib.Path(__file__).resolve().parent / "mysql2" / "suite.mjs"


def run(target):
    """Yields each case with its error. A suite that stops early is a failed case."""
    target.server.sql("DROP DATABASE IF EXISTS mysql2; CREATE DATABASE mysql2")
    target.server.numbers("mysql2", 50_000)
    result = subprocess.run(
        [servers.need("node"), SUITE], capture_output=True, text=True, timeout=300,
        env={**os.environ, "MYSQL_HOST": target.host, "MYSQL_PORT": str(target.port),
             "MYSQL_USER": target.user, "MYSQL_PASSWORD": target.password,
             "MYSQL_DATABASE": "mysql2"})
    ended = False
    for line in result.stdout.splitlines():
        kind, _, rest = line.partition(" - ")
        if kind == "ok":
            yield rest, None
        elif kind == "not ok":
            name, _, error = rest.partition(" # ")
            yield name, error.replace("\\n", "\n")
        elif kind == "end":
            ended = True
    if not ended:
        yield "the suite ends", f"exit {result.returncode}: {result.stderr[-1500:]}"
