"""Bytes from a web server or a folder: limited in length and in time, never written to disk."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

from kmend import __version__
from kmend.kit.errors import InputError

_NOT_FOUND = 404
_ERRORS_FROM = 400


class CutError(DownloadError):
    """The connection ended before the announced length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a download may cost; seconds and bytes."""

    connect: float = 10
    silence: float = 20
    """Longest wait for the next bytes."""
    total: float = 300
    """For one file, however steadily it drips."""
    module: int = 64 << 20
    entry: int = 4 << 20
    chunk: int = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How to reach a web server; empty: as the environment and the system say."""

    proxy: str = ""
    """http(s):// address; hosts in no_proxy are reached without it."""
    ca_file: str = ""
    """PEM file with the only authorities to trust for https."""


class _Bounded(FetcherInterface):
    """A fetcher whose downloads stay in memory and under the length that signed metadata allows."""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        received = bytearray()
        for chunk in self.fetch(url):
            received += chunk
            if len(received) > max_length:
                raise DownloadLengthMismatchError(f"more than {max_length} bytes came from {url}")
        return bytes(received)


def proxy_for(url: str, *, named: str = "") -> str:
    """The proxy for an address: the one that was named, else the environment's; empty for none.

    The environment's NO_PROXY counts for both.
    """
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return named or urllib.request.getproxies().get(parts.scheme, "")


class HttpFetcher(_Bounded):
    """Reads http(s):// addresses; proxies and authorities as told, else as the environment and the system say."""

    def __init__(self, limits: Limits, network: Network | None = None) -> None:
        self._limits = limits
        self._network = network or Network()
        # No compression: the limits count the bytes that come over the wire.
        headers = {"User-Agent": f"kmend/{__version__}", "Accept-Encoding": "identity"}
        self._headers = headers
        self._pools: dict[str, urllib3.PoolManager] = {}

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = proxy_for(url, named=self._network.proxy)
        if proxy not in self._pools:
            trusted = self._network.ca_file or None
            pool = (
                urllib3.ProxyManager(proxy, ca_certs=trusted) if proxy else urllib3.PoolManager(ca_certs=trusted)
            )
            pool.headers = self._headers
            self._pools[proxy] = pool
        return self._pools[proxy]

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            response = self._pool(url).request(
                "GET",
                url,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self._limits.connect, read=self._limits.silence),
                retries=urllib3.Retry(total=2, redirect=3, backoff_factor=0.3),
            )
        except urllib3.exceptions.HTTPError as error:
            raise _translated(error, url) from error
        if response.status >= _ERRORS_FROM:
            response.close()
            raise DownloadHTTPError(f"HTTP status {response.status} for {url}", response.status)
        return self._chunks(response, url)

    def _chunks(self, response: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
        deadline = time.monotonic() + self._limits.total
        try:
            # read1 hands over whatever has arrived, so that a dripping server cannot outwait the deadline.
            while chunk := response.read1(self._limits.chunk):
                yield chunk
                if time.monotonic() > deadline:
                    raise SlowRetrievalError(f"{url} took longer than {self._limits.total:g} s")
        except urllib3.exceptions.HTTPError as error:
            raise _translated(error, url) from error
        finally:
            response.close()


class FolderFetcher(_Bounded):
    """Reads file:// addresses: a repository that was carried over an air gap."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{path} does not exist", _NOT_FOUND) from error
        except OSError as error:
            raise DownloadError(f"{path}: {error.strerror}") from error
        with file:
            while chunk := file.read(self._limits.chunk):
                yield chunk


def _translated(error: urllib3.exceptions.HTTPError, url: str) -> DownloadError:
    reason = getattr(error, "reason", None)
    # urllib3 counts a refused connection among the timeouts.
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return DownloadError(f"{url}: {str(reason).partition(': ')[2] or reason}")
    if isinstance(error, urllib3.exceptions.TimeoutError) or isinstance(reason, urllib3.exceptions.TimeoutError):
        return SlowRetrievalError(f"{url} did not answer in time")
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return CutError(f"{url}: {error}")
    return DownloadError(f"{url}: {reason or error}")


def open_source(source: str, *, limits: Limits, network: Network | None = None) -> tuple[FetcherInterface, str]:
    """The fetcher for a source, and the source as an address that ends in a slash.

    Args:
        source: http(s):// or file:// address, or the path of a folder.
        limits: What a download may cost.
        network: How to reach a web server.

    Raises:
        InputError: It is neither.
    """
    scheme = urlsplit(source).scheme
    if scheme in {"http", "https"}:
        return HttpFetcher(limits, network), source.rstrip("/") + "/"
    if scheme == "file":
        return FolderFetcher(limits), source.rstrip("/") + "/"
    if scheme or not source:
        raise InputError(
            f"{source!r} is not a repository address.", hint="Give an http(s):// or file:// address, or a folder."
        )
    return FolderFetcher(limits), Path(source).resolve().as_uri() + "/"
