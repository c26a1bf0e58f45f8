"""Makes a network that several sandboxes share, and brings a program into one; Linux only.

    join_network.py hold CONTROL PORT       a private network with a listener, which goes out over CONTROL, a socket,
                                            as does a socket that belongs to the network for each byte that comes in
    join_network.py join PID PROGRAM ARGS   becomes the program, inside the network that process PID holds

A network belongs to a user namespace, and what enters the one enters the other. Runs on the machine, outside of any
sandbox, under the emulator's own interpreter with `-I -S`: what a sandbox may do is for bubblewrap to say, later.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def hold(control: socket.socket, port: int) -> None:
    """Keep a network until the other end of the socket is closed, by the emulator or by its death."""
    uid, gid = os.getuid(), os.getgid()
    _check(_libc().unshare(CLONE_NEWUSER | CLONE_NEWNET))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    _bring_up_loopback()
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        socket.send_fds(control, [b"."], [listener.fileno()])
    while control.recv(1):
        with socket.socket() as made:
            socket.send_fds(control, [b"."], [made.fileno()])


def join(pid: str, command: list[str]) -> None:
    for kind in ("user", "net"):
        descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        _check(_libc().setns(descriptor, 0))
        os.close(descriptor)
    os.execv(command[0], command)  # noqa: S606  # becoming it is the point


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(what: str, *rest: str) -> None:
    try:
        if what == "hold":
            hold(socket.socket(fileno=int(rest[0])), int(rest[1]))
        else:
            join(rest[0], list(rest[1:]))
    except OSError as error:
        sys.exit(f"{what}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
