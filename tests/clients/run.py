#!/usr/bin/env python3
"""Runs real MySQL clients against MariaDB or MySQL directly and through the gateway.

The direct run is the oracle: it shows that a case is right about MySQL. Each case then has to pass
through the gateway too, with a wide pool and with a narrow one.

    tests/clients/run.py [--server mariadb|mysql] [--target direct|gateway|both] [--suite NAME ...]
        [--gateway BINARY]

Without a MySQL server `--server mysql` says that it is skipped, and runs nothing.

The last line is "N passed, N failed" over every case of every target.
"""

import argparse
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import servers
import suite_login
import suite_mysql2
import suite_pymysql
import suite_shell
import suite_sysbench

SUITES = {
    "shell": suite_shell,
    "sysbench": suite_sysbench,
    "pymysql": suite_pymysql,
    "mysql2": suite_mysql2,
    "login": suite_login,
}

NARROW = 3
"""Upstream connections of the narrow pool: fewer than the clients that the suites open at once."""


class Target:
    """Where a suite connects to."""

    def __init__(self, name, port, other_port, server, folder):
        self.name, self.host, self.port = name, "127.0.0.1", port
        self.user, self.password = servers.CLIENT, servers.CLIENT_PASSWORD
        self.other_port = other_port
        """Where user `other` reaches the second server; None when there is no such user."""
        self.server = server
        """The first server itself."""
        self.folder = folder
        """A folder for the suite's own files."""

    @property
    def is_gateway(self):
        return self.name != "direct"


SERVERS = {"mariadb": servers.MariaDb, "mysql": servers.MySql}


def targets(stage, kind, wanted, binary):
    """Starts what is needed and yields each target."""
    shards = [stage.add(kind(stage.folder, f"{kind.KIND}-{i}")) for i in range(2)]
    if wanted in ("direct", "both"):
        yield Target("direct", shards[0].port, None, shards[0], stage.folder)
    if wanted in ("gateway", "both"):
        ports = [shard.port for shard in shards]
        for name, budget in (("wide", 64), ("narrow", NARROW)):
            gateway = servers.Gateway(binary, stage.folder, ports, name, budget=budget)
            stage.add(gateway)
            yield Target(name, gateway.port, gateway.port, shards[0], stage.folder)
            code = gateway.stop(grace=40)
            if code != 0:
                raise servers.StartError(f"the gateway ended with {code}:\n{gateway.log_end()}")


def run_suite(name, target):
    """The suite's cases as (name, error or None); a suite that breaks is one failed case."""
    begun = time.monotonic()
    try:
        cases = list(SUITES[name].run(target))
    except Exception as error:  # A broken suite must not hide the others.
        cases = [("the suite itself", f"{type(error).__name__}: {error}")]
    failed = [case for case in cases if case[1] is not None]
    seconds = time.monotonic() - begun
    print(f"{target.name:7} {name:9} {len(cases) - len(failed):4} passed, {len(failed)} failed "
          f"({seconds:.1f} s)", flush=True)
    for case, error in failed:
        print(f"    FAILED {case}\n        " + str(error).strip().replace("\n", "\n        "))
    return len(cases) - len(failed), len(failed)


def main():
    parser = argparse.ArgumentParser(description="Real MySQL clients against the gateway.")
    parser.add_argument("--server", choices=sorted(SERVERS), default="mariadb")
    parser.add_argument("--target", choices=["direct", "gateway", "both"], default="both")
    parser.add_argument("--suite", action="append", choices=sorted(SUITES))
    parser.add_argument("--gateway", default=servers.TARGET / "debug" / "ringgate")
    options = parser.parse_args()
    # Whoever ends this run early still wants its servers ended and its folder gone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    kind = SERVERS[options.server]
    if kind is servers.MySql and not kind.is_there():
        print("skipped: no MySQL server: scripts/lib/fetch_mysql gets one")
        return 0
    passed = failed = 0
    try:
        with servers.Stage("ringgate-clients") as stage:
            for target in targets(stage, kind, options.target, pathlib.Path(options.gateway)):
                for name in options.suite or SUITES:
                    if target.is_gateway or name != "login":
                        ok, bad = run_suite(name, target)
                        passed, failed = passed + ok, failed + bad
    except servers.StartError as error:
        print(f"clients: {error}")
        failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
