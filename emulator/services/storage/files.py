"""Object bytes as files: the tree that sandboxes see as /gcs, and what is kept beside it.

    <folder>/tree/<bucket>/<name>   live objects whose name is a clean path
    <folder>/apart/<random>         objects that no path can stand for
    <folder>/incoming/<random>      uploads under way

A job may leave anything in the tree and swap it at any moment. So a path is walked part by part from an open
folder, no symbolic link is followed, and nothing but a regular file is opened.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from emulator.services.storage.file_system import NO_FILE, is_folder, link_again, link_new, signature_at
from emulator.services.storage.names import may_alias, path_of
from emulator.services.storage.staged import Signature, Staged, disk_errors

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: What the file system says when a path cannot hold an object: something of these in the way, a folder that a job
#: locked, a name that it does not take.
_NO_PLACE = {
    errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM,
    errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL,
}  # fmt: skip


#: Begins the name apart of an object `folder/` that is shown as a folder.
_SHOWN_FOLDER = "folder-"
_FOLDER_MODE = 0o755
#: Of folders that the emulator makes for its objects' files.
_OWN_MODE = _FOLDER_MODE | stat.S_ISVTX


class Files:
    """The files of one store. Buckets and names given here have been validated; paths have not."""

    def __init__(self, folder: Path, is_object: Callable[[str, str], bool] = lambda _bucket, _name: False) -> None:
        """is_object: whether there is an object of a name, `folder/` too, whose folder must not go."""
        self._is_object = is_object
        self.tree = folder / "tree"
        self._apart = folder / "apart"
        self._incoming = folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for place in (self.tree, self._apart, self._incoming):
            place.mkdir(exist_ok=True)
        self._root = os.open(self.tree, _FOLDER)

    def close(self) -> None:
        os.close(self._root)

    # Uploads

    def stage(self, name: str = "", *, md5: bool = True) -> Staged:
        """An empty file outside the tree. A name is given to what must be found again after a restart.

        md5: whether it is worth computing while the bytes come.
        """
        path = f"{self._incoming}/{name or secrets.token_hex(16)}"
        with disk_errors():
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        staged = Staged(path, descriptor, md5=md5)
        staged.is_named = bool(name)
        return staged

    def resume(self, name: str, size: int = -1, crc32c: int = 0) -> Staged | None:
        """A file staged under a name before; None when it is gone.

        size, crc32c: what is remembered of it; when its length is another, the checksum is computed anew.
        """
        path = f"{self._incoming}/{name}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        actual = os.fstat(descriptor).st_size
        staged = Staged(path, descriptor, size, crc32c)
        staged.is_named = True
        if actual != size:
            staged.truncate(actual)
        return staged

    def remove_staged(self, name: str) -> None:
        (self._incoming / name).unlink(missing_ok=True)

    def linked(self) -> set[int]:
        """Inodes of staged files that are in the tree too: put there, and not known to be committed."""
        statuses = (entry.stat(follow_symlinks=False) for entry in os.scandir(self._incoming))
        return {Signature.of(status).inode for status in statuses if status.st_nlink > 1}

    def remove_from_tree(self, inodes: set[int]) -> None:
        """Remove files by their inodes. Walks the whole tree, following no links: for recovery alone."""
        waiting = [os.dup(self._root)]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            with suppress(OSError):
                                waiting.append(os.open(entry.name, _FOLDER, dir_fd=folder))
                        elif entry.inode() & (2**63 - 1) in inodes:
                            os.unlink(entry.name, dir_fd=folder)
            finally:
                os.close(folder)

    def strays(self, known: set[str]) -> dict[str, Signature]:
        """Files apart that are none of these: a killed process had put them there without committing."""
        return {
            entry.name: Signature.of(entry.stat(follow_symlinks=False))
            for entry in os.scandir(self._apart)
            if entry.name not in known
        }

    def sweep(self, uploads: set[str], apart: set[str]) -> None:
        """Remove what a killed process left behind: all but these names."""
        for folder, kept in ((self._incoming, uploads), (self._apart, apart)):
            for entry in os.scandir(folder):
                if entry.name not in kept:
                    os.unlink(entry.path)

    # Places

    def put(self, staged: Staged, bucket: str, name: str, *, replaces: bool) -> str:
        """Move a staged file to its place in one step; gives back its name apart, or nothing for the tree.

        replaces: whether a file there gives way; else Occupied is raised, and nothing has happened.

        Where there was nothing before, and where a restart would need it, the file keeps its staged name besides
        (`is_linked`), to be removed after the commit: by it a restart tells what was never committed.
        """
        parts = path_of(name)
        # A file that a job gave such a name is replaced like any other: it must not come back as newer.
        if parts is not None and not (may_alias(name) and self.signature(bucket, name) is None):
            try:
                with disk_errors(), self._folder((bucket, *parts[:-1]), create=True) as folder:
                    staged.is_linked = link_new(staged.path, folder, parts[-1])
                    if staged.is_linked:
                        return ""
                    if not replaces and signature_at(folder, parts[-1]) is not None:
                        raise Occupied
                    if not is_folder(folder, parts[-1]):
                        self._rename(staged, parts[-1], folder)
                        return ""
            except OSError as error:
                if error.errno not in _NO_PLACE:
                    raise
        apart = secrets.token_hex(16)
        if self.make_folder(bucket, name):
            apart = f"{_SHOWN_FOLDER}{apart}"
        self._rename(staged, str(self._apart / apart))
        return apart

    def _rename(self, staged: Staged, target: str, folder: int | None = None) -> None:
        """Put a staged file in the place of another; one that has to be found again keeps its name besides."""
        path = staged.path
        if staged.is_named:
            path = str(self._incoming / secrets.token_hex(16))
            try:
                os.link(staged.path, path)
                staged.is_linked = True
            except OSError:
                path = staged.path
        try:
            os.rename(path, target, dst_dir_fd=folder)
        except OSError:
            if staged.is_linked:
                staged.is_linked = False
                os.unlink(path)
            raise

    def set_aside(self, bucket: str, name: str, signature: Signature, *, keep: bool) -> str:
        """Give an object's file in the tree a place apart, under the name given back.

        keep: it stays in the tree besides, for the file that is put in its place. Empty text when the file is not
        the one of this signature (a job's, or none). Raises OSError when the file system refuses.
        """
        parts = path_of(name)
        if parts is None:
            return ""
        apart = secrets.token_hex(16)
        try:
            with self._folder((bucket, *parts[:-1])) as folder:
                if signature_at(folder, parts[-1]) != signature:
                    return ""
                if not (keep and link_again(folder, parts[-1], self._apart / apart)):
                    os.rename(parts[-1], self._apart / apart, src_dir_fd=folder)
        except OSError as error:
            if error.errno not in NO_FILE:
                raise
            return ""
        if not keep:
            self._remove_empty_folders(bucket, parts)
        return apart

    def put_back(self, bucket: str, name: str, apart: str) -> None:
        """Undo `set_aside`, and what was put in the file's place."""
        parts = path_of(name)
        if parts is None:
            return
        with self._folder((bucket, *parts[:-1]), create=True) as folder:
            os.rename(self._apart / apart, parts[-1], dst_dir_fd=folder)
        # Of two names of one file, a rename leaves both.
        self.remove_apart(apart)

    def link(self, bucket: str, name: str, signature: Signature, target: Path) -> None:
        """Give an object's file in the tree a second name, where it has this signature and can have one."""
        parts = path_of(name)
        if parts is not None:
            with suppress(OSError), self._folder((bucket, *parts[:-1])) as folder:
                if signature_at(folder, parts[-1]) == signature:
                    link_again(folder, parts[-1], target)

    def link_apart(self, path: str) -> str:
        """Give a file beside the tree a place apart; gives back its name there."""
        apart = secrets.token_hex(16)
        try:
            os.link(path, self._apart / apart)
        except OSError:
            os.rename(path, self._apart / apart)
        return apart

    def remove_apart(self, apart: str) -> None:
        (self._apart / apart).unlink(missing_ok=True)

    def remove(self, bucket: str, name: str, apart: str) -> None:
        """Delete an object's file, and the folders in the tree that are empty without it."""
        if apart:
            self.remove_apart(apart)
            if is_shown_folder(apart):
                self.remove_folder(bucket, name)
            return
        parts = path_of(name)
        if parts is None:
            return
        try:
            with self._folder((bucket, *parts[:-1])) as folder:
                os.unlink(parts[-1], dir_fd=folder)
        except OSError as error:
            # A file that stays would be an object again. Only where there is none any more, all is well.
            if error.errno not in NO_FILE:
                raise
            return
        self._remove_empty_folders(bucket, parts)

    def _remove_empty_folders(self, bucket: str, parts: tuple[str, ...]) -> None:
        with suppress(OSError):
            for depth in range(len(parts) - 1, 0, -1):
                if self._is_object(bucket, "".join(f"{part}/" for part in parts[:depth])):
                    return
                with self._folder((bucket, *parts[: depth - 1])) as folder:
                    os.rmdir(parts[depth - 1], dir_fd=folder)

    def open(self, bucket: str, name: str, apart: str = "") -> tuple[int, os.stat_result] | None:
        """A descriptor of an object's regular file, to be closed by the caller; None when there is none."""
        if apart:
            try:
                descriptor = os.open(self._apart / apart, _FILE)
            except FileNotFoundError:
                return None
            return descriptor, os.fstat(descriptor)
        parts = path_of(name)
        if parts is None:
            return None
        try:
            with self._folder((bucket, *parts[:-1])) as folder:
                # Asked before opening too: to open a device may already do something.
                if not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                    return None
                descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return descriptor, status

    def signatures(self, bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Signature | None]]:
        """The state of each name's file in the tree; quick for names that come in order."""
        at: tuple[str, ...] | None = None
        folder = -1
        try:
            for name in names:
                parts = path_of(name)
                if parts is None:
                    yield name, None
                    continue
                if parts[:-1] != at:
                    if folder >= 0:
                        os.close(folder)
                    at, folder = parts[:-1], self._open_folder((bucket, *parts[:-1]))
                yield name, signature_at(folder, parts[-1])
        finally:
            if folder >= 0:
                os.close(folder)

    def signature(self, bucket: str, name: str) -> Signature | None:
        """The state of one name's file in the tree; None unless it is a regular file."""
        parts = path_of(name)
        if parts is None:
            return None
        folder = self._open_folder((bucket, *parts[:-1]))
        if folder < 0:
            return None
        try:
            return signature_at(folder, parts[-1])
        finally:
            os.close(folder)

    # Folders of the tree. One that the emulator made for an object's file has the sticky bit and goes with the last
    # object in it; one without was made by a job, or is shown for an object `folder/`.

    def folder_state(self, bucket: str, name: str) -> FolderState:
        """How it is with the folder that an object of the name `folder/` is shown as."""
        parts = path_of(name[:-1])
        folder = -1 if parts is None else self._open_folder((bucket, *parts))
        if folder < 0:
            return FolderState.GONE
        try:
            if os.fstat(folder).st_mode & stat.S_ISVTX or os.listdir(folder):
                return FolderState.THERE
            return FolderState.BARE
        finally:
            os.close(folder)

    def make_folder(self, bucket: str, name: str) -> bool:
        """Show an object of the name `folder/` as one; False for other names, and where something is in the way."""
        parts = path_of(name[:-1]) if name.endswith("/") else None
        if parts is None:
            return False
        with suppress(OSError), self._folder((bucket, *parts), create=True):
            return True
        return False

    def mark_folder(self, bucket: str, name: str, *, is_object: bool) -> None:
        """Say whether a folder is shown for an object `folder/`, or goes with the last object in it."""
        parts = path_of(name[:-1])
        if parts is not None:
            with suppress(OSError), self._folder((bucket, *parts)) as folder:
                os.fchmod(folder, _FOLDER_MODE if is_object else _OWN_MODE)

    def remove_folder(self, bucket: str, name: str) -> None:
        """Remove the folder of an object `folder/` that is deleted, unless something is in it."""
        parts = path_of(name[:-1])
        if parts is not None:
            self._remove_empty_folders(bucket, (*parts, ""))

    def make_bucket(self, bucket: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(bucket, 0o755, dir_fd=self._root)

    def remove_bucket(self, bucket: str) -> None:
        """With all that is left in it: empty folders and what never was an object."""
        path = self.tree / bucket
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)

    def folder_mtime(self, bucket: str, parts: tuple[str, ...]) -> int:
        """When an entry of a folder was last added or removed; -1 when there is no such folder."""
        folder = self._open_folder((bucket, *parts))
        if folder < 0:
            return -1
        try:
            return os.fstat(folder).st_mtime_ns
        finally:
            os.close(folder)

    def scan(self, bucket: str, parts: tuple[str, ...]) -> FolderScan:
        """What a folder holds now, files and folders each in the order of their names; empty when it is gone."""
        folder = self._open_folder((bucket, *parts))
        if folder < 0:
            return FolderScan(-1, [], [])
        try:
            status = os.fstat(folder)
            files, folders = [], []
            is_bare = not status.st_mode & stat.S_ISVTX
            with os.scandir(folder) as entries:
                for entry in entries:
                    is_bare = False
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
        finally:
            os.close(folder)
        return FolderScan(status.st_mtime_ns, sorted(files), sorted(folders), is_bare)

    def _open_folder(self, parts: tuple[str, ...]) -> int:
        """A descriptor of a folder of the tree, or -1 when a part of the path is not a folder."""
        folder = self._root
        try:
            for part in parts:
                below = os.open(part, _FOLDER, dir_fd=folder)
                if folder != self._root:
                    os.close(folder)
                folder = below
        except OSError:
            if folder != self._root:
                os.close(folder)
            return -1
        return folder

    @contextmanager
    def _folder(self, parts: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
        """The same for the length of a block. Raises OSError; with `create`, makes what is missing."""
        folder = self._root
        try:
            for part in parts:
                try:
                    below = os.open(part, _FOLDER, dir_fd=folder)
                except FileNotFoundError:
                    if not create:
                        raise
                    made = False
                    with suppress(FileExistsError):
                        os.mkdir(part, _FOLDER_MODE, dir_fd=folder)
                        made = True
                    below = os.open(part, _FOLDER, dir_fd=folder)
                    if made:
                        os.fchmod(below, _OWN_MODE)
                if folder != self._root:
                    os.close(folder)
                folder = below
            yield folder
        finally:
            if folder != self._root:
                os.close(folder)


class Occupied(Exception):
    """A file is in a place that was taken for free: a job's."""


@dataclass(frozen=True)
class FolderScan:
    mtime_ns: int
    """-1 when there is no such folder"""
    files: list[str]
    folders: list[str]
    is_bare: bool = False
    """made by a job, and nothing in it"""


class FolderState(Enum):
    GONE = auto()
    THERE = auto()
    BARE = auto()
    """made by a job, and nothing in it"""


def is_shown_folder(apart: str) -> bool:
    """Whether an object `folder/` is shown as a folder of the tree, by the name of its file apart."""
    return apart.startswith(_SHOWN_FOLDER)
