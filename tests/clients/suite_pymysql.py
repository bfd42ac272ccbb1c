"""PyMySQL's own test suite, as its authors publish it.

The last source package on the registry that carries the suite is 0.10.1; it brings its own driver.
Through the gateway two copies run at once on schemas of their own, so that they share the pool.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import servers

SDIST = servers.TARGET / "clients" / "sdist"

COPIES = ("a", "b")
"""Names of the copies that run at once."""

_LOCAL = "pymysql/tests/test_load_local.py::TestLoadLocal"
NOT_OURS = {
    f"{_LOCAL}::test_load_file": "the source package lacks its data file",
    f"{_LOCAL}::test_unbuffered_load_file": "the source package lacks its data file",
}
"""Tests left out, each with the reason."""

_KILL = "pymysql/tests/test_issues.py::TestNewIssues::test_issue_36"
NOT_ON_MYSQL = {_KILL: "COM_PROCESS_KILL, which MySQL 9 has no more"}
"""Tests left out where the server is MySQL."""

NOT_TWICE = {_KILL: "takes any session that shows the process list for its own"}
"""Tests left out of the second copy: beside another copy of itself each fails by chance."""

NOT_BEHIND_A_GATEWAY = {
    _KILL:
        "looks for the gateway's connection id in the server's own process list and kills it",
}
"""Tests left out where connections are shared: they are about one connection of the server."""


def start(target, copy):
    """Starts one run on two schemas of its own; the process and the report's path."""
    folder = pathlib.Path(target.folder) / f"pymysql-{target.name}-{copy}"
    shutil.copytree(SDIST / "pymysql", folder / "pymysql")
    shutil.copy(SDIST / "setup.py", folder)
    schemas = [f"pymysql_{copy}1", f"pymysql_{copy}2"]
    for schema in schemas:
        target.server.sql(f"DROP DATABASE IF EXISTS {schema};"
                          f"CREATE DATABASE {schema} DEFAULT CHARACTER SET utf8mb4")
    login = {"host": target.host, "port": target.port, "user": target.user,
             "passwd": target.password}
    databases = [
        {**login, "db": schemas[0], "use_unicode": True, "local_infile": True},
        {**login, "db": schemas[1]},
    ]
    (folder / "pymysql" / "tests" / "databases.json").write_text(json.dumps(databases))
    report = folder / "report.xml"
    left_out = dict(NOT_OURS)
    if target.server.KIND == "mysql":
        left_out.update(NOT_ON_MYSQL)
    if target.is_gateway:
        left_out.update(NOT_BEHIND_A_GATEWAY)
    if copy != COPIES[0]:
        left_out.update(NOT_TWICE)
    leave_out = [f"--deselect={name}" for name in left_out]
    log = open(folder / "log", "w")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}",
         *leave_out, "pymysql/tests"],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, "PYTHONPATH": str(folder)})
    return process, report


def cases(report, copy):
    """Each test of a report that ran, with its error."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        name = f"{copy}: {case.get('classname')}.{case.get('name')}"
        problem = case.find("failure")
        problem = case.find("error") if problem is None else problem
        yield name, None if problem is None else (problem.text or problem.get("message"))[-1500:]


def run(target):
    """Yields each test of each copy with its error."""
    runs = [(copy, *start(target, copy)) for copy in COPIES]
    for copy, process, report in runs:
        try:
            process.wait(300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            yield f"{copy}: the suite", "did not end within 300 s"
            continue
        if report.exists():
            yield from cases(report, copy)
        else:
            log = (report.parent / "log").read_text()
            yield f"{copy}: the suite", log[-1500:]
