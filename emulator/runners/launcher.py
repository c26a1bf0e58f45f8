"""The first program of every sandbox: takes orders, opens the one way out, becomes the user's program.

It runs inside, under the interpreter of the container's environment (any Python from 3.7), with `-I -S` and
with nothing of the emulator to import: only the standard library, and of that only what is built in or loads
in a millisecond.

    launcher.py CONTROL LIFELINE

CONTROL is an inherited socket. On it come a length and the orders (`read_orders`); back goes the process id,
with the listener's descriptor when one was asked for (the kernel adds the id as the emulator sees it). After
one byte in return the program is executed, which closes the socket; why it could not be is told there.

LIFELINE is -1 where the kernel ends the tree (a process namespace of its own). Elsewhere it is a second
socket and this program stays, as the parent of the user's program and, on Linux, of all that this one leaves
behind: it kills them when the program is over, or when the emulator closes the socket or dies.
"""

from __future__ import annotations

# `signal` and `socket` take as long to import as all the rest together.
import _signal  # type: ignore[import-not-found]  # builtin, known to no stub
import _socket
import os
import sys

TYPE_CHECKING = False  # of `typing`, which would take longest of all
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    control = _socket.socket(fileno=int(sys.argv[1]))
    lifeline = int(sys.argv[2])
    os.set_inheritable(control.fileno(), False)
    orders = read_orders(control)
    if lifeline < 0:
        become_program(control, orders)
    os.set_inheritable(lifeline, False)
    become_subreaper()
    program = os.fork()
    if program == 0:
        os.close(lifeline)
        os.setsid()
        become_program(control, orders)
    control.close()
    supervise(program, lifeline)


def read_orders(control: _socket.socket) -> list[bytes]:
    """Port, descriptors, processes, file bytes, folder, number of arguments, arguments, variables."""
    length = int.from_bytes(receive(control, 8), "big")
    return receive(control, length).split(b"\0")


def receive(control: _socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = control.recv(min(length - len(data), 1 << 20))
        if not piece:
            sys.exit(1)
        data += piece
    return data


def become_program(control: _socket.socket, orders: list[bytes]) -> NoReturn:
    """Hand out the listener, wait for the word, execute. Never returns."""
    port, descriptors, processes, file_bytes = (int(number) for number in orders[:4])
    folder, count = orders[4], int(orders[5])
    argv, variables = orders[6 : 6 + count], orders[6 + count :]
    environment = dict(variable.split(b"=", 1) for variable in variables)
    try:
        pid = b"%d" % os.getpid()
        if port:
            listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
            right = listener.fileno().to_bytes(4, sys.byteorder)
            control.sendmsg([pid], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, right)])
            listener.close()
        else:
            control.sendall(pid)
        if not control.recv(1):
            os._exit(1)
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        limit(descriptors, processes, file_bytes)
        # Python ignores these two; the user's program expects the system's defaults.
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(folder)
        os.execvpe(argv[0], argv, environment)  # noqa: S606  # becoming it is the point
    except OSError as error:
        control.sendall(f"{os.fsdecode(argv[0])}: {error.strerror}".encode())
    os._exit(127)


def limit(descriptors: int, processes: int, file_bytes: int) -> None:
    import resource

    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: descriptors,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: file_bytes,
    }
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (allowed, allowed))


def become_subreaper() -> None:
    """On Linux, processes whose parent has ended become this one's children, not init's."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def supervise(program: int, lifeline: int) -> NoReturn:
    """Until the program or the emulator ends; then end the tree and pass the program's status on."""
    import select

    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for name in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(name, _signal.SIG_IGN)
    # The program alone holds its output, so that the pipes end with it.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    status = None
    while status is None:
        status = reap(program)
        if status is None:
            readable = select.select([lifeline, wake], [], [])[0]
            if wake in readable:
                os.read(wake, 4096)
            if lifeline in readable:
                break
    while True:
        # Again and again: a child that ends hands its own children on to this process.
        end_children(program)
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == program:
            status = ended
    code = 0 if status is None else status
    os._exit(128 + os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code))


def reap(program: int) -> int | None:
    """The program's wait status once it is over; other children are forgotten as they end."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid == program:
            return status
        if pid == 0:
            return None


def end_children(program: int) -> None:
    """Kill every child, and the program's group for where children cannot be listed."""
    kill(os.killpg, program)
    for child in children():
        kill(os.kill, child)


def kill(how: Callable[[int, int], None], target: int) -> None:
    try:  # noqa: SIM105  # contextlib is not worth its import
        how(target, _signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def children() -> Iterator[int]:
    me = b"%d" % os.getpid()
    if not os.path.isdir("/proc/self"):
        return
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]
            except OSError:
                continue
            if parent == me:
                yield int(name)


if __name__ == "__main__":
    main()
