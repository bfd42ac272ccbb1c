"""Starts MariaDB and MySQL servers and the gateway on loopback for the client suites and the benchmark.

Everything keeps its files in one temporary folder, is ended by its own process id, and dies with
the program that started it. Only Python's standard library is used.
"""

import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

ACCOUNT, PASSWORD = "rg", "rg-test-password"
"""What the gateway logs in with upstream; it has all privileges."""

CLIENT, CLIENT_PASSWORD = "suite", "suite-password"
"""What client suites log in with: an account of the server and a user of the gateway alike."""

_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """Something did not start; the text says what and why."""


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)


_taken = []
"""What says that this process has taken a port, until it ends."""


def _take(port):
    """Whether the port is now this process's; tests/support/port.rs asks in the same way."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0ringgate-test-port-{port}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return False
    _taken.append(held)
    return True


def free_port():
    """A loopback port that nobody listens on and that no other call gives away.

    It lies below those that the kernel gives to clients (by default from 32768)."""
    begin = os.getpid() * 97
    for step in range(20_000):
        port = 12_000 + (begin + step) % 20_000
        if _take(port):
            return port
    raise StartError("no loopback port is free between 12000 and 31999")


def need(program):
    """The program's path, or an error that says how to get it."""
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        raise StartError(f"{program} is not installed: run scripts/setup")
    return path


def wait_for(limit, done):
    """Asks `done` until it says yes; False when `limit` seconds passed before."""
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def accepts(port):
    """Whether somebody accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A child process with a log file. `cpus` pins it."""

    def __init__(self, name, command, log, env=None, cpus=None):
        self.name, self.log = name, pathlib.Path(log)
        if cpus is not None:
            command = [need("taskset"), "-c", str(cpus), *command]
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent)

    @property
    def pid(self):
        return self.child.pid

    def wait_until(self, done, limit=60):
        """Waits for `done`; raises with the log's end when the process ends or is too slow."""
        def settled():
            return self.child.poll() is not None or done()
        if not wait_for(limit, settled) or self.child.poll() is not None:
            raise StartError(f"{self.name} did not start:\n{self.log_end()}")

    def log_end(self):
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def cpu_seconds(self):
        """User and system time used so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        """Resident memory."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def pin(self, cpus):
        """Moves every thread of the process to these CPUs ("0" or "0-1")."""
        subprocess.run([need("taskset"), "-a", "-p", "-c", str(cpus), str(self.pid)],
                       check=True, stdout=subprocess.DEVNULL)

    def stop(self, grace=0):
        """Ends the process: SIGTERM and `grace` seconds if given, then SIGKILL. Its exit code."""
        if grace and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        if self.child.poll() is None:
            self.child.kill()
        return self.child.wait()


class Server(Process):
    """A server on a copy of a prepared data folder; its kind is the class."""

    def __init__(self, folder, name=None, arguments=(), cpus=None):
        name = name or self.KIND
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(parents=True)
        shutil.copytree(self._template(), self.folder / "data")
        self.port = free_port()
        self.socket = self.folder / "socket"
        init = self.folder / "init.sql"
        lines = []
        accounts = ((ACCOUNT, PASSWORD), (CLIENT, CLIENT_PASSWORD))
        for user, password in accounts:
            lines.append(f"CREATE USER IF NOT EXISTS '{user}'@'%' {self.identified(password)};")
            lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;")
        lines.append("CREATE DATABASE IF NOT EXISTS test;")
        init.write_text("\n".join(lines) + "\n")
        super().__init__(name, [
            *self.command(), f"--datadir={self.folder}/data",
            # A server clears its temporary folder when it starts: not one that others use.
            f"--tmpdir={self.folder}",
            f"--socket={self.socket}", f"--pid-file={self.folder}/pid", f"--init-file={init}",
            f"--port={self.port}", *_ARGUMENTS, *arguments], self.folder / "log", cpus=cpus)
        self.wait_until(lambda: "ready for connections" in self.log.read_text(errors="replace"))
        for user, password in accounts:
            # MySQL asks for the password itself once, and gets it over the socket file.
            self._shell("DO 0", user, password)

    def sql(self, text):
        """Runs SQL as root over the socket file; the rows as tab-separated lines."""
        return self._shell(text, "root", "")

    def numbers(self, schema, count):
        """A table `numbers` of the schema, with `seq` from 1 to `count`."""
        places = (count - 1).bit_length()
        bits = ", ".join(f"bits AS b{place}" for place in range(places))
        value = " + ".join(f"(b{place}.n << {place})" for place in range(places))
        self.sql(f"CREATE TABLE {schema}.numbers (seq INT PRIMARY KEY) ENGINE=InnoDB;"
                 f"INSERT INTO {schema}.numbers WITH bits AS (SELECT 0 AS n UNION ALL SELECT 1)"
                 f" SELECT {value} + 1 FROM {bits} WHERE {value} < {count}")

    def _shell(self, text, user, password):
        result = subprocess.run(
            [need("mariadb"), "--no-defaults", "--batch", "--skip-column-names", f"--user={user}",
             f"--password={password}", f"--socket={self.socket}", f"--execute={text}"],
            capture_output=True, text=True)
        if result.returncode:
            raise StartError(f"{text}: {result.stderr}")
        return result.stdout

    def _template(self):
        """The data folder every server of a kind starts from, made once per build folder under a
        file lock."""
        folder = TARGET / "clients"
        folder.mkdir(parents=True, exist_ok=True)
        ready = folder / f"{self.KIND}-template"
        with open(folder / f"{self.KIND}-template.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                unfinished = folder / f"{self.KIND}-template.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                result = subprocess.run([*self.install(), f"--datadir={unfinished}"],
                                        capture_output=True, text=True)
                if result.returncode:
                    raise StartError(f"{self.KIND}'s data was not made:\n"
                                     f"{result.stdout}{result.stderr}")
                unfinished.rename(ready)
        return ready


class MariaDb(Server):
    """MariaDB, installed on the machine."""

    KIND = "mariadb"

    @staticmethod
    def identified(password):
        """How an account is made."""
        return f"IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}')"

    @staticmethod
    def command():
        """The server's program with what is its own."""
        return [need("mariadbd"), "--no-defaults", "--skip-slave-start",
                "--innodb-log-file-size=32M"]

    @staticmethod
    def install():
        """What makes the data of a server that has never run."""
        return [need("mariadb-install-db"), "--no-defaults",
                "--auth-root-authentication-method=normal", "--skip-test-db", "--force",
                "--user=root", "--innodb-log-file-size=32M"]


class MySql(Server):
    """MySQL, from scripts/lib/fetch_mysql."""

    KIND = "mysql"
    _FOLDER = TARGET / "mysql-server"
    _REDO_LOG = "--innodb-redo-log-capacity=64M"

    @classmethod
    def is_there(cls):
        """Whether it could be had."""
        return (cls._FOLDER / "version").exists()

    @staticmethod
    def identified(password):
        """How an account is made."""
        return f"IDENTIFIED WITH caching_sha2_password BY '{password}'"

    @classmethod
    def command(cls):
        """The server's program with what is its own."""
        return [cls._FOLDER / "mysqld", "--mysqlx=OFF", "--secure-file-priv=NULL",
                "--skip-replica-start", cls._REDO_LOG]

    @classmethod
    def install(cls):
        """What makes the data of a server that has never run."""
        return [cls._FOLDER / "mysqld", "--initialize-insecure", "--user=root", cls._REDO_LOG]


_ARGUMENTS = [
    "--user=root", "--bind-address=127.0.0.1", "--skip-networking=0", "--skip-name-resolve",
    "--skip-log-bin", "--performance-schema=0", "--innodb-buffer-pool-size=256M",
    "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0", "--max-connections=4000", "--max-allowed-packet=128M",
    "--character-set-server=utf8mb4", "--local-infile=1", "--max-prepared-stmt-count=100000",
]


class Gateway(Process):
    """`ringgate serve` in front of two servers: user `suite` on the first, `other` on the second,
    and `suite_sha2` on the first with a caching_sha2_password login."""

    ENVIRONMENT = {
        "RG_UPSTREAM_PASSWORD": PASSWORD,
        "RG_CLIENT_PASSWORD": CLIENT_PASSWORD,
    }

    def __init__(self, binary, folder, shards, name="ringgate", budget=64, cores=1, extra="",
                 cpus=None, connections_max=8000, socket_path=None, pools=""):
        if not os.access(binary, os.X_OK):
            raise StartError(f"no gateway at {binary}: build it first (cargo build)")
        self.port, self.admin = free_port(), free_port()
        config = pathlib.Path(folder) / f"{name}.toml"
        config.write_text(gateway_config(socket_path or self.port, self.admin, shards, budget,
                                         cores, connections_max, pools) + extra)
        super().__init__(name, [binary, "serve", "--config", config],
                         pathlib.Path(folder) / f"{name}.log", env=self.ENVIRONMENT, cpus=cpus)
        self.wait_until(self.is_ready, limit=20)

    def is_ready(self):
        """Whether /readyz says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1) as got:
                return got.status == 200
        except OSError:
            return False

    def metrics(self):
        """The text of /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as got:
            return got.read().decode()

    def metric(self, name):
        """The sum of a metric's series."""
        lines = (line.rsplit(" ", 1) for line in self.metrics().splitlines() if not line.startswith("#"))
        return sum(float(value) for series, value in lines if series.split("{")[0] == name)


def address(where):
    """A port of loopback or the path of a Unix socket, as the configuration writes it."""
    return f"127.0.0.1:{where}" if isinstance(where, int) else f"unix:{where}"


def gateway_config(door, admin, shards, budget, cores, connections_max=8000, pools=""):
    """A configuration with one placement per shard. The door and the shards are ports of loopback or
    paths of Unix sockets; `pools` is more of that table."""
    lines = [
        "version = 1",
        "[cores]", f"count = {cores}",
        "[listeners.main]", 'protocol = "mysql"', f'address = "{address(door)}"',
        f"connections_max = {connections_max}",
        "[admin]", f'address = "127.0.0.1:{admin}"',
        "[pools]", f"budget = {budget}", pools,
    ]
    for index, shard in enumerate(shards):
        lines += [
            f"[placements.shard-{index}]",
            f'endpoints = [{{ address = "{address(shard)}", role = "primary" }}]',
            f'upstream = {{ user = "{ACCOUNT}", password = {{ env = "RG_UPSTREAM_PASSWORD" }} }}',
            f"[tenants.tenant-{index}]", f'placement = "shard-{index}"',
        ]
    users = [(CLIENT, 0, "mysql_native_password"), ("suite_sha2", 0, "caching_sha2_password")]
    if len(shards) > 1:
        users.append(("other", 1, "mysql_native_password"))
    for user, tenant, plugin in users:
        lines += [
            f"[users.{user}]", f'tenant = "tenant-{tenant}"', f'plugin = "{plugin}"',
            'password = { env = "RG_CLIENT_PASSWORD" }',
        ]
    return "\n".join(lines) + "\n"


class Stage:
    """A temporary folder and the processes in it; leaving the block ends and removes all."""

    def __init__(self, prefix):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, process):
        """Ends the process with the stage."""
        self.processes.append(process)
        return process
