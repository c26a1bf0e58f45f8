"""Source distributions and wheels, looked at before anything is made of them."""

from __future__ import annotations

import contextlib
import lzma
import posixpath
import stat
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MEMBERS = 100_000
_UNPACKED_BYTES = 4 << 30
_PYPROJECT_BYTES = 1 << 20


class NotAPackage(Exception):
    """An archive that is no Python package, or one that would write outside its folder; says why."""


@dataclass(frozen=True)
class Archive:
    """A package's file."""

    is_wheel: bool
    builds_with_setuptools: bool
    """so that the environment's own setuptools can build it and nothing has to be fetched for that"""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    link: str | None = None
    is_special: bool = False
    is_hard_link: bool = False


def inspect(path: Path) -> Archive:
    """What an archive is, by its content. Raises NotAPackage."""
    try:
        if zipfile.is_zipfile(path):
            names, pyproject = _look_into_zip(path)
        elif tarfile.is_tarfile(path):
            names, pyproject = _look_into_tar(path)
        else:
            raise NotAPackage("it is neither a tar nor a zip archive")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise NotAPackage(f"it cannot be read: {error}") from error
    except (ValueError, RuntimeError) as error:
        # zipfile's for a member with a password, or a header that is none.
        raise NotAPackage(f"it cannot be read: {error}") from error
    is_wheel = path.suffix == ".whl"
    if is_wheel and not any(name.endswith(".dist-info/METADATA") for name in names):
        raise NotAPackage("it has no .dist-info/METADATA, which every wheel has")
    if not is_wheel and not any(_is_at_top(name, ("setup.py", "pyproject.toml", "setup.cfg")) for name in names):
        raise NotAPackage("it has neither setup.py nor pyproject.toml in its first folder")
    return Archive(is_wheel, _needs_only_setuptools(pyproject))


def _look_into_zip(path: Path) -> tuple[list[str], bytes | None]:
    """Names of members, and pyproject.toml if there is one."""
    with zipfile.ZipFile(path) as archive:
        names = _checked(_zip_members(archive))
        name = _pyproject_name(names)
        if name is None:
            return names, None
        with archive.open(name) as file:
            return names, file.read(_PYPROJECT_BYTES)


def _look_into_tar(path: Path) -> tuple[list[str], bytes | None]:
    with tarfile.open(path) as archive:
        names = _checked(_tar_members(archive))
        name = _pyproject_name(names)
        file = archive.extractfile(name) if name is not None else None
        return names, file.read(_PYPROJECT_BYTES) if file is not None else None


def _checked(members: Iterator[_Member]) -> list[str]:
    """Names of members, none of which leads out. Raises NotAPackage."""
    names: list[str] = []
    total = 0
    for member in members:
        if len(names) == _MEMBERS:
            raise NotAPackage(f"it has more than {_MEMBERS} members")
        total += member.size
        if total > _UNPACKED_BYTES:
            raise NotAPackage(f"it unpacks to more than {_UNPACKED_BYTES >> 30} GiB")
        if _climbs(member.name):
            raise NotAPackage(f"its member {member.name!r} would be written outside its folder")
        if member.is_special:
            raise NotAPackage(f"its member {member.name!r} is neither a file nor a folder")
        if member.link is not None:
            folder = "" if member.is_hard_link else posixpath.dirname(member.name)
            if member.link.startswith("/") or _climbs(posixpath.join(folder, member.link)):
                raise NotAPackage(f"its member {member.name!r} is a link out of its folder, to {member.link!r}")
        names.append(member.name)
    return names


def _climbs(name: str) -> bool:
    plain = posixpath.normpath(name.replace("\\", "/"))
    return plain.startswith("/") or plain == ".." or plain.startswith("../") or "\0" in plain


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        link = member.linkname if member.issym() or member.islnk() else None
        plain = member.isreg() or member.isdir() or link is not None
        yield _Member(member.name, member.size, link, not plain, member.islnk())


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        # pip writes a zip's link as a plain file that holds the target, so it cannot lead anywhere.
        yield _Member(member.filename, member.file_size, is_special=kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO))


def _is_at_top(name: str, files: tuple[str, ...]) -> bool:
    plain = posixpath.normpath(name)
    return posixpath.basename(plain) in files and plain.count("/") <= 1


def _pyproject_name(names: list[str]) -> str | None:
    return next((name for name in names if _is_at_top(name, ("pyproject.toml",))), None)


def _needs_only_setuptools(pyproject: bytes | None) -> bool:
    if pyproject is None:
        return True
    with contextlib.suppress(UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
        system = tomllib.loads(pyproject.decode()).get("build-system", {})
        backend = system.get("build-backend", "setuptools.build_meta")
        names = {_name(requirement) for requirement in system.get("requires", [])}
        return str(backend).startswith("setuptools.") and names <= {"setuptools", "wheel"}
    return False


def _name(requirement: object) -> str:
    text = str(requirement)
    end = next((index for index, letter in enumerate(text) if not (letter.isalnum() or letter in "-_.")), len(text))
    return text[:end].lower()
