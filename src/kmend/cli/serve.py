"""``kmend serve``: the server, in one process, from one command."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import click
import uvicorn

from kmend.fleet.api.call import settings_for
from kmend.fleet.app import first_admin_token, make_app
from kmend.fleet.connections import Connection, allow_many_connections
from kmend.fleet.store.database import Database, open_database
from kmend.fleet.tls import Certificate, given_certificate, self_made_certificate
from kmend.fleet.web import WebServer
from kmend.kit.errors import InputError, MachineError
from kmend.kit.files import write_atomic

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_BACKLOG = 2048


@click.command()
@click.option("--listen", default="0.0.0.0:8443", show_default=True, help="ADDRESS:PORT; port 0 takes a free one.")
@click.option("--state", type=_FOLDER, help="Folder for the database and the self-made certificate.")
@click.option("--database", "url", help="sqlite:///FILE or postgresql://…; else SQLite in the state folder.")
@click.option("--certificate", type=_FILE, help="TLS certificate (PEM, with chain); else it makes one.")
@click.option("--key", type=_FILE, help="The certificate's key (PEM).")
@click.option("--name", "names", multiple=True, help="Host name for the self-made certificate; may be repeated.")
@click.option("--no-tls", is_flag=True, help="Plain HTTP, for a proxy on this machine that does TLS.")
@click.option("--trusted-proxy", default="", metavar="ADDRESSES", help="Believe X-Forwarded-For from these.")
@click.option("--repository", type=_FOLDER, help="Signed repository to serve under /repository.")
@click.option(
    "--interval", type=click.IntRange(10, 86400), default=300, show_default=True, help="Seconds between check-ins."
)
@click.option(
    "--keep-days",
    type=click.IntRange(0, 36500),
    default=90,
    show_default=True,
    help="Of events and hosts' histories; 0 for ever. The audit log is always kept.",
)
@click.option("--admin-token-file", type=_FILE, help="Where the first admin token goes, instead of being printed.")
@click.option("--new-admin-token", is_flag=True, help="Make one more admin token, e.g. when all were lost.")
def serve(
    *,
    listen: str,
    state: Path | None,
    url: str | None,
    certificate: Path | None,
    key: Path | None,
    names: tuple[str, ...],
    no_tls: bool,
    trusted_proxy: str,
    repository: Path | None,
    interval: int,
    keep_days: int,
    admin_token_file: Path | None,
    new_admin_token: bool,
) -> None:
    """Run the fleet's server: it decides which signed livepatch each host is offered, and holds no keys.

    The address of a PostgreSQL database may also stand in KMEND_DATABASE, where other users of the machine do not
    see its password. SIGTERM and Ctrl-C end it when the requests under way are answered.
    """
    folder = state or state_folder()
    if repository is not None and not (repository / "metadata").is_dir():
        raise InputError(
            f"{repository} is no repository: it has no metadata folder.", hint="`kmend release init`."
        )
    allow_many_connections()
    tls = None if no_tls else _certificate(folder, certificate, key, names)
    with _listening(listen) as sock:
        database = open_database(database_address(url, folder))
        try:
            _say_where(sock, tls)
            _hand_out_token(database, admin_token_file, again=new_admin_token)
            print(f"database     {database.engine.url.render_as_string(hide_password=True)}", flush=True)
            settings = settings_for(interval, keep_days=keep_days)
            app = make_app(database, settings=settings, repository=repository)
            WebServer(_config(app, tls, trusted_proxy), app.state.streams).run(sockets=[sock])
        except KeyboardInterrupt:
            return  # uvicorn passes the signal on when everything is answered; being asked to end is no error
        finally:
            database.close()


def _config(app: object, tls: Certificate | None, trusted_proxy: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=Connection,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxy),
        forwarded_allow_ips=trusted_proxy or None,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=20,
        backlog=_BACKLOG,
        lifespan="on",
    )


def database_address(url: str | None, folder: Path) -> str:
    """The database that was asked for, else the environment's, else the one in the state folder."""
    return url or os.environ.get("KMEND_DATABASE") or f"sqlite:///{folder}/fleet.db"


def state_folder() -> Path:
    """Where root's server keeps its things, and everybody else's (XDG Base Directory Specification)."""
    if os.getuid() == 0:
        return Path("/var/lib/kmend-fleet")
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "kmend-fleet"


def _certificate(folder: Path, certificate: Path | None, key: Path | None, names: tuple[str, ...]) -> Certificate:
    if (certificate is None) != (key is None):
        raise InputError("--certificate and --key go together.")
    if certificate and key:
        return given_certificate(certificate, key)
    good_for = dict.fromkeys((*names, socket.gethostname(), "localhost", "127.0.0.1", "::1"))
    return self_made_certificate(folder, names=list(good_for), now=datetime.now(tz=UTC))


def _listening(listen: str) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address is none.
        MachineError: It cannot be listened on.
    """
    address, _, port = listen.rpartition(":")
    if not address or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise InputError(f"{listen!r} is no ADDRESS:PORT.", hint="E.g. 0.0.0.0:8443 or [::]:8443.")
    host = address.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise MachineError(f"{listen} cannot be listened on: {error.strerror or error}.") from None


def _say_where(sock: socket.socket, tls: Certificate | None) -> None:
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"listening    {'https' if tls else 'http'}://{shown}:{port}", flush=True)
    if tls:
        print(f"fingerprint  {tls.fingerprint}", flush=True)


def _hand_out_token(database: Database, file: Path | None, *, again: bool) -> None:
    text = first_admin_token(database, moment=datetime.now(tz=UTC), again=again)
    if text is None:
        return
    if file:
        write_atomic(file, text + "\n", mode=0o600)
        print(f"admin token  in {file}; it is not shown again", flush=True)
    else:
        print(f"admin token  {text}  (it is not shown again)", flush=True)
