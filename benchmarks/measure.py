"""What all benchmarks share: side-by-side runs, medians, processes and their memory, a Markdown table.

Figures of one machine compare with nothing but their peer's in the same run. So subjects take turns, and what is
printed is the median of each and the ratio to the peer.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0


class NotMeasurable(Exception):
    """A program or a facility that a benchmark needs is not there; the message says how to get it."""


@dataclass
class Subject:
    """Something measured: its name, and one run that gives back metric -> value."""

    name: str
    run: Callable[[], Mapping[str, float]]
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, metric: str) -> float:
        return statistics.median(self.values[metric])


def take_turns(subjects: Sequence[Subject], runs: int) -> None:
    """Run all subjects in turn, so many times, and keep what each run measured."""
    for number in range(runs):
        for subject in subjects:
            say(f"run {number + 1} of {runs}: {subject.name}")
            for metric, value in subject.run().items():
                subject.values.setdefault(metric, []).append(value)


def table(subjects: Sequence[Subject], peers: Mapping[str, str], formats: Mapping[str, str]) -> str:
    """Medians in Markdown, one line a subject; behind each metric its ratio to the peer's.

    peers: a subject's name -> that of its peer. formats: metric -> format, in the order of the columns.
    """
    by_name = {subject.name: subject for subject in subjects}
    lines = ["| | " + " | ".join(formats) + " |", "|---" * (len(formats) + 1) + "|"]
    for subject in subjects:
        cells = []
        for metric, form in formats.items():
            if metric not in subject.values:
                cells.append("")
                continue
            cell = form.format(subject.median(metric))
            peer = by_name.get(peers.get(subject.name, ""))
            if peer is not None and metric in peer.values:
                cell += f" ({subject.median(metric) / peer.median(metric):.2f}x)"
            cells.append(cell)
        lines.append(f"| {subject.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def heading(runs: int, *packages: str) -> str:
    """One line on where and how it was measured."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"Medians of {runs} runs, subjects in turn; {os.cpu_count()} cores, {platform.system()}, "
        f"CPython {platform.python_version()}{load}{'; ' if versions else ''}{versions}"
    )


def parser(description: str | None, runs: int = 5) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=int, default=runs, help="of each subject (default %(default)s, at least 3)")
    return made


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's, without what would make Python start cold or turn a client elsewhere."""
    removed = {"PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME", "SELFLOOP_STATE", "SELFLOOP_PORT"}
    return {name: value for name, value in os.environ.items() if name not in removed} | extra


def program(name: str, package: str) -> str:
    """The path of a program, of this environment before the machine's. Raises NotMeasurable."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise NotMeasurable(f"{name} is not installed; it comes with {package}")
    return found


def free_port() -> int:
    """A port that nobody listens on, for servers that cannot pick one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A server, ended with its children when the block is left."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment or clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def wait_for_http(process: subprocess.Popen[str], port: int, path: str = "/") -> None:
    """Return once a GET is answered, whatever the status. Raises NotMeasurable when the server ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotMeasurable(f"{process.args!r} ended with {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.002)
        else:
            return
        finally:
            connection.close()
    raise NotMeasurable(f"{process.args!r} does not answer on port {port}")


def tree_memory(pid: int) -> dict[str, float]:
    """Memory of a process and its descendants in MB: `rss` with shared pages in each, `pss` with them once.

    Source: /proc/PID/smaps_rollup, Linux. Raises NotMeasurable elsewhere.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise NotMeasurable("memory is read from /proc/PID/smaps_rollup, which this system has not")
    total = {"rss": 0.0, "pss": 0.0}
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split()[:2]
            if name in ("Rss:", "Pss:"):
                total[name[:3].lower()] += int(value) / 1024
    return total


def peak_memory(pid: int) -> float:
    """The most resident memory that a process and its descendants ever had, in MB, each at a moment of its own.

    Source: VmHWM of /proc/PID/status, Linux. Raises NotMeasurable elsewhere.
    """
    if not Path("/proc/self/status").exists():
        raise NotMeasurable("memory is read from /proc/PID/status, which this system has not")
    total = 0.0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) / 1024
    return total


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        # The name, in parentheses, may hold anything; what follows it is numbers.
        parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def say(text: str) -> None:
    """Progress, on stderr: stdout holds the table alone."""
    print(text, file=sys.stderr, flush=True)
