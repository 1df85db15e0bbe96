"""What is measured: `kmend serve` on a filled database, and nginx with the same answer as a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from load import bench_hosts

from kmend.fleet.store.database import Database, open_database
from kmend.fleet.store.hosts import ReportWriter, add_host
from kmend.fleet.store.tables import HOSTS
from kmend.fleet.store.tokens import fast_hash
from kmend.model import wire
from kmend.model.fleet import Host, HostReport
from kmend.model.protocol import CheckedIn

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that runs: its address, and the processes that do its work."""

    address: str
    pid: int
    fingerprint: str = ""
    others: tuple[int, ...] = ()
    """Parents of other processes that work for it, e.g. the database's."""

    def seconds(self) -> float:
        """Processor time that all of them have used."""
        parents = {*self.others, *([] if self.others else [self.pid])}
        own = {self.pid, *self.others}
        return sum(used for pid, parent, used in _processes() if pid in own or parent in parents)

    def peak_bytes(self) -> int:
        """The most memory that the server itself ever had (VmHWM)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def fill(url: str, count: int) -> None:
    """Put the hosts into an empty database as if each had enrolled and reported once."""
    database, now = open_database(url), datetime.now(tz=UTC)
    with database.writing() as connection:
        writer = ReportWriter(connection)
        for one in bench_hosts(count):
            host = Host(
                id=one.host,
                name=one.name,
                channel="stable",
                labels={},
                enrolled=now,
                seen=None,
                report=None,
            )
            add_host(connection, host, credential=fast_hash(one.secret), token_id="bench")  # noqa: S106
            report = wire.load(HostReport, one.report(now), what="a report")
            writer.add(host, report, now=now, troubles=())
        writer.flush()
    if database.engine.dialect.name == "postgresql":  # as its own autovacuum would have done in a while
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    database.close()


def lost(url: str, acknowledged: dict[str, str]) -> int:
    """Acknowledged reports that the database does not have: neither they nor a later one of their host."""
    database: Database = open_database(url)
    with database.reading() as connection:
        rows = connection.execute(sa.select(HOSTS.c.id, HOSTS.c.report)).all()
    database.close()
    kept = {
        row.id: wire.load(HostReport, row.report, what="a report").at for row in rows if row.id in acknowledged
    }
    times = {host: datetime.fromisoformat(at) for host, at in acknowledged.items()}
    return sum(host not in kept or kept[host] < at for host, at in times.items())


@contextmanager
def kmend_server(folder: Path, url: str, *, tls: bool = False, others: tuple[int, ...] = ()) -> Iterator[Running]:
    """`kmend serve` as a process of its own."""
    command = [sys.executable, "-m", "kmend", "serve", "--listen", "127.0.0.1:0", "--state", str(folder)]
    command += ["--database", url, "--admin-token-file", str(folder / "token"), *([] if tls else ["--no-tls"])]
    with (
        (folder / "serve.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            said = _said(server)
            yield Running(
                address=said["listening"],
                pid=server.pid,
                fingerprint=said.get("fingerprint", ""),
                others=others,
            )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


@contextmanager
def nginx_server(folder: Path, answer: CheckedIn) -> Iterator[Running]:
    """nginx, one worker for each processor, that answers every check-in with the same bytes from a file."""
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "answer").write_text(json.dumps(wire.plain(answer), separators=(",", ":")))  # as the API writes it
    port = _free_port()
    user = "user www-data;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"""{user} daemon off; worker_processes auto; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    root {folder}; default_type application/json;
    # A file is no answer to a POST for nginx (405), so the file is given as the page for that error.
    location = /api/v1/check-in {{ error_page 405 =200 /answer; try_files /nothing =405; }}
  }}
}}
"""
    )
    with subprocess.Popen([_nginx(), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]) as server:
        try:
            _wait_for(port, server)
            yield Running(address=f"http://127.0.0.1:{port}", pid=server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def nginx_there() -> bool:
    """Whether nginx is installed."""
    return bool(_nginx())


def _nginx() -> str:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or ""


def _said(server: subprocess.Popen[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    assert server.stdout
    while "database" not in said:  # the last thing that it says
        line = server.stdout.readline()
        if not line:
            sys.exit("kmend serve did not start; its words stand above.")
        name, _, value = line.strip().partition("  ")
        said[name] = value.strip()
    return said


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit("nginx did not start.")


def _processes() -> Iterator[tuple[int, int, float]]:
    """Pid, parent's pid and seconds of processor time of every process (proc(5), /proc/PID/stat)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        yield int(entry.name), int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
