from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks import calls, measure, setup_size
from benchmarks.__main__ import main
from benchmarks.emulator_process import started_emulator
from tests.conftest import wait_until


def _subject(name: str, **values: list[float]) -> measure.Subject:
    return measure.Subject(name, dict, dict(values))


def test_table_shows_medians_and_ratios_to_the_peer() -> None:
    ours, theirs = _subject("ours", time=[3, 1, 2], calls=[10]), _subject("theirs", time=[8, 4, 4])
    lines = measure.table([ours, theirs], {"ours": "theirs"}, {"time": "{:.1f} s", "calls": "{:.0f}"}).splitlines()
    assert lines == [
        "| | time | calls |",
        "|---|---|---|",
        "| ours | 2.0 s (0.50x) | 10 |",
        "| theirs | 4.0 s |  |",
    ]


def test_take_turns_alternates_subjects() -> None:
    order: list[str] = []

    def run_of(name: str) -> measure.Subject:
        return measure.Subject(name, lambda: order.append(name) or {"value": len(order)})  # type: ignore[func-returns-value]

    subjects = [run_of("a"), run_of("b")]
    measure.take_turns(subjects, runs=3)
    assert order == ["a", "b"] * 3
    assert subjects[1].values == {"value": [2, 4, 6]}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_tree_memory_counts_what_a_grandchild_holds() -> None:
    grandchild = "held = b'x' * 200_000_000; print(flush=True); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(measure.tree(process.pid)) == 2
        memory = measure.tree_memory(process.pid)
        process.communicate(b"\n", timeout=30)
    assert 200 < memory["rss"] < 300
    assert memory["pss"] <= memory["rss"]


def test_running_ends_a_server_when_the_block_is_left() -> None:
    with measure.running([sys.executable, "-c", "input()"]) as process:
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wait_for_http_says_when_the_server_ended() -> None:
    with (
        measure.running([sys.executable, "-c", "raise SystemExit(3)"]) as process,
        pytest.raises(measure.NotMeasurable, match="ended with 3"),
    ):
        measure.wait_for_http(process, measure.free_port())


def test_program_that_is_absent_is_named_with_its_package() -> None:
    with pytest.raises(measure.NotMeasurable, match="no-such-program is not installed; it comes with a-package"):
        measure.program("no-such-program", "a-package")


def test_disk_use_counts_a_hard_link_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    size, files = setup_size.disk_use(tmp_path)
    assert size == pytest.approx(1, rel=0.01)
    assert files == 1


def test_calls_measure_answers_of_the_emulator_and_not_errors() -> None:
    with tempfile.TemporaryDirectory() as folder, calls.target(Path(folder)) as made:
        assert made.name.encode() in made.message
        assert f'"{made.name}"'.encode() in made.document


def test_started_emulator_is_gone_afterwards(tmp_path: Path) -> None:
    with started_emulator(tmp_path) as emulator:
        members = measure.tree(emulator.process.pid)
        assert emulator.variables()["https_proxy"] == f"http://127.0.0.1:{emulator.port}"
    wait_until(lambda: not any(Path(f"/proc/{member}").exists() for member in members))


def test_main_of_an_unknown_benchmark_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 1
    assert "there is no benchmark nothing; there are: tasks_list, start_and_idle" in capsys.readouterr().err
