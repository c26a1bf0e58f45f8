"""One emulator as a whole: starting, a second one, dying, coming back, being copied and emptied."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Emulator, wait_until

Start = Callable[..., Emulator]


def _serve(*options: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run an emulator that is expected not to start."""
    return subprocess.run(
        [sys.executable, "-m", "emulator", "serve", *options],
        cwd=ROOT,
        env=os.environ | extra,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_second_emulator_on_the_same_state_says_that_one_is_running(new_emulator: Start) -> None:
    first = new_emulator()
    sentence = _one_line(_serve("--state", str(first.state), SELFLOOP_PORT="0"))
    assert "an emulator is running" in sentence
    assert str(first.port) in sentence


def test_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        sentence = _one_line(_serve("--state", str(tmp_path / "state"), SELFLOOP_PORT=port))
    assert port in sentence
    assert "SELFLOOP_PORT=0" in sentence


def test_state_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    assert "SELFLOOP_STATE" in _one_line(_serve("--state", str(tmp_path / "state"), SELFLOOP_PORT="0"))


def test_state_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state" / "emulator.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    sentence = _one_line(_serve("--state", str(tmp_path / "state"), SELFLOOP_PORT="0"))
    assert "format 999, newer than this emulator's" in sentence


def test_unknown_sandbox_level_is_one_clear_line(tmp_path: Path) -> None:
    sentence = _one_line(_serve("--state", str(tmp_path / "state"), SELFLOOP_SANDBOX="half", SELFLOOP_PORT="0"))
    assert "half" in sentence


def test_projects_tokens_and_clock_survive_kill_nine(new_emulator: Start, parent: str) -> None:
    from google.cloud import resourcemanager_v3

    first = new_emulator()
    number = _project_number(first, resourcemanager_v3, "a-project-of-mine")
    first.control("POST", "clock", {"advance_seconds": 48 * 3600})
    token = first.token
    first.stop(signal.SIGKILL)

    second = new_emulator(state=first.state)
    assert _project_number(second, resourcemanager_v3, "a-project-of-mine") == number
    assert second.control("GET", "clock")["offset_seconds"] == 48 * 3600
    health = second.control("GET", "health")
    assert health["pid"] == second.process.pid
    (second.state / "token").write_text(token)  # an old one is as good as a new one
    assert second.control("GET", "journal?limit=1")["calls"]


def test_clock_only_moves_forward(new_emulator: Start) -> None:
    import urllib.error

    emulator = new_emulator()
    with pytest.raises(urllib.error.HTTPError) as raised:
        emulator.control("POST", "clock", {"advance_seconds": -1})
    with raised.value as answer:
        assert "only moves forward" in json.load(answer)["error"]["message"]


def test_snapshot_is_restored_after_a_reset(new_emulator: Start) -> None:
    emulator = new_emulator()
    bucket = "kept-in-a-snapshot"
    _storage(emulator, "buckets", "create", f"gs://{bucket}")
    emulator.control("POST", "snapshots", {"name": "before"})
    assert [snapshot["name"] for snapshot in emulator.control("GET", "snapshots")["snapshots"]] == ["before"]

    _restart(emulator, "reset")
    assert bucket not in _storage(emulator, "buckets", "list", "--format=value(name)")
    _restart(emulator, "snapshots/before/restore")
    assert bucket in _storage(emulator, "buckets", "list", "--format=value(name)")


def test_snapshot_of_a_bad_name_is_refused(new_emulator: Start) -> None:
    import urllib.error

    emulator = new_emulator()
    with pytest.raises(urllib.error.HTTPError) as raised:
        emulator.control("POST", "snapshots", {"name": "../outside"})
    raised.value.close()
    assert raised.value.code == 400


def test_two_hundred_clients_at_once_are_all_answered(emulator: Emulator) -> None:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(number: int) -> int:
        with opener.open(f"{emulator.address}/emulator/health?client={number}", timeout=60) as answer:
            return int(answer.status)

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(400))) == [200] * 400


def test_command_in_isolation_reaches_the_emulator_and_nothing_else(emulator: Emulator) -> None:
    from tests.conftest import require_program

    require_program("bwrap")
    curl = require_program("curl")
    command = [sys.executable, "-m", "emulator", "isolated", "--port", str(emulator.port), "--", curl, "-sS"]

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    inside = ask(f"{emulator.address}/emulator/health")
    assert json.loads(inside.stdout)["status"] == "ok"
    with socket.create_server(("127.0.0.1", 0)) as outside:
        address = f"http://127.0.0.1:{outside.getsockname()[1]}"
        refused = ask("--noproxy", "*", address)
    assert refused.returncode == 7, refused.stderr  # curl: failed to connect


def _project_number(emulator: Emulator, resourcemanager: Any, project: str) -> str:
    client = emulator.client(resourcemanager.ProjectsClient, "rest")
    with emulator.exported():
        return str(client.get_project(name=f"projects/{project}").name)


def _storage(emulator: Emulator, *arguments: str) -> str:
    from tests.conftest import require_program

    result = emulator.run(require_program("gcloud"), "storage", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def _restart(emulator: Emulator, path: str) -> None:
    """Have the emulator begin anew, and wait for the next of its lives."""
    before = emulator.control("GET", "health")["started"]
    assert emulator.control("POST", path, {}) == {"restarting": True}

    def is_back() -> bool:
        try:
            return bool(emulator.control("GET", "health")["started"] != before)
        except OSError:
            return False

    wait_until(is_back)
