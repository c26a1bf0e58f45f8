"""What a sandbox may use, and the one thread that looks whether it does.

The kernel's own limits (`launcher.limit`) hold for single processes and files. What a whole tree takes of the
disk and of memory, how long it runs, and whether it left after SIGTERM is looked at here.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from emulator.core.interfaces import ExitReason

logger = logging.getLogger(__name__)

GIB = 1 << 30
#: From SIGTERM to SIGKILL.
GRACE_SECONDS = 10.0
TICK_SECONDS = 0.2
TIMEOUT_MESSAGE = "It ran longer than its timeout."
#: Looking at memory and disk takes at most this share of one core.
LOOKING_SHARE = 0.01


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 8 * GIB


@dataclass(frozen=True)
class Limits:
    """Of one sandbox. Generous: they are to save the machine, not to imitate a machine type."""

    disk_bytes: int = 10 * GIB
    """of scratch (home, /tmp and all else that is not /gcs), and of any single file"""
    memory_bytes: int = field(default_factory=lambda: _machine_memory() * 3 // 4)
    """of the whole tree"""
    open_files: int = 65_536
    processes: int = 16_384
    """of this user on the whole machine: how the system counts"""

    def within(self, folder: Path) -> Limits:
        """These limits, with no more disk than half of what is free where the folder is."""
        free = shutil.disk_usage(folder).free
        return Limits(min(self.disk_bytes, max(free // 2, 1)), self.memory_bytes, self.open_files, self.processes)


class Watched(Protocol):
    """A process tree under watch."""

    @property
    def root_pid(self) -> int:
        """The process, seen from outside, of which all others descend."""
        ...

    @property
    def limits(self) -> Limits: ...

    @property
    def scratch(self) -> Path: ...

    @property
    def deadline(self) -> float | None:
        """When its time is over, on time.monotonic()."""
        ...

    @property
    def kill_at(self) -> float | None:
        """When it is killed because it has not heeded SIGTERM."""
        ...

    def stop(self, reason: ExitReason, message: str, grace_seconds: float | None = None) -> None: ...

    def kill(self) -> None: ...


class Watch:
    """Stops what goes beyond its limits. One thread for all sandboxes, asleep while there is none."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, watched: Watched) -> None:
        with self._changed:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="sandbox-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, watched: Watched) -> None:
        with self._changed:
            self._watched.discard(watched)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _look(self) -> None:
        next_use = 0.0
        while True:
            with self._changed:
                while not self._watched and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                watched = list(self._watched)
            try:
                self._look_at_times(watched)
                started = time.monotonic()
                if started >= next_use:
                    self._look_at_use(watched)
                    took = time.monotonic() - started
                    next_use = time.monotonic() + max(2 * TICK_SECONDS, took / LOOKING_SHARE)
            except Exception:
                # Without this thread nothing would be limited any more.
                logger.exception("the use of sandboxes could not be looked at")
            with self._changed:
                if not self._closed:
                    self._changed.wait(TICK_SECONDS)

    @staticmethod
    def _look_at_times(watched: list[Watched]) -> None:
        now = time.monotonic()
        for one in watched:
            if one.kill_at is not None:
                if now >= one.kill_at:
                    one.kill()
            elif one.deadline is not None and now >= one.deadline:
                one.stop(ExitReason.TIMED_OUT, TIMEOUT_MESSAGE)

    @staticmethod
    def _look_at_use(watched: list[Watched]) -> None:
        children = process_tree()
        for one in watched:
            if one.kill_at is not None:
                continue
            if memory_of(one.root_pid, children, one.limits.memory_bytes) > one.limits.memory_bytes:
                message = f"It used more than the {one.limits.memory_bytes >> 20} MiB of memory that it may."
                one.stop(ExitReason.OUT_OF_MEMORY, message, 0)
            elif disk_use(one.scratch) > one.limits.disk_bytes:
                one.stop(ExitReason.DISK_QUOTA, quota_message(one.limits), 0)


def quota_message(limits: Limits) -> str:
    return f"It filled the {limits.disk_bytes >> 20} MiB of disk that it may use outside /gcs."


def process_tree() -> dict[int, list[int]]:
    """Parent -> children of all processes; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    if sys.platform != "linux":
        return children
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    return children


def descendants(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    """The process and all below it."""
    pending = [pid]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(children.get(one, ()))


def memory_of(pid: int, children: dict[int, list[int]], limit: int) -> int:
    """Bytes resident in a process tree.

    Pages that forked children share count once for each in the kernel's quick figure; only when that one is
    over the limit the exact, slower figure is asked for.
    """
    if not children:
        return 0
    tree = list(descendants(pid, children))
    page = os.sysconf("SC_PAGE_SIZE")
    quick = sum(int((_read(f"/proc/{one}/statm").split() or [b"", b"0"])[1]) * page for one in tree)
    if quick <= limit:
        return quick
    exact = 0
    for one in tree:
        for line in _read(f"/proc/{one}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                exact += int(line.split()[1]) << 10
    return exact


def disk_use(folder: Path) -> int:
    """Bytes on disk of all files below a folder, without following links or entering other file systems."""
    total = 0
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
                    except OSError:
                        continue
        except OSError:
            continue
    return total


def _read(path: str) -> bytes:
    """A file of /proc; empty when its process is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
