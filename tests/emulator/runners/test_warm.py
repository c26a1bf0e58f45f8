"""Interpreters that wait for a component: what a component finds in one, and that each has one to itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.core.interfaces import ExitReason
from tests.conftest import wait_until
from tests.emulator.runners.conftest import BUCKET, Job, MakeRuntime, Runtime, require_full
from tests.emulator.runners.test_component_command import command

IMAGE = "python:3.11"
HEAD = "from kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n"


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    require_full()
    made = make_runtime("full")
    # The first component makes others wait for the next.
    assert run(made, "def step() -> str:\n    return 'first'").result.succeeded
    wait_until(lambda: warm(made) > 0)
    return made


def warm(runtime: Runtime) -> int:
    return sum(len(found) for found in runtime.runner.warm._waiting.values())


def run(runtime: Runtime, function: str, **more: Any) -> Job:
    """A component with the output parameter `Output`; its ExecutorInput names the file."""
    given = {"outputs": {"outputFile": f"/gcs/{BUCKET}/out.json", "parameters": {"Output": {"outputFile": "/x/y"}}}}
    words = command()
    words[-1] = HEAD + function
    args = ("--executor_input", json.dumps(given), "--function_to_execute", "step")
    return runtime.run(runtime.container(*words, image=IMAGE, args=args, **more))


def output(runtime: Runtime) -> Any:
    written = (runtime.objects.tree / BUCKET / "out.json").read_text()
    return json.loads(written)["parameterValues"]["Output"]


def test_component_finds_what_it_would_find_in_a_sandbox_of_its_own(runtime: Runtime) -> None:
    before = warm(runtime)
    function = (
        "def step() -> dict:\n    import os, socket, sys\n"
        "    os.makedirs('/tmp/mine'); open('/tmp/mine/file', 'w').close()\n"
        "    with socket.create_connection(('127.0.0.1', int(os.environ['HTTPS_PROXY'].rpartition(':')[2]))) as one:\n"
        "        caller = one.recv(100).decode()\n"
        "    return {'colour': os.environ['COLOUR'], 'caller': caller, 'cwd': os.getcwd(), 'uid': os.getuid(),\n"
        "            'argv': sys.argv[0].rpartition('/')[2], 'kfp': os.environ['_KFP_RUNTIME'],\n"
        "            'host': socket.gethostbyname(os.environ['HOSTNAME']),\n"
        "            'open': sorted(os.listdir('/proc/self/fd'))[:3], 'home': os.environ['HOME'],\n"
        "            'processes': len([one for one in os.listdir('/proc') if one.isdigit()])}"
    )
    job = run(runtime, function, env={"COLOUR": "red", "HOSTNAME": "cmle-training-workerpool0-x-0"})
    assert job.result.succeeded, job.text
    found = output(runtime)
    assert found["caller"] == "customJobs/1/workerpool0-0"
    assert (found["colour"], found["cwd"], found["uid"], found["home"]) == ("red", "/", 0, "/root")
    assert (found["argv"], found["kfp"], found["host"]) == ("executor_main.py", "true", "127.0.0.1")
    assert found["processes"] <= 3
    assert before > 0


def test_component_finds_nothing_of_the_one_before(runtime: Runtime) -> None:
    leave = "def step() -> str:\n    open('/tmp/left', 'w').close(); open('/root/left', 'w').close()\n    return 'left'"
    look = "def step() -> list:\n    import os\n    return os.listdir('/tmp') + os.listdir('/root')"
    assert run(runtime, leave).result.succeeded
    assert run(runtime, look).result.succeeded
    assert not [name for name in output(runtime) if "left" in name]


def test_component_that_fails_says_why(runtime: Runtime) -> None:
    job = run(runtime, "def step() -> str:\n    print('before'); raise SystemError('it broke')")
    assert (job.result.exit_code, job.result.reason) == (1, ExitReason.EXITED)
    assert "SystemError: it broke" in job.result.stderr_tail
    assert "before" in job.text


def test_variable_that_is_read_at_the_start_gets_an_interpreter_of_its_own(runtime: Runtime) -> None:
    function = "def step() -> bool:\n    import sys\n    return bool(sys.flags.utf8_mode)"
    assert run(runtime, function, env={"PYTHONUTF8": "1"}).result.succeeded
    assert output(runtime) is True


def test_interpreter_that_has_gone_is_made_up_for(runtime: Runtime) -> None:
    for found in runtime.runner.warm._waiting.values():
        for one in found:
            one.process.kill()
    assert run(runtime, "def step() -> str:\n    return 'still'").result.succeeded
    assert output(runtime) == "still"


def test_component_is_stopped_at_its_timeout(runtime: Runtime) -> None:
    job = run(runtime, "def step() -> str:\n    import time; time.sleep(60)\n    return ''", timeout_seconds=1.0)
    assert job.result.reason is ExitReason.TIMED_OUT


def test_none_is_left_when_the_runner_closes(runtime: Runtime, tmp_path: Path) -> None:
    waiting = [one for found in runtime.runner.warm._waiting.values() for one in found]
    runtime.runner.close()
    assert waiting
    assert not [one for one in waiting if one.sandbox.scratch.exists() or one.process.is_alive]
