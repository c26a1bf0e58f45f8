"""/gcs at level `none`: a folder of links, `/gcs/<bucket>` -> the bucket's files.

There programs see the machine's own /gcs, so it has to be made there, for all jobs of all emulators together. A
bucket's link is there while any job runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

_PATH = re.compile(r"/gcs(?:/([a-z0-9][a-z0-9._-]*))?(?![\w.-])")
_OUTPUT = re.compile(r"gs://([a-z0-9][a-z0-9._-]*)")
#: Tells that an emulator made the folder, so that whoever is the last to leave removes it. No bucket has such a name.
_MADE = ".made-by-selfloop"


class BucketLinks:
    """The links of one emulator. tree: its object store's files, `<tree>/<bucket>`; root: the place for links."""

    def __init__(self, tree: Path, root: Path = Path("/gcs")) -> None:
        self._tree = tree
        self._root = root
        self._users = 0
        self._ours: set[str] = set()
        self._clashes: set[str] = set()
        self._problem: str | None = None
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Make what links can be made; `release` them. `problem` tells afterwards what is amiss."""
        with self._lock:
            self._users += 1
            self._problem = None
            try:
                try:
                    self._link_all()
                except FileNotFoundError:  # another emulator has just removed the folder
                    self._link_all()
            except OSError as error:
                self._problem = (
                    f"{self._root} cannot be made at sandbox level none ({error.strerror}). Make it once for yourself: "
                    f"sudo mkdir -p {self._root} && sudo chown $(id -u) {self._root} "
                    "(on macOS by a line in /etc/synthetic.conf)"
                )

    def add(self, bucket: str) -> None:
        """A bucket was made: jobs that run see it from now on."""
        with self._lock, contextlib.suppress(OSError):
            if self._users and self._problem is None:
                self._link(bucket)

    def release(self) -> None:
        """Remove this emulator's links when nobody uses them any more."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            for bucket in self._ours:
                with contextlib.suppress(OSError):
                    if self._leads_to(bucket) == self._tree / bucket:
                        (self._root / bucket).unlink()
            self._ours.clear()
            self._clashes.clear()
            self._remove_root()

    def problem(self, texts: Iterable[str], outputs: Iterable[str] = ()) -> str | None:
        """Why a job with these words cannot run, or None.

        texts: may name paths below /gcs. outputs: gs:// URIs that trainers write to as files.
        """
        buckets = {match[1] for text in texts for match in _PATH.finditer(text)}
        buckets |= {match[1] for text in outputs for match in _OUTPUT.finditer(text)}
        if not buckets:
            return None
        if self._problem is not None:
            return f"It uses /gcs, but {self._problem}"
        for bucket in sorted(filter(None, buckets & self._clashes)):
            return (
                f"It uses /gcs/{bucket}, but at sandbox level none {self._root / bucket} is taken: it leads to "
                f"{self._leads_to(bucket)}, of another emulator. End that one's jobs, or remove the link."
            )
        return None

    @property
    def warning(self) -> str | None:
        """What a job that did not name /gcs should know."""
        return self._problem

    def remove_left(self) -> None:
        """Remove the links of an earlier run that was killed."""
        with self._lock, contextlib.suppress(OSError):
            for name in os.listdir(self._root):
                if self._leads_to(name) == self._tree / name:
                    (self._root / name).unlink()
            self._remove_root()

    def _link_all(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._root.mkdir()
            (self._root / _MADE).touch()
        for bucket in os.listdir(self._tree):
            self._link(bucket)

    def _remove_root(self) -> None:
        """Unless it was there before all emulators, or another one has links in it."""
        made = self._root / _MADE
        with contextlib.suppress(OSError):
            if os.listdir(self._root) == [_MADE]:
                made.unlink()
                try:
                    self._root.rmdir()
                except OSError:  # somebody has just put a link in it
                    made.touch()

    def _link(self, bucket: str) -> None:
        target = self._tree / bucket
        link = self._root / bucket
        with contextlib.suppress(FileExistsError):
            link.symlink_to(target)
        found = self._leads_to(bucket)
        if found is not None and found != target and not found.exists():
            # Of an emulator that was killed and whose files are gone.
            link.unlink()
            link.symlink_to(target)
            found = target
        (self._ours if found == target else self._clashes).add(bucket)

    def _leads_to(self, bucket: str) -> Path | None:
        try:
            return Path(os.readlink(self._root / bucket))
        except OSError:
            return None
