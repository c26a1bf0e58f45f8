"""Images of one's own, for which `emulator.image_table` names what runs in their place."""

from __future__ import annotations

import sys

from emulator.core.interfaces import ExitReason
from emulator.settings import SandboxLevel, StandIn
from tests.emulator.runners.conftest import MakeRuntime

IMAGE = "us-central1-docker.pkg.dev/project/repository/trainer:v1"
NAME = IMAGE.removesuffix(":v1")


def test_image_runs_in_an_environment_of_the_emulator(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, image_table={NAME: StandIn("sklearn-cpu.1-6")})
    assert runtime.runner.check_image(IMAGE) is None
    job = runtime.run(runtime.container("python3", "-c", "import sklearn; print(sklearn.__version__)", image=IMAGE))
    assert job.lines[-1].text == "1.6.1", job.text


def test_image_runs_with_a_python_of_the_user_s(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(level, image_table={NAME: StandIn(python=sys.executable)})
    assert runtime.runner.check_image(IMAGE) is None
    source = "import sys, google.protobuf; print(google.protobuf.__file__.startswith(sys.argv[1]))"
    job = runtime.run(runtime.container("python3", "-c", source, sys.prefix, image=IMAGE))
    assert job.lines[-1].text == "True", job.text
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]} of {sys.prefix}" in job.text


def test_entrypoint_stands_in_for_a_command(level: SandboxLevel, make_runtime: MakeRuntime) -> None:
    entry = StandIn("sklearn-cpu.1-6", entrypoint=("python3", "-c", "import sys; print(sys.argv[1:])"))
    runtime = make_runtime(level, image_table={NAME: entry})
    assert runtime.run(runtime.container(image=IMAGE, args=("--epochs=3",))).lines[-1].text == "['--epochs=3']"
    named = runtime.run(runtime.container("echo", "own", image=IMAGE, args=("command",)))
    assert named.lines[-1].text == "own command"


def test_image_without_a_command_is_a_failed_start(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime("none", image_table={NAME: StandIn("sklearn-cpu.1-6")})
    result = runtime.run(runtime.container(image=IMAGE)).result
    assert result.reason is ExitReason.START_FAILED
    assert "an entrypoint in emulator.image_table" in result.message


def test_entry_that_cannot_be_used_says_so_at_once(make_runtime: MakeRuntime) -> None:
    table = {NAME: StandIn("sklearn-cpu.9-9"), "other": StandIn(python="/no/python")}
    runtime = make_runtime("none", image_table=table)
    assert "There is no environment sklearn-cpu.9-9; there are " in str(runtime.runner.check_image(IMAGE))
    assert "/no/python of emulator.image_table cannot be run" in str(runtime.runner.check_image("other:latest"))
    assert "emulator.image_table in config can name" in str(runtime.runner.check_image("gcr.io/none"))
