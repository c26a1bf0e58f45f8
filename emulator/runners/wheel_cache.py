"""Wheels that jobs built of their source distributions, by the content of these.

A replica or a trial with the same package then starts a build earlier. What is in the cache was made by user code
inside a sandbox: it only ever goes back into a sandbox, for the very same source.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from emulator.core.ids import new_id

_KEPT = 50


class WheelCache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(package: Path, environment: Path) -> str:
        """Of a source distribution built in an environment."""
        with package.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(f"{content} {environment}".encode()).hexdigest()

    def find(self, key: str) -> Path | None:
        """The wheel's file; its name is the wheel's own."""
        with contextlib.suppress(OSError):
            for path in (self.folder / key).iterdir():
                os.utime(path.parent)
                return path
        return None

    def keep(self, key: str, name: str, content: bytes) -> None:
        """Put a wheel in, and let the least used ones go."""
        folder = self.folder / key
        new = self.folder / f"new-{new_id()}"
        new.mkdir(mode=0o700, parents=True)
        (new / name).write_bytes(content)
        try:
            new.rename(folder)
        except OSError:  # another job was quicker
            shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # another job tidies up at the same time
            for old in sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
