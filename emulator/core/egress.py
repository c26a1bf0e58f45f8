"""What may leave: the hosts that CONNECT tunnels to, out of `emulator.egress` in the config.

`package-index` stands for the index that pip and uv use on this machine and the file hosts that its pages link
to; both are asked at run time, when somebody first wants out. Connections go through the upstream proxy in
force, where there is one. A Google host never gets here: the emulator answers for it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import urljoin, urlsplit

logger = logging.getLogger(__name__)

PACKAGE_INDEX = "package-index"
#: The proxy that was in force before the emulator's exports took its place; empty for none.
UPSTREAM_PROXY = "SELFLOOP_UPSTREAM_PROXY"
_TIMEOUT_SECONDS = 30
#: A package that every index has, whose page shows where the files are.
_SAMPLE_PACKAGE = "pip"
_PAGE_BYTES = 1024 * 1024


class Egress:
    """The list of hosts, and the way to them. Names are exact, or `*.example.org` for all below."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = tuple(allowed)
        # Taken before anything of the emulator's own could be in the environment.
        self._proxy = _upstream_proxy()
        self._indexes: list[str] | None = None
        self._index_hosts: frozenset[str] | None = None
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return not self.allowed

    def allows(self, host: str) -> bool:
        """Whether a host is on the list. May ask pip, uv and the index: not for the event loop."""
        name = host.lower().rstrip(".")
        if any(name == entry or (entry[:2] == "*." and name.endswith(entry[1:])) for entry in self.allowed):
            return True
        return PACKAGE_INDEX in self.allowed and name in self._package_hosts()

    def package_index_variables(self) -> dict[str, str]:
        """What pip and uv need to be told where their configuration files cannot be seen: inside a sandbox."""
        if PACKAGE_INDEX not in self.allowed:
            return {}
        first, *others = self.indexes() or [""]
        variables: dict[str, str] = {}
        if first:
            variables |= {"PIP_INDEX_URL": first, "UV_DEFAULT_INDEX": first}
        if others:
            variables |= {"PIP_EXTRA_INDEX_URL": " ".join(others), "UV_INDEX": " ".join(others)}
        return variables

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to an allowed host. Raises OSError."""
        if self._proxy is None:
            return socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS)
        proxy_host, proxy_port = self._proxy
        connection = socket.create_connection((proxy_host, proxy_port), timeout=_TIMEOUT_SECONDS)
        connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 16384:
            # A byte at a time: what follows the head belongs to the tunnel.
            byte = connection.recv(1)
            if not byte:
                break
            head += byte
        if not re.match(rb"HTTP/1\.[01] 2\d\d", head):
            connection.close()
            status = head.decode("latin-1").partition("\r")[0]
            raise OSError(f"the upstream proxy refused {host}: {status}")
        return connection

    def indexes(self) -> list[str]:
        """URLs of the package indexes in force, the default one first."""
        with self._lock:
            if self._indexes is None:
                self._indexes = [url for url in dict.fromkeys([*_pip_indexes(), *_uv_indexes()]) if _is_http(url)]
            return self._indexes

    def _package_hosts(self) -> frozenset[str]:
        indexes = self.indexes()
        with self._lock:
            if self._index_hosts is None:
                hosts = {urlsplit(url).hostname or "" for url in indexes}
                complete = True
                for url in indexes:
                    try:
                        hosts |= _linked_hosts(url)
                    except OSError as error:
                        logger.warning("the package index could not be read for its file hosts: %s", error)
                        complete = False
                if not complete:
                    return frozenset(hosts)  # asked again next time
                self._index_hosts = frozenset(hosts)
            return self._index_hosts


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _pip_indexes() -> list[str]:
    """As `pip` of this interpreter would use, from its files and variables, else its built-in one."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    values: dict[str, list[str]] = {"index-url": [], "extra-index-url": []}
    for line in result.stdout.splitlines():
        match = re.fullmatch(r"(?:global|install|:env:)\.(index-url|extra-index-url)='(.*)'", line.strip())
        if match:
            values[match[1]] = match[2].split()
    return (values["index-url"] or _built_in_index()) + values["extra-index-url"]


def _built_in_index() -> list[str]:
    program = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    return result.stdout.split()


def _uv_indexes() -> list[str]:
    """As uv's variables and its user and system files name them; without any it uses pip's default."""
    import tomllib

    named: list[str] = []
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        # `UV_INDEX` entries may carry a name: `internal=https://…`.
        named += [entry.partition("=")[2] or entry for entry in os.environ.get(variable, "").split()]
    for path in (Path("~/.config/uv/uv.toml").expanduser(), Path("/etc/uv/uv.toml")):
        try:
            settings = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError):
            continue
        named += [str(index.get("url", "")) for index in settings.get("index", [])]
        pip = settings.get("pip", {})
        for name in ("index-url", "extra-index-url"):
            value = settings.get(name, pip.get(name, []))
            named += [value] if isinstance(value, str) else [str(item) for item in value]
    return named


def _linked_hosts(index: str) -> set[str]:
    """Hosts of the files on a sample page of an index (PEP 503)."""
    page = urljoin(index.rstrip("/") + "/", f"{_SAMPLE_PACKAGE}/")
    request = urllib.request.Request(page, headers={"Accept": "text/html"})  # noqa: S310  # http(s) by _is_http
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
        text = response.read(_PAGE_BYTES).decode(errors="replace")
    links: Sequence[str] = re.findall(r'href="([^"#]+)', text)
    return {host for link in links if (host := urlsplit(urljoin(page, link)).hostname)}


def _upstream_proxy() -> tuple[str, int] | None:
    # In a shell that took an emulator's exports the proxy is an emulator; what was there before is kept beside.
    proxy = os.environ.get(UPSTREAM_PROXY)
    if proxy is None:
        proxy = urllib.request.getproxies().get("https")
    if not proxy:
        return None
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine itself."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
