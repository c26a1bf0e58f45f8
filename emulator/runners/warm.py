"""Sandboxes in which kfp's executor waits for a component, so that a step need not wait for an interpreter.

Each is used once, as any other sandbox: what one component leaves, no other finds. They are made while components
run, and go when none has come for a while. Only at level `full`, where a sandbox does not depend on its caller but
for the listener, which is kept until there is one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.core.interfaces import SandboxCaller
from emulator.runners.component_command import PythonComponent
from emulator.runners.environments import Environment
from emulator.runners.limits import Limits
from emulator.runners.sandbox import Description, Sandbox, Sandboxes, StartFailed
from emulator.runners.sandbox_process import SandboxProcess

logger = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("warm_component.py")
_PROGRAM_SEEN = "/run/selfloop/warm_component.py"
_LOADING_SECONDS = 30.0
#: Waiting at a time, for each environment.
_MOST = max(4, min(3 * (os.cpu_count() or 2), 12))
#: With fewer, others are made at once; before that, when no component has come for a moment: making them takes the
#: processor from the components that run.
_FEW = _MOST // 2
_MOMENT_SECONDS = 0.25
#: After so long without a component, none is kept waiting.
_IDLE_SECONDS = 60.0
#: Variables that are read when an interpreter or a library is loaded: too late for one that is.
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "_KFP")


@dataclass(frozen=True)
class WarmInterpreter:
    """One that waits."""

    sandbox: Sandbox
    process: SandboxProcess
    orders: socket.socket

    def begin(
        self,
        component: PythonComponent,
        caller: SandboxCaller,
        hostname: str,
        env: Mapping[str, str],
        timeout_seconds: float | None,
    ) -> SandboxProcess:
        """Give it its component; the process to follow. Raises StartFailed when it is gone, and nothing has begun."""
        orders = json.dumps({"source": component.source, "args": component.args, "env": dict(env)}).encode()
        try:
            self.sandbox.assign(self.process, caller, hostname)
            if timeout_seconds is not None:
                self.process.deadline = time.monotonic() + timeout_seconds
            with self.orders:
                self.orders.sendall(len(orders).to_bytes(8, "big") + orders)
                if not self.orders.recv(1):
                    raise ConnectionResetError("it ended while it waited")
        except (OSError, RuntimeError) as error:
            raise StartFailed(f"the interpreter that waited is gone: {error}") from error
        return self.process

    def discard(self) -> None:
        self.orders.close()
        self.process.kill()
        self.process.abandon()
        self.sandbox.close()


class WarmInterpreters:
    """Those that wait, by environment."""

    def __init__(self, sandboxes: Sandboxes, limits: Limits) -> None:
        self._sandboxes = sandboxes
        self._limits = limits
        self._waiting: dict[Path, deque[WarmInterpreter]] = {}
        self._wanted: dict[Path, Environment] = {}
        self._last_asked = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, environment: Environment, env: Mapping[str, str]) -> WarmInterpreter | None:
        """One for a component with these variables, or None where none waits; more are made from then on."""
        if self._sandboxes.level != "full" or any(name.startswith(_READ_AT_START) for name in env):
            return None
        with self._changed:
            self._last_asked = time.monotonic()
            self._wanted[environment.root] = environment
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._keep, name="warm-interpreters", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            waiting = self._waiting.get(environment.root)
            return waiting.popleft() if waiting else None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_LOADING_SECONDS)
        self._discard_all()

    def _keep(self) -> None:
        """Make what is missing, until nobody has asked for a while."""
        while True:
            with self._changed:
                environment = self._missing()
                while environment is None:
                    quiet = time.monotonic() - self._last_asked
                    if self._closed or quiet >= _IDLE_SECONDS:
                        self._thread = None
                        self._wanted.clear()
                        break
                    self._changed.wait((_IDLE_SECONDS if quiet >= _MOMENT_SECONDS else _MOMENT_SECONDS) - quiet)
                    environment = self._missing()
            if environment is None:
                self._discard_all()
                return
            made = self._make(environment)
            with self._changed:
                if made is None:
                    self._wanted.pop(environment.root, None)
                else:
                    self._waiting.setdefault(environment.root, deque()).append(made)

    def _missing(self) -> Environment | None:
        """An environment of which another one should wait."""
        if self._closed:
            return None
        enough = _MOST if time.monotonic() - self._last_asked >= _MOMENT_SECONDS else _FEW
        for root, environment in self._wanted.items():
            if len(self._waiting.get(root, ())) < enough:
                return environment
        return None

    def _make(self, environment: Environment) -> WarmInterpreter | None:
        description = Description(
            "component",
            environment,
            SandboxCaller("component", "", ""),
            hostname="cmle-training-workerpool0",
            readonly={_PROGRAM_SEEN: _PROGRAM},
            limits=self._limits,
            keeps_listener=True,
        )
        with contextlib.ExitStack() as stack:
            try:
                sandbox = self._sandboxes.open(description)
                stack.callback(sandbox.close)
                ours, theirs = socket.socketpair()
                stack.callback(ours.close)
                with theirs:
                    # Its output is empty until it has a component.
                    process = sandbox.start(
                        ["python3", _PROGRAM_SEEN, str(theirs.fileno())], descriptors=[theirs.fileno()]
                    )
                ours.settimeout(_LOADING_SECONDS)
                if ours.recv(1) != b"r":
                    raise StartFailed(f"kfp could not be loaded: {process.abandon()}")
            except (OSError, StartFailed, RuntimeError) as error:
                if not self._closed:
                    logger.warning("no interpreter could be kept waiting: %s", error)
                return None
            stack.pop_all()
            return WarmInterpreter(sandbox, process, ours)

    def _discard_all(self) -> None:
        with self._changed:
            waiting = [one for found in self._waiting.values() for one in found]
            self._waiting.clear()
        for one in waiting:
            with contextlib.suppress(OSError, ValueError):
                one.discard()
