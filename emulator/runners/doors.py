"""How the emulator gets into a sandbox to ask a server: a socket in a folder, or a port of the sandbox's network."""

from __future__ import annotations

import os
import socket
import stat
import sys
import weakref
from pathlib import Path
from typing import Protocol

from emulator.runners.replica_network import SharedNetwork


class DoorError(Exception):
    """What a program put in place of its door is none; the sentence says what."""


class Door(Protocol):
    def is_open(self) -> bool:
        """Whether it makes sense to try. Raises DoorError."""
        ...

    def connect(self, timeout_seconds: float) -> socket.socket:
        """Raises OSError."""
        ...


class SocketDoor:
    """A Unix socket named `socket`, in the folder `mounted` of a private one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address: str | None = None

    def is_open(self) -> bool:
        """Whether the server listens. Its socket is then taken out of the folder that the sandbox can write.

        Otherwise code of the model could put a link to another socket of this machine in its place.
        """
        if self._address is not None:
            return True
        taken = self._folder / "socket"
        try:
            (self._folder / "mounted" / "socket").rename(taken)
        except FileNotFoundError:
            return False
        if not stat.S_ISSOCK(taken.lstat().st_mode):
            raise DoorError("What it put in place of its socket is none.")
        if sys.platform == "linux":
            # An address may have 107 bytes, and the state directory more. Open as long as anyone may connect.
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, descriptor)
            self._address = f"/proc/self/fd/{descriptor}/socket"
        else:
            self._address = os.fspath(taken)
        return True

    def connect(self, timeout_seconds: float) -> socket.socket:
        if self._address is None:
            raise ConnectionRefusedError("it does not listen")
        return _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._address, timeout_seconds)


class PortDoor:
    """A TCP port: of the sandbox's own network, or of the machine's where it has none."""

    def __init__(self, port: int, network: SharedNetwork | None) -> None:
        self.port = port
        self._network = network

    def is_open(self) -> bool:
        return True

    def connect(self, timeout_seconds: float) -> socket.socket:
        made = socket.socket() if self._network is None else self._network.new_socket()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _connected(made, ("127.0.0.1", self.port), timeout_seconds)


def _connected(made: socket.socket, address: str | tuple[str, int], timeout_seconds: float) -> socket.socket:
    try:
        made.settimeout(timeout_seconds)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def usable_port(wanted: int, *, taken: int | None) -> int:
    """The port that a container asks for, or another one where that cannot be had.

    taken: in a network of its own only the emulator's is; None asks the machine.
    """
    if taken is not None:
        # Anything but the same port will do.
        return wanted if wanted != taken else wanted + 1
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            if port == 0:
                raise
    raise AssertionError("unreachable")
