"""A sandbox: a private place in which programs run, and the processes in it.

    sandboxes = Sandboxes(settings, objects.tree, network)
    sandbox = sandboxes.open(Description("endpoints/1/replicas/0", environment, readonly={"/model": folder}))
    process = sandbox.start(["python3", "-m", "server", sandbox.seen("/model")], {"AIP_HTTP_PORT": "8080"})
    ending = process.follow(output)        # or Thread(target=process.follow, args=(output,)).start()
    sandbox.close()

At level `full` the place is a root of its own (bubblewrap.py); at level `none` a folder, and the programs see
the machine. In both, a program gets exactly the variables that are named, and its whole process tree ends with
its first process, with `kill`, or with the emulator, however that dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from emulator.core.ids import new_id
from emulator.core.interfaces import SandboxCaller, SandboxNetwork
from emulator.runners import bubblewrap, environments
from emulator.runners.environments import Environment
from emulator.runners.limits import GRACE_SECONDS, Limits, Watch
from emulator.runners.replica_network import SharedNetwork
from emulator.runners.sandbox_process import SandboxProcess
from emulator.settings import SandboxLevel, Settings

logger = logging.getLogger(__name__)

_LAUNCHER = Path(__file__).with_name("launcher.py")
_HANDSHAKE_SECONDS = 30


class StartFailed(Exception):
    """A program could not begin; the text says what is wrong, in one line where it can."""


@dataclass(frozen=True)
class Description:
    """What a sandbox shows and allows."""

    name: str
    """unique among what runs; also the first part of its scratch folder's name"""
    environment: Environment | None = None
    """whose Python comes first on PATH; what a program installs goes to the sandbox alone"""
    caller: SandboxCaller | None = None
    """who its calls to the emulator come from; without one there is no way out at all"""
    hostname: str = "localhost"
    env: Mapping[str, str] = field(default_factory=dict)
    """variables of every program in it"""
    writable: Mapping[str, Path] = field(default_factory=dict)
    """absolute path inside -> folder outside"""
    readonly: Mapping[str, Path] = field(default_factory=dict)
    """absolute path inside -> file or folder outside; at level `none` nothing keeps a program from writing"""
    network: SharedNetwork | None = None
    """what it shares with other sandboxes, at level `full`; without one its network is its own"""
    gcs: bool = True
    """whether the object store's files are at /gcs; at level `none` that is links.py's part"""
    keeps_listener: bool = False
    """whether its calls wait until `assign` says whose they are; at level `full`"""
    limits: Limits = field(default_factory=Limits)


class Sandboxes:
    """All sandboxes of one emulator.

    Raises StartFailed when the settings ask for a level that the machine cannot give.
    """

    def __init__(self, settings: Settings, gcs: Path, network: SandboxNetwork) -> None:
        """gcs: the folder that is /gcs inside, `<gcs>/<bucket>/<name>`."""
        self.gcs = gcs
        self.network = network
        self.watch = Watch()
        self._folder = settings.jobs
        # Nothing of an emulator that was killed still runs; what it left on disk can go.
        remove_tree(self._folder)
        self._folder.mkdir(mode=0o700, parents=True)
        self._open: set[Sandbox] = set()
        # To the kernel "dies with its parent" means with the thread that started it, so one thread starts all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="sandbox-start")
        # To try costs tens of milliseconds, which the emulator's own start need not wait for.
        self._level = self._starter.submit(choose_level, settings.sandbox)
        if settings.sandbox == "full":
            self._level.result()

    @property
    def level(self) -> SandboxLevel:
        return self._level.result()[0]

    @property
    def level_reason(self) -> str:
        """Why the level is `none`; empty for `full`."""
        return self._level.result()[1]

    def open(self, description: Description) -> Sandbox:
        """A new, empty sandbox; `close` it. Raises StartFailed."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", description.name).strip("-")[-40:]
        scratch = self._folder / f"{slug}-{new_id()}"
        try:
            scratch.mkdir(mode=0o700)
            sandbox = Sandbox(self, description, scratch)
        except OSError as error:
            remove_tree(scratch)
            raise StartFailed(f"no sandbox could be made for {description.name}: {error}") from error
        self._open.add(sandbox)
        return sandbox

    def close(self) -> None:
        """Kill what runs and remove what is open."""
        for sandbox in list(self._open):
            sandbox.kill()
        for sandbox in list(self._open):
            sandbox.close()
        self.watch.close()
        self._starter.shutdown()

    def spawn(self, command: Sequence[str], descriptors: Sequence[int], folder: Path) -> subprocess.Popen[bytes]:
        return self._starter.submit(
            subprocess.Popen,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            pass_fds=descriptors,
            start_new_session=True,
        ).result()

    def forget(self, sandbox: Sandbox) -> None:
        self._open.discard(sandbox)


def choose_level(wanted: SandboxLevel | None) -> tuple[SandboxLevel, str]:
    """The level to use and, for `none`, why. Raises StartFailed when `full` is wanted and cannot be had."""
    if wanted == "none":
        return "none", "it was asked for"
    reason = bubblewrap.why_unavailable()
    if reason is None:
        return "full", ""
    if wanted == "full":
        raise StartFailed(f"sandbox level full is not available: {reason}")
    return "none", reason


class Sandbox:
    """One private place. Its programs come and go, one after the other; its files stay until `close`."""

    def __init__(self, sandboxes: Sandboxes, description: Description, scratch: Path) -> None:
        self.description = description
        self.scratch = scratch
        self.limits = description.limits.within(scratch)
        self._sandboxes = sandboxes
        self._is_full = sandboxes.level == "full"
        self._processes: set[SandboxProcess] = set()
        self._listener: socket.socket | None = None
        self._closed = False
        self._root = bubblewrap.write_skeleton(
            scratch, description.hostname, description.network.hosts if description.network else None
        )
        if description.environment is not None:
            environments.write_overlay(self.outside("/opt/python"), self.seen("/opt/python"), description.environment)

    def seen(self, path: str) -> str:
        """The path by which a program finds what is at this absolute path in the sandbox."""
        if self._is_full or path == "/gcs" or path.startswith("/gcs/"):
            return path
        return os.fspath(self.outside(path))

    def outside(self, path: str) -> Path:
        """Where a file of the sandbox is, seen from outside. A program may have put a link there."""
        for inside, folder in (*self.description.writable.items(), *self.description.readonly.items()):
            if path == inside or path.startswith(f"{inside}/"):
                return folder / path[len(inside) :].lstrip("/")
        return self._root / path.lstrip("/")

    def read(self, path: str, limit_bytes: int) -> bytes:
        """What is in a file that a program of the sandbox made.

        Raises OSError unless it is a plain file of at most this size. No link is followed on the way: a program
        could lead the emulator to a file of its user.
        """
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, folder)
            *folders, name = path.strip("/").split("/")
            for part in folders:
                folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                stack.callback(os.close, folder)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with open(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_size > limit_bytes:
                    raise OSError(f"{path} is not a plain file of at most {limit_bytes} bytes")
                return file.read(limit_bytes)

    def names(self, path: str) -> list[str]:
        """Names in a folder that a program of the sandbox made; none when it is not one."""
        outside = self._root / path.strip("/")
        if outside.resolve() != self._root.resolve() / path.strip("/") or not outside.is_dir():
            return []
        return sorted(os.listdir(outside))

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        folder: str = "/",
        descriptors: Sequence[int] = (),
    ) -> SandboxProcess:
        """Begin a program. Its output waits until `follow` is called, so call it soon.

        argv: the first is looked up in the PATH inside. env: besides the description's. folder: absolute path inside.
        descriptors: which it inherits, by the same numbers.
        Raises StartFailed when there is no such program or the sandbox cannot be made.
        """
        if self._closed or self._processes:
            # Mount points are checked for links before each start: nothing may change them meanwhile.
            state = "is closed" if self._closed else "runs another program"
            raise StartFailed(f"the sandbox of {self.description.name} {state}")
        variables = {**self._variables(), **self.description.env, **(env or {}), **self._network()}
        orders = self._orders(argv, variables, folder)
        control, theirs = socket.socketpair()
        lifeline, held = (None, None) if self._is_full else socket.socketpair()
        with contextlib.ExitStack() as stack:
            stack.enter_context(theirs)
            if held is not None:
                stack.enter_context(held)
            inherited = [theirs.fileno(), *([held.fileno()] if held is not None else []), *descriptors]
            try:
                command = self._command(theirs.fileno(), held.fileno() if held is not None else -1)
                popen = self._sandboxes.spawn(command, inherited, self.scratch)
            except (OSError, RuntimeError) as error:  # RuntimeError: all is being closed
                control.close()
                if lifeline is not None:
                    lifeline.close()
                raise StartFailed(f"the sandbox could not be started: {error}") from error
        process = SandboxProcess(
            popen, lifeline, self.scratch, self.limits, timeout_seconds=timeout_seconds, over=self._over
        )
        self._processes.add(process)
        self._sandboxes.watch.add(process)
        try:
            with control:
                refusal = self._shake_hands(control, process, orders)
        except (OSError, ValueError, RuntimeError) as error:
            raise StartFailed(f"the sandbox could not be made: {process.abandon() or error}") from error
        if refusal:
            process.abandon()
            raise StartFailed(refusal)
        return process

    def assign(self, process: SandboxProcess, caller: SandboxCaller, hostname: str) -> None:
        """Say whose the calls of a program are from now on, where that was left open; and its host's name."""
        self.description = replace(self.description, caller=caller, hostname=hostname)
        (self._root / "etc" / "hosts").write_text(bubblewrap.hosts_file({hostname: "127.0.0.1"}))
        listener, self._listener = self._listener, None
        if listener is not None:
            process.closer = self._sandboxes.network.attach(listener, caller)

    def kill(self) -> None:
        """End what runs, at once, and let nothing more start."""
        self._closed = True
        for process in list(self._processes):
            process.kill()

    def close(self) -> None:
        """Kill what runs and remove the files. Idempotent."""
        self.kill()
        for process in list(self._processes):
            process.ended.wait(GRACE_SECONDS)
        self._sandboxes.forget(self)
        if self._listener is not None:
            self._listener.close()
        remove_tree(self.scratch)

    def _over(self, process: SandboxProcess) -> None:
        self._processes.discard(process)
        self._sandboxes.watch.remove(process)

    def _command(self, control: int, lifeline: int) -> list[str]:
        description = self.description
        environment = description.environment or environments.own()
        interpreter = os.fspath(environment.interpreter)
        ends = [str(control), str(lifeline)]
        if not self._is_full:
            return [interpreter, "-I", "-S", os.fspath(_LAUNCHER), *ends]
        readonly = dict(description.readonly)
        readonly["/run/selfloop/launcher.py"] = _LAUNCHER
        readonly["/run/selfloop/ca.pem"] = self._sandboxes.network.ca_bundle
        if not environment.base.is_relative_to("/usr"):
            readonly[os.fspath(environment.base)] = environment.base
        if description.environment is not None:
            readonly[os.fspath(environment.root)] = environment.root
        writable = dict(description.writable)
        if description.gcs:
            writable["/gcs"] = self._sandboxes.gcs
        network = description.network
        sandboxed = bubblewrap.arguments(
            self.scratch, description.hostname, readonly, writable, has_own_network=network is None
        )
        return [
            *(network.command() if network else []),
            *sandboxed,
            interpreter,
            "-I",
            "-S",
            "/run/selfloop/launcher.py",
            *ends,
        ]

    def _orders(self, argv: Sequence[str], env: Mapping[str, str], folder: str) -> bytes:
        has_listener = self._is_full and self.description.caller and self.description.network is None
        port = self._sandboxes.network.port if has_listener else 0
        limits = self.limits
        head = [port, limits.open_files, limits.processes, limits.disk_bytes, self.seen(folder), len(argv)]
        words = [*map(str, head), *argv, *(f"{name}={value}" for name, value in env.items())]
        if not argv or any("\0" in word for word in words):
            raise StartFailed("a command has at least one word, and no word or variable holds a NUL byte")
        return "\0".join(words).encode("utf-8", "surrogateescape")

    def _variables(self) -> dict[str, str]:
        """What every program gets: PATH, home, and pip told to keep to the sandbox."""
        home = self.seen("/root")
        path = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        variables = {
            "HOME": home,
            "HOSTNAME": self.description.hostname,
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_RETRIES": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        if not self._is_full:
            variables["TMPDIR"] = self.seen("/tmp")  # noqa: S108  # of the sandbox
        if self.description.environment is not None:
            overlay = self.seen("/opt/python")
            wheels = self.description.environment.wheels
            path[:0] = [f"{overlay}/bin", f"{home}/.local/bin", f"{self.description.environment.root}/bin"]
            if wheels.is_dir():
                variables["PIP_FIND_LINKS"] = os.fspath(wheels)
        return variables | {"PATH": ":".join(path)}

    def _network(self) -> Mapping[str, str]:
        """After the container's own variables: where its calls go is not for it to say."""
        network = self._sandboxes.network
        if self.description.caller is None:
            # Port 9 is `discard`: a client that heeds proxies is refused at once, in either level.
            nowhere = "http://127.0.0.1:9"
            names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
            return dict.fromkeys((*names, *map(str.lower, names)), nowhere) | {"PIP_NO_INDEX": "1"}
        bundle = "/run/selfloop/ca.pem" if self._is_full else os.fspath(network.ca_bundle)
        variables = dict(network.environment(bundle, self.description.caller))
        if self.description.network is not None:
            # gRPC, and with it TensorFlow, would ask the proxy for its siblings.
            direct = ",".join(self.description.network.hosts)
            for name in ("NO_PROXY", "no_proxy"):
                variables[name] = ",".join(filter(None, (variables.get(name), direct)))
        return variables

    def _shake_hands(self, control: socket.socket, process: SandboxProcess, orders: bytes) -> str:
        """Give the orders, take the listener, say go; why the program could not be executed, else nothing."""
        control.settimeout(_HANDSHAKE_SECONDS)
        if sys.platform == "linux":
            control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        control.sendall(len(orders).to_bytes(8, "big") + orders)
        pid, listener = _receive_pid(control)
        process.identify(pid, is_namespace=self._is_full)
        caller = self.description.caller
        if listener is not None and self.description.keeps_listener:
            self._listener = listener
        elif listener is not None and caller is not None:
            process.closer = self._sandboxes.network.attach(listener, caller)
        control.sendall(b"g")
        return control.recv(4096).decode(errors="replace")


def _receive_pid(control: socket.socket) -> tuple[int, socket.socket | None]:
    """The launcher's process id as seen from here, and its listener.

    Raises ValueError when it ended without a word.
    """
    space = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(12)
    text, ancillary, _, _ = control.recvmsg(32, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    pid, listener = int(text), None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            listener = socket.socket(fileno=struct.unpack("i", data[:4])[0])
        elif sys.platform == "linux" and kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", data[:12])[0]
    return pid, listener


def remove_tree(folder: Path) -> None:
    """Remove a folder of user code's making, which may have taken away its own permissions."""

    def allow(_function: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if not os.path.islink(path) and os.path.isdir(path):
                os.chmod(path, 0o700)

    for _ in range(3):
        if not os.path.lexists(folder):
            return
        shutil.rmtree(folder, onerror=allow)
    if os.path.lexists(folder):
        logger.warning("%s could not be removed", folder)
