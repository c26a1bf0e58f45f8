"""One command in a network of its own, where the emulator is all there is: `inv emulator.exec --isolated`.

The command sees the machine's files as its user does; only the network is private. Inside, a listener has the
emulator's address; it is handed out, and what connects to it is relayed to the emulator. So even a client that
ignores proxies cannot reach Google.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from emulator.core.relay import Relay

_HOST = "127.0.0.1"
_HAND_OUT = f"""
import os, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
listener = socket.create_server(("{_HOST}", int(sys.argv[2])))
socket.send_fds(control, [b"."], [listener.fileno()])
listener.close()
control.close()
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"{{sys.argv[3]}}: {{error.strerror}}")
"""


class IsolationError(Exception):
    """The machine does not allow a private network; the text says why."""


def run(command: Sequence[str], port: int, environment: Mapping[str, str]) -> int:
    """Run a command until it ends; its exit status. Raises IsolationError."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise IsolationError("--isolated needs bubblewrap (the program bwrap), which is not installed")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [
            bubblewrap, "--dev-bind", "/", "/", "--unshare-user", "--unshare-net", "--die-with-parent", "--",
            sys.executable, "-I", "-S", "-c", _HAND_OUT, str(theirs.fileno()), str(port), *command,
        ]  # fmt: skip
        process = subprocess.Popen(arguments, env=dict(environment), pass_fds=[theirs.fileno()])
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
    if not descriptors:
        process.wait()
        raise IsolationError("this machine does not let bubblewrap make a private network")
    relay = Relay()
    listener = socket.socket(fileno=descriptors[0])
    threading.Thread(target=_accept, args=(listener, port, relay), name="isolated", daemon=True).start()
    try:
        return _wait(process)
    finally:
        relay.close()


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            code = process.wait()
            return 128 - code if code < 0 else code
        except KeyboardInterrupt:
            # The terminal told the command as well; its ending is what counts.
            continue


def _accept(listener: socket.socket, port: int, relay: Relay) -> None:
    with listener:
        while True:
            client, _ = listener.accept()
            try:
                relay.join(client, socket.create_connection((_HOST, port), timeout=10))
            except OSError as error:
                client.close()
                os.write(2, f"the emulator at {_HOST}:{port} does not answer: {error.strerror}\n".encode())
