"""The tasks as people run them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ops.config import ROOT


def inv(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A task run from the repository's folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | variables
    command = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_listing_tasks_imports_nothing_heavy() -> None:
    heavy = ("google.auth", "google.protobuf", "grpc", "pydantic", "rich", "ruamel.yaml", "numpy", "sklearn")
    code = f"import sys, tasks; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "doctor", "init", "check", "test", "test.long", "bench", "plan", "apply", "config.show", "config.schema",
        "train", "deploy", "predict", "model.list", "model.describe", "model.endpoint", "model.remove", "model.train",
        "model.deploy", "endpoint.status", "endpoint.test", "loop", "data.seed", "data.import",
        "emulator.up", "emulator.down", "emulator.status", "emulator.env", "emulator.exec",
        "emulator.logs", "emulator.reset", "emulator.snapshot", "emulator.restore", "emulator.advance",
        "emulator.coverage", "emulator.journal",
    ],
)  # fmt: skip
def test_the_promised_tasks_exist_and_have_a_help(name: str) -> None:
    import tasks

    found = tasks.ns[name]
    assert (found.__doc__ or "").strip()


def test_every_option_is_explained_and_every_number_is_one() -> None:
    import tasks

    numbers = {"timeout", "rows", "seed", "limit", "lines", "hours", "seconds"}
    # A task may have two names; invoke hands out its help once.
    for name, body in {id(tasks.ns[name]): (name, tasks.ns[name]) for name in tasks.ns.task_names}.values():
        for argument in body.get_arguments():
            # invoke takes an option's type from its default: behind None every value is text.
            assert argument.help, f"{name} --{argument.name}"
            assert argument.name not in numbers or argument.kind in {int, float}, f"{name} --{argument.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config.show", "--env", "devv"), "config/devv.yaml does not exist; environments: dev, local, prod, staging"),
        (("plan", "--output", "xml"), "--output xml is not known; write one of: text, json, markdown"),
        (("endpoint.test", "no-such-file"), "no-such-file is neither JSON nor a file"),
        (("emulator.advance",), "say how far"),
    ],
)
def test_a_mistake_is_one_line_on_standard_error(arguments: tuple[str, ...], message: str) -> None:
    done = inv(*arguments, SELFLOOP_STATE="/nonexistent")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_config_show_prints_the_project_that_a_variable_names() -> None:
    done = inv("config.show", "--output", "json", SELFLOOP_PROJECT="another-project")
    assert '"project": "another-project"' in done.stdout
