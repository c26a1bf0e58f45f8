"""How the replicas of one job reach one another.

At level `full` they share one private network, with an address of the loopback range for each host name, and one
listener that leads to the emulator. At level `none` they are on the machine's own, at free ports. In either, every
replica has a port of its own, so that a server which listens on all addresses is in nobody's way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emulator.core.interfaces import SandboxCaller, SandboxNetwork
from emulator.runners import environments

#: The port that Vertex AI names for the first replica.
FIRST_PORT = 2222
_PROGRAM = Path(__file__).with_name("join_network.py")
_START_SECONDS = 20


class LocalNetwork:
    """Level `none`: free ports of the machine."""

    problem: str | None = None

    def __init__(self, hostnames: Sequence[str]) -> None:
        with contextlib.ExitStack() as stack:
            # All are open at a time, so that no port is given twice.
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in hostnames]
            self.addresses = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]

    def close(self) -> None:
        """Nothing is held."""


class UnconnectedNetwork:
    """Where no network can be shared: each replica stays alone behind its own."""

    def __init__(self, hostnames: Sequence[str], problem: str) -> None:
        self.addresses = [f"{name}:{FIRST_PORT}" for name in hostnames]
        self.problem: str | None = problem

    def close(self) -> None:
        """Nothing is held."""


class SharedNetwork:
    """Level `full`: one network namespace, kept by a process of its own. Raises OSError where that is not allowed."""

    problem: str | None = None

    def __init__(self, hostnames: Sequence[str], network: SandboxNetwork, caller: SandboxCaller) -> None:
        self.addresses = [f"{name}:{FIRST_PORT + index}" for index, name in enumerate(hostnames)]
        self.hosts: Mapping[str, str] = {name: f"127.0.0.{index + 2}" for index, name in enumerate(hostnames)}
        """host name -> address inside"""
        self._control, theirs = socket.socketpair()
        self._asking = threading.Lock()
        with theirs:
            self._holder = subprocess.Popen(
                [*_program("hold"), str(theirs.fileno()), str(network.port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._closer: Callable[[], None] | None = None
        self._control.settimeout(_START_SECONDS)
        try:
            _, descriptors, _, _ = socket.recv_fds(self._control, 16, 1)
        except OSError:
            self.close()
            raise
        if not descriptors:
            said = self._holder.stderr.read().decode(errors="replace").strip() if self._holder.stderr else ""
            self.close()
            raise OSError(said or "the network could not be made")
        self._closer = network.attach(socket.socket(fileno=descriptors[0]), caller)

    def command(self) -> list[str]:
        """What to put before a command so that it runs in this network."""
        return [*_program("join"), str(self._holder.pid)]

    def new_socket(self) -> socket.socket:
        """A TCP socket of this network, not connected yet. Raises OSError once the network was let go."""
        with self._asking:
            self._control.sendall(b"s")
            _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        if not descriptors:
            raise ConnectionRefusedError("its network is gone")
        return socket.socket(fileno=descriptors[0])

    def close(self) -> None:
        """Let it go; it ends with the last program in it. Idempotent."""
        self._control.close()
        if self._closer is not None:
            closer, self._closer = self._closer, None
            closer()
        try:
            self._holder.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        if self._holder.stderr is not None:
            self._holder.stderr.close()


def _program(what: str) -> list[str]:
    return [os.fspath(environments.own().interpreter), "-I", "-S", os.fspath(_PROGRAM), what]
