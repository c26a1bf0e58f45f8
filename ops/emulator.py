"""The local Google Cloud as a process: start it, stop it, and read the variables that lead to it.

It is reached as anyone would reach it: its command line, the files `address.json` and `token` of its state
directory and its control API. Nothing of its code is imported.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ops.config import ROOT, Config
from ops.control import Control, find_control, running_control
from ops.errors import OpsError

START_SECONDS = 60.0
"""the first start generates tables and keys; a warm one takes half a second"""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
LOG = "emulator.log"
STARTUP_LOG = "startup.log"
"""what the server prints besides its log: why it could not start"""
START_LOCK = "start.lock"
"""held while a task starts the server: a second task waits and then finds it running"""

_outliving: dict[int, subprocess.Popen[bytes]] = {}
"""servers that this process started, by id: they may outlive it, and a Popen that is let go would complain"""


@dataclass(frozen=True)
class Starting:
    """A server that was started and may not answer yet; other work fits in between."""

    state: Path
    process: subprocess.Popen[bytes]

    def wait(self, timeout_seconds: float = START_SECONDS) -> Control:
        """The emulator, once it answers.

        Raises OpsError with the server's own last line when it ends instead.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise OpsError(f"the emulator did not start: {_last_line(self.state / STARTUP_LOG)}")
            control = find_control(self.state)
            if control is not None and control.pid == self.process.pid and control.answers():
                return control
            time.sleep(POLL_SECONDS)
        self.process.terminate()
        raise OpsError(f"the emulator did not answer within {timeout_seconds:.0f} s; its log: {log_path(self.state)}")


def command(config: Config) -> list[str]:
    """The server's command line."""
    settings = config.emulator
    arguments = [
        sys.executable, "-m", "emulator", "serve",
        "--state", str(config.emulator_state), "--port", str(settings.port),
        "--project", config.project, "--location", config.location, "--images", settings.images,
    ]  # fmt: skip
    if settings.image_table:
        table = {image: entry.model_dump(exclude_defaults=True) for image, entry in settings.image_table.items()}
        for entry in table.values():
            if "folder" in entry:
                entry["folder"] = str(ROOT / entry["folder"])
        arguments += ["--image-table", json.dumps(table)]
    if settings.sandbox:
        arguments += ["--sandbox", settings.sandbox]
    return [*arguments, "--egress", ",".join(settings.egress)] if settings.egress else [*arguments, "--no-egress"]


def start(config: Config) -> Starting:
    """Start the server in the background, its output in the state directory's log."""
    state = config.emulator_state
    with _opened(state, STARTUP_LOG) as log:
        process = subprocess.Popen(
            command(config), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=_server_environment(os.environ), start_new_session=True,
        )  # fmt: skip
    _outliving[process.pid] = process
    return Starting(state, process)


def ensure(config: Config) -> tuple[Control, bool]:
    """The running emulator, started when there is none; and whether it was started now."""
    control = find_control(config.emulator_state)
    if control is not None and control.answers():
        return control, False
    with _opened(config.emulator_state, START_LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        control = find_control(config.emulator_state)
        if control is not None and control.answers():
            return control, False
        return start(config).wait(), True


def run_in_foreground(config: Config) -> None:
    """Become the server; it prints one line holding `ready` and the address. Does not come back."""
    control = find_control(config.emulator_state)
    if control is not None and control.answers():
        raise OpsError(f"{running_line(control)}; stop it with: inv emulator.down")
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execve(sys.executable, command(config), _server_environment(os.environ))  # noqa: S606 -- no shell is meant


def stop(config: Config) -> Control | None:
    """Stop the emulator of the configuration and wait for its end; None when none ran."""
    control = find_control(config.emulator_state)
    # A process id alone may have been given to another program since; its token proves who answers.
    if control is None or not control.answers():
        return None
    os.kill(control.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _exists(control.pid):
            return control
        time.sleep(POLL_SECONDS)
    raise OpsError(
        f"the emulator (pid {control.pid}) did not end within {STOP_SECONDS:.0f} s; look at {log_path(control.state)}"
    )


def restarted(before: Control) -> Control:
    """The emulator after it began anew by itself, as it does for a reset and a restore."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        control = find_control(before.state)
        if control is not None and control.started != before.started and control.answers():
            return control
        time.sleep(POLL_SECONDS)
    raise OpsError(f"the emulator did not come back within {START_SECONDS:.0f} s; look at {log_path(before.state)}")


def running_line(control: Control) -> str:
    return f"an emulator runs on {control.state}: {control.address} (pid {control.pid})"


def variables(config: Config) -> dict[str, str]:
    """What turns a client to the running emulator and to the configuration's project."""
    answer: Mapping[str, object] = running_control(config.emulator_state).get("env")
    exports = {str(name): str(value) for name, value in answer.items()}
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"):
        exports[name] = config.project
    for name in ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION", "CLOUDSDK_AI_REGION"):
        exports[name] = config.location
    return exports


def exports(config: Config) -> str:
    """Shell lines for `eval`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables(config).items()))


def execute(config: Config, arguments: Sequence[str], *, isolated: bool) -> int:
    """Run a command inside the variables; gives back its exit code.

    isolated: in a network of its own from which nothing but the emulator can be reached.
    """
    if not arguments:
        raise OpsError("no command was given; write it after two dashes: inv emulator.exec -- gcloud ai models list")
    environment = {**os.environ, **variables(config)}
    if isolated:
        port = str(running_control(config.emulator_state).port)
        # The server's code is found by PYTHONPATH; the command gets back what it would have had.
        given = os.environ.get("PYTHONPATH")
        own = ["env", "-u", "PYTHONPATH"] if given is None else ["env", f"PYTHONPATH={given}"]
        arguments = [sys.executable, "-m", "emulator", "isolated", "--port", port, "--", *own, *arguments]
        environment["PYTHONPATH"] = str(ROOT)
    try:
        with subprocess.Popen(list(arguments), env=environment) as process:
            return _exit_code(process)
    except FileNotFoundError:
        raise OpsError(f"{arguments[0]} is not installed or not on PATH") from None
    except PermissionError:
        raise OpsError(f"{arguments[0]} cannot be run: it is not executable") from None


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code as shells give it; Ctrl-C is the command's own affair, which the terminal sends it too."""
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return code if code >= 0 else 128 - code


def show_log(config: Config, lines: int, *, follow: bool) -> None:
    """Print the last lines of the server's log, and go on as it grows when asked to."""
    log = log_path(config.emulator_state)
    if not log.exists():
        raise OpsError(f"{log} does not exist; no emulator has run there")
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run(["tail", "-n", str(lines), "-F", str(log)], check=False)
        return
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in collections.deque(file, maxlen=lines):
            print(line, end="")


def coverage_text(levels: Mapping[str, Mapping[str, str]], *, by_method: bool) -> str:
    """One line a service with the number of methods at each level, or one line a method."""
    if by_method:
        return "\n".join(
            f"{level:8} {service}.{method}" for service, methods in levels.items() for method, level in methods.items()
        )
    lines = []
    for service, methods in levels.items():
        counts = collections.Counter(methods.values())
        told = ", ".join(
            f"{counts[level]} {level}" for level in ("checked", "behaves", "shape", "absent") if counts[level]
        )
        lines.append(f"{service}: {told}")
    return "\n".join(lines)


def journal_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """One line a call, in the order given."""
    return "\n".join(
        f"{call['time']} {call['transport']:5} {call['milliseconds']:8.1f} ms {call['status']:18} {call['method']}"
        + (f"  {call['detail']}" if call["detail"] else "")
        for call in calls
    )


def _opened(state: Path, name: str) -> BinaryIO:
    """A file in the state directory, made anew; the directory too when it is missing.

    Raises OpsError when that cannot be.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (state / name).open("wb")
    except OSError as error:
        raise OpsError(
            f"the state directory {state} cannot be written ({error.strerror}); set SELFLOOP_STATE to another folder"
        ) from None


def log_path(state: Path) -> Path:
    return state / LOG


def _server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The server's own variables; byte code makes its next start several times faster."""
    return {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else f"it left no message in {log}"


def _exists(pid: int) -> bool:
    if pid in _outliving:
        return _outliving[pid].poll() is None  # a child of ours is there until it is waited for
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
