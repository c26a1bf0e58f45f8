"""Level `full`: a private root, process table and network, made by bubblewrap.

The root is the sandbox's own scratch folder, so that whatever is written outside the mounts (`/`, home, /tmp,
/dev/shm) is on disk, measured, and gone afterwards. Into it come, read-only, the system's programs and
libraries, the interpreter, the environment of the image and what the caller mounts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

#: What programs need of /etc besides the files of `write_skeleton`. Keys and host names stay outside.
_ETC = (
    "alternatives", "ca-certificates.conf", "crypto-policies", "fonts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "os-release", "pki/ca-trust/extracted", "pki/tls/certs",
    "services", "protocols", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
#: How many cores there are, which joblib and OpenBLAS ask lscpu; nothing else of /sys is shown.
_PROCESSORS = "/sys/devices/system/cpu"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

_NETWORK = "--unshare-net"
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
#: Root inside, as in Vertex AI's images, yet without any capability, and outside the user of the emulator.
_IDENTITY = ("--uid", "0", "--gid", "0", "--cap-drop", "ALL", "--new-session", "--die-with-parent")


@cache
def why_unavailable() -> str | None:
    """None when a sandbox of level `full` can be made on this machine, else the reason; tried once."""
    if sys.platform != "linux":
        return "it needs Linux"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (the program bwrap, Debian's package bubblewrap) is not installed"
    reason = _try(program)
    if reason is None:
        _nesting()  # so that the first sandbox need not wait for it
    return reason


@cache
def _nesting() -> tuple[str, ...]:
    """The option that keeps programs from making user namespaces of their own, where this bubblewrap has it."""
    program = shutil.which("bwrap")
    option = ("--disable-userns",)
    return option if program is not None and _try(program, *option) is None else ()


def _try(program: str, *options: str) -> str | None:
    """Make a sandbox; None, or why it failed."""
    test = [
        program,
        *_NAMESPACES,
        _NETWORK,
        *_IDENTITY,
        *options,
        "--tmpfs",
        "/",
        *_system_folders(),
        "--proc",
        "/proc",
    ]
    for link, target in _system_links():
        test += ["--symlink", target, link]
    try:
        done = subprocess.run(
            [*test, "--remount-ro", "/proc", "--dev", "/dev", "--", "/usr/bin/env", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": "/usr/bin:/bin"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be run: {error}"
    if done.returncode == 0:
        return None
    return f"bubblewrap is not permitted here: {done.stderr.strip() or f'exit status {done.returncode}'}"


def arguments(
    scratch: Path,
    hostname: str,
    readonly: Mapping[str, Path],
    writable: Mapping[str, Path],
    *,
    has_own_network: bool = True,
) -> list[str]:
    """The command that runs what follows it in the sandbox whose scratch folder this is.

    readonly, writable: path inside -> path outside. A mount inside another one comes after it.
    has_own_network: False leaves the sandbox in the network in which this command is run.
    Raises OSError when a program of this sandbox has put a link in a mount's way.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError("bwrap is no longer installed")
    root = scratch / "root"
    for inside in (*readonly, *writable, "/proc", "/dev", _PROCESSORS):
        _refuse_links(root, inside)
    mounts = [(inside, "--ro-bind", path) for inside, path in readonly.items()]
    mounts += [(inside, "--bind", path) for inside, path in writable.items()]
    mounts.sort(key=lambda mount: mount[0])
    return [
        program,
        *_NAMESPACES,
        *([_NETWORK] if has_own_network else []),
        *_IDENTITY,
        *_nesting(),
        *("--hostname", hostname),
        *("--bind", os.fspath(root), "/"),
        *_system_folders(),
        *_settings_mounts(),
        # An emulator that runs as root is root to the kernel inside too, and needs no capability to write to the
        # machine's own settings in /proc/sys.
        *("--proc", "/proc", "--remount-ro", "/proc"),
        *("--ro-bind-try", _PROCESSORS, _PROCESSORS),
        *("--dev", "/dev"),
        *("--bind", os.fspath(scratch / "shm"), "/dev/shm"),  # noqa: S108  # of the sandbox
        *("--remount-ro", "/dev"),
        *(word for inside, option, path in mounts for word in (option, os.fspath(path), inside)),
        *("--chdir", "/"),
        "--",
    ]


def write_skeleton(scratch: Path, hostname: str, hosts: Mapping[str, str] | None = None) -> Path:
    """Make the folders and the few files of /etc that a private root starts with; gives back the root.

    hosts: name -> address, where it shares a network with others; its own name is then one of these.
    """
    root = scratch / "root"
    for path in (root, scratch / "shm", *(root / name for name in ("etc", "root", "run", "var", "opt"))):
        path.mkdir()
    for path in (root / "tmp", root / "var/tmp"):
        path.mkdir()
        path.chmod(0o1777)
    for link, target in _system_links():
        (root / link.lstrip("/")).symlink_to(target)
    for name, text in {
        "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
        "hosts": hosts_file(hosts or {hostname: "127.0.0.1"}),
        "hostname": f"{hostname}\n",
        # Names are looked up by the proxy; asking a name server from here would only take time to fail.
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "resolv.conf": "",
    }.items():
        (root / "etc" / name).write_text(text)
    return root


def hosts_file(hosts: Mapping[str, str]) -> str:
    """/etc/hosts for these names and their addresses."""
    named = "".join(f"{address} {name}\n" for name, address in hosts.items())
    return f"127.0.0.1 localhost\n::1 localhost\n{named}"


def _refuse_links(root: Path, inside: str) -> None:
    """Raise when the way to a mount point leads through a link.

    bubblewrap makes mount points before it shuts the machine out, so it would follow one that an earlier
    program of the same sandbox left, and make folders on the machine.
    """
    path = root
    for name in Path(inside).parts[1:]:
        path /= name
        if path.is_symlink():
            raise OSError(f"a program has put a link at {inside}, where the sandbox needs a mount point")


def _system_folders() -> Iterator[str]:
    for name in _SYSTEM:
        if os.path.isdir(name) and not os.path.islink(name):
            yield from ("--ro-bind", name, name)


def _system_links() -> Iterator[tuple[str, str]]:
    """/bin -> usr/bin and its like."""
    for name in _SYSTEM:
        if os.path.islink(name):
            yield name, os.readlink(name)


def _settings_mounts() -> Iterator[str]:
    for name in _ETC:
        path = Path("/etc", name)
        if path.exists():
            # Resolved, since what a link such as /etc/localtime leads to is there under its own name.
            yield from ("--ro-bind", os.path.realpath(path), os.fspath(path))
