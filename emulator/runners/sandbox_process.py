"""A process tree in a sandbox: its output, its ending, and how it is made to end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.core.interfaces import ExitReason, OutputLine
from emulator.runners.limits import GRACE_SECONDS, Limits, disk_use, quota_message
from emulator.runners.output import Lines, Tail

Output = Callable[[Sequence[OutputLine]], None]

_READ_BYTES = 64 << 10
_BATCH_BYTES = 1 << 20
#: How long output may still come after the process is gone, from something that escaped with its pipe.
_STRAGGLER_SECONDS = 2.0


@dataclass(frozen=True)
class Ending:
    """How a process tree ended. code is 128 + n after signal n."""

    code: int
    reason: ExitReason = ExitReason.EXITED
    message: str = ""
    stderr_tail: str = ""


class SandboxProcess:
    """A running process tree. `follow` it from one thread; the rest may be called from any."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        lifeline: socket.socket | None,
        scratch: Path,
        limits: Limits,
        *,
        timeout_seconds: float | None,
        over: Callable[[SandboxProcess], None],
    ) -> None:
        """lifeline: whose closing ends the tree, where no namespace does; over: told when all is over."""
        self.pid = popen.pid
        """of the program itself, as seen from outside"""
        self.root_pid = popen.pid
        self.limits = limits
        self.scratch = scratch
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.kill_at: float | None = None
        self.ended = threading.Event()
        """set once the whole tree is gone and its output was delivered"""
        self.closer: Callable[[], None] | None = None
        self._over = over
        self._popen = popen
        self._lifeline = lifeline
        self._namespace_pid: int | None = None
        self._stopped: tuple[ExitReason, str] | None = None
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return not self.ended.is_set()

    def identify(self, pid: int, *, is_namespace: bool) -> None:
        """What the launcher's handshake tells: the program's id and, above it, its namespace's init."""
        self.pid = pid
        if is_namespace:
            line = Path(f"/proc/{pid}/stat").read_bytes()
            self._namespace_pid = int(line.rpartition(b")")[2].split()[1])

    def follow(self, output: Output) -> Ending:
        """Deliver the output, in batches of lines, until the whole tree is gone.

        A consumer that takes its time slows the program down and memory stays flat; one that raises ends it.
        """
        tail = Tail()

        def deliver(lines: list[OutputLine]) -> None:
            if lines:
                tail.add([line for line in lines if line.is_error])
                output(lines)

        try:
            self._pump(deliver)
            # A program may close its output long before it ends.
            self._popen.wait()
        except BaseException:
            self.kill()
            raise
        finally:
            code = self._finish()
        reason, message = self._stopped or (ExitReason.EXITED, "")
        if self._stopped is None and self._met_file_limit(code):
            reason, message = ExitReason.DISK_QUOTA, quota_message(self.limits)
        elif self._stopped is None and self._popen.returncode < 0:
            # A program that is killed makes its sandbox exit with 128 + n: this was the sandbox.
            reason, message = ExitReason.LOST, f"its sandbox was ended from outside by signal {-self._popen.returncode}"
        return Ending(code, reason, message, tail.text)

    def stop(
        self, reason: ExitReason = ExitReason.CANCELLED, message: str = "", grace_seconds: float | None = None
    ) -> None:
        """SIGTERM to the program's group, SIGKILL to the tree after a grace period. The first reason counts."""
        grace = GRACE_SECONDS if grace_seconds is None else grace_seconds
        with self._lock:
            if self._stopped is not None:
                return
            self._stopped = (reason, message)
            self.kill_at = time.monotonic() + grace
        if grace <= 0:
            self.kill()
        elif self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to every process of the tree, at once."""
        if self._popen.poll() is not None:
            return
        if self._lifeline is not None:
            with contextlib.suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_RDWR)
            return
        with contextlib.suppress(ProcessLookupError):
            # The init of the namespace: the kernel ends everything else in it before it is gone.
            os.kill(self._namespace_pid or self._popen.pid, signal.SIGKILL)

    def abandon(self) -> str:
        """End a tree that nobody follows; gives back what it said."""
        self.kill()
        said: list[str] = []
        with contextlib.suppress(ValueError):
            self._pump(lambda lines: said.extend(line.text for line in lines))
        self._finish()
        return "\n".join(said[-5:])

    def _met_file_limit(self, code: int) -> bool:
        """Whether it ended for the size of a single file, which the kernel stops and `Watch` may not see."""
        if code == 128 + signal.SIGXFSZ:
            return True
        return code != 0 and disk_use(self.scratch) >= self.limits.disk_bytes

    def _finish(self) -> int:
        """Wait until it is gone and let go of everything; its exit code."""
        code = self._popen.wait()
        if self._lifeline is not None and code < 0:
            # The supervisor itself was killed, and has left the program to nobody.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        for end in (self._popen.stdout, self._popen.stderr, self._lifeline):
            if end is not None:
                end.close()
        if self.closer is not None:
            closer, self.closer = self.closer, None
            closer()
        self._over(self)
        self.ended.set()
        return code if code >= 0 else 128 - code

    def _pump(self, deliver: Callable[[list[OutputLine]], None]) -> None:
        streams = [(self._popen.stdout, False), (self._popen.stderr, True)]
        gone_at: float | None = None
        with selectors.DefaultSelector() as selector:
            for stream, is_error in streams:
                if stream is None:
                    continue
                descriptor = stream.fileno()
                os.set_blocking(descriptor, False)
                if hasattr(fcntl, "F_SETPIPE_SZ"):
                    with contextlib.suppress(OSError):  # the user's share of pipe memory is taken
                        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _BATCH_BYTES)
                selector.register(descriptor, selectors.EVENT_READ, Lines(is_error))
            while selector.get_map():
                ready = selector.select(timeout=_STRAGGLER_SECONDS / 2)
                for key, _ in ready:
                    lines, at_end = _read(key.fd, key.data)
                    if at_end:
                        selector.unregister(key.fd)
                    deliver(lines)
                if not ready and self._popen.poll() is not None:
                    gone_at = gone_at or time.monotonic()
                    if time.monotonic() >= gone_at + _STRAGGLER_SECONDS:
                        break


def _read(descriptor: int, lines: Lines) -> tuple[list[OutputLine], bool]:
    """What a stream holds now, at most a batch, and whether that was its end."""
    batch: list[OutputLine] = []
    for _ in range(_BATCH_BYTES // _READ_BYTES):
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return batch, False
        if not data:
            return batch + lines.end(), True
        batch += lines.feed(data)
    return batch, False
