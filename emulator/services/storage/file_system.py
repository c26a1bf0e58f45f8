"""Single calls to the file system that `files.py` makes in an open folder, and what they say."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from emulator.services.storage.staged import Signature

#: What the file system says where there is no file: nothing, a file or a link in place of a folder, a folder.
NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


def is_open_for_writing(descriptor: int) -> bool:
    """Whether another open file writes to this one: a read lease is refused while one does (Linux).

    False where the system cannot say.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Should a writer come in this instant, the kernel sends a signal: one that does nothing by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def link_again(folder: int, name: str, target: Path) -> bool:
    """Whether a file could be given a second name; some file systems have none."""
    try:
        os.link(name, target, src_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in NO_FILE:
            raise
        return False
    return True


def link_new(path: str, folder: int, name: str) -> bool:
    """Whether a file could be given a second name that was free; some file systems know no second names."""
    try:
        os.link(path, name, dst_dir_fd=folder)
    except OSError:
        # What is wrong besides, the rename will say.
        return False
    return True


def signature_at(folder: int, name: str) -> Signature | None:
    if folder < 0:
        return None
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return Signature.of(status) if stat.S_ISREG(status.st_mode) else None


def is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
