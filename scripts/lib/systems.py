"""The systems that benchmarks compare: the server itself, and what stands in front of it.

All listen on loopback and forward to one MariaDB server. Those called "-unix" do both by Unix
sockets; "ringgate-unix-server" has TCP clients and reaches its server by a Unix socket.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess

import servers


class System:
    """One way from the client to the server: where to connect to, a port of loopback or the path of
    a Unix socket, and the proxy, if any."""

    def __init__(self, name, where, process=None):
        self.name, self.where, self.process = name, where, process

    def cpu_seconds(self):
        return self.process.cpu_seconds() if self.process else 0.0

    def rss_kib(self):
        return self.process.rss_kib() if self.process else 0


def start(stage, server, options):
    """Starts the systems asked for, in the order asked for."""
    makers = {"direct": lambda: System("direct", server.port),
              "direct-unix": lambda: System("direct-unix", server.socket),
              "haproxy": lambda: start_haproxy(stage, server),
              "haproxy-unix": lambda: start_haproxy_unix(stage, server),
              "nginx": lambda: start_nginx(stage, server),
              "relay": lambda: start_relay(stage, server, options),
              "ringgate": lambda: start_ringgate(stage, server, options),
              "ringgate-unix": lambda: start_ringgate_unix(stage, server, options, True),
              "ringgate-unix-server": lambda: start_ringgate_unix(stage, server, options, False)}
    return [makers[name]() for name in options.systems]


def start_haproxy(stage, server, maxconn=None):
    """With `maxconn`, so many connections to the server; clients beyond them wait."""
    port = servers.free_port()
    to = f"127.0.0.1:{server.port}" + (f" maxconn {maxconn}" if maxconn else "")
    process = haproxy(stage, "haproxy", f"127.0.0.1:{port}", to)
    process.wait_until(lambda: servers.accepts(port), limit=10)
    return System("haproxy", port, process)


def start_haproxy_unix(stage, server):
    path = stage.folder / "haproxy.sock"
    process = haproxy(stage, "haproxy-unix", f"unix@{path}", f"unix@{server.socket}")
    process.wait_until(path.exists, limit=10)
    return System("haproxy-unix", path, process)


def haproxy(stage, name, bind, server):
    config = stage.folder / f"{name}.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 6000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout queue 1h\n  timeout client 1h\n  timeout server 1h\n"
        f"listen mysql\n  bind {bind}\n  server mariadb {server}\n")
    return stage.add(servers.Process(
        name, [servers.need("haproxy"), "-db", "-f", config], stage.folder / f"{name}.log"))


def start_nginx(stage, server):
    port, folder, program = servers.free_port(), stage.folder / "nginx", nginx_files()
    folder.mkdir()
    (folder / "nginx.conf").write_text(
        f"load_module {program}/usr/lib/nginx/modules/ngx_stream_module.so;\n"
        f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        "worker_rlimit_nofile 20000;\nevents { worker_connections 10000; }\n"
        f"stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; tcp_nodelay on; "
        f"proxy_pass 127.0.0.1:{server.port}; proxy_timeout 1h; }} }}\n")
    process = stage.add(Nginx(
        "nginx", [program / "usr/sbin/nginx", "-p", folder, "-c", folder / "nginx.conf",
                  "-e", folder / "error.log"], stage.folder / "nginx.log"))
    process.wait_until(lambda: servers.accepts(port), limit=10)
    return System("nginx", port, process)


def nginx_files():
    """Debian's nginx with its stream module, unpacked below target/: to install the package would
    start a service on port 80."""
    folder = servers.TARGET / "bench" / "nginx"
    if not (folder / "usr/sbin/nginx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        packages = ["nginx", "libnginx-mod-stream"]
        fetched = subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder,
                                 capture_output=True, text=True)
        if fetched.returncode:
            raise servers.StartError(f"apt-get download {' '.join(packages)}: {fetched.stderr}")
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    return folder


class Nginx(servers.Process):
    """nginx, of which the one worker is measured."""

    @property
    def pid(self):
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else self.child.pid

    def stop(self, grace=0):
        return super().stop(grace or 2)


def start_relay(stage, server, options):
    binary = binary_at(options.relay, "cargo build --release --example relay")
    port = servers.free_port()
    process = stage.add(servers.Process(
        "relay", [binary, f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"],
        stage.folder / "relay.log"))
    process.wait_until(lambda: servers.accepts(port), limit=10)
    return System("relay", port, process)


def start_ringgate(stage, server, options):
    binary = binary_at(options.gateway, "cargo build --release")
    process = stage.add(servers.Gateway(binary, stage.folder, [server.port],
                                        budget=options.budget))
    return System("ringgate", process.port, process)


def start_ringgate_unix(stage, server, options, door_too):
    binary = binary_at(options.gateway, "cargo build --release")
    name = "ringgate-unix" if door_too else "ringgate-unix-server"
    path = stage.folder / f"{name}.sock" if door_too else None
    process = stage.add(servers.Gateway(binary, stage.folder, [server.socket], name=name,
                                        budget=options.budget, socket_path=path))
    return System(name, path or process.port, process)


def binary_at(path, remedy):
    if not os.access(path, os.X_OK):
        raise servers.StartError(f"no program at {path}: run `{remedy}`, or leave it out with "
                                 "--systems")
    return path


@contextlib.contextmanager
def on_one_cpu(processes, cpu):
    """Puts every thread of the processes on one CPU and puts them back afterwards."""
    before = []
    for process in processes:
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                before.append((int(task), os.sched_getaffinity(int(task))))
                os.sched_setaffinity(int(task), {cpu})
    try:
        yield
    finally:
        for task, cpus in before:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, cpus)


def versions():
    """Name and version of everything that is compared, one a line."""
    def first_line(command):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        return (done.stdout or done.stderr).splitlines()[0].strip()

    commit = first_line(["git", "-C", servers.ROOT, "log", "-1", "--format=%h %cs"])
    return [f"Ringgate and its relay at {commit}",
            re.sub(r"^\S*/", "", first_line([servers.need("mariadbd"), "--version"])),
            first_line([servers.need("haproxy"), "-v"]),
            first_line([nginx_files() / "usr/sbin/nginx", "-v"]),
            first_line([servers.need("sysbench"), "--version"])]


def sysbench(where, rows, *arguments, prefix=()):
    """Runs oltp_point_select over so many rows, at a port of loopback or a Unix socket; its output."""
    at = (["--mysql-host=127.0.0.1", f"--mysql-port={where}"] if isinstance(where, int) else
          ["--mysql-host=localhost", f"--mysql-socket={where}"])
    command = [*prefix, servers.need("sysbench"), "oltp_point_select", "--db-driver=mysql",
               *at, f"--mysql-user={servers.CLIENT}",
               f"--mysql-password={servers.CLIENT_PASSWORD}", "--mysql-db=sbtest", "--tables=1",
               f"--table-size={rows}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise servers.StartError(f"sysbench failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def percentiles(output, wanted):
    """Latencies in ms from sysbench's histogram: each the first bucket that reaches its share."""
    buckets = [(float(ms), int(count)) for ms, count in
               re.findall(r"^\s*([\d.]+) \|[*\s]* (\d+)$", output, re.MULTILINE)]
    total = sum(count for _, count in buckets)
    if not total:
        raise servers.StartError(f"no histogram in sysbench's output:\n{output[-2000:]}")
    found = []
    for percent in wanted:
        seen = 0
        for ms, count in buckets:
            seen += count
            if seen * 100 >= total * percent:
                found.append(ms)
                break
    return found


def table(head, rows):
    """Rows of text as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    def line(row):
        return "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths)) + " |"
    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def write_json(path, objects):
    lines = ",\n".join(json.dumps(item) for item in objects)
    pathlib.Path(path).write_text(f"[\n{lines}\n]\n")


def names(known):
    def parse(text):
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]}: choose from {','.join(known)}")
        return found
    return parse
