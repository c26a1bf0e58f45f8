"""The command of a Python component, and what of it is left to do in an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.runners.component_command import is_met, recognise
from emulator.runners.environments import Environment

PREPARE = (
    '\nif ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || '
    "apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet "
    '--no-warn-script-location {} && "$0" "$@"\n'
)
KFP = "'kfp==2.16.1' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'"
RUN = (
    'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
    "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path"
    '                         "$program_path/ephemeral_component.py"                         "$@"\n'
)
ARGS = ("--executor_input", "{}", "--function_to_execute", "add")


def command(installs: str = KFP, run: str = RUN) -> list[str]:
    return ["sh", "-c", PREPARE.format(installs), "sh", "-ec", run, "source"]


def compiled(**fields: Any) -> Any:
    """The container that this very kfp compiles a function to."""
    from kfp import dsl

    @dsl.component(base_image="python:3.11", **fields)
    def add():  # type: ignore[no-untyped-def]  # it reads annotations, and these are texts here
        print("added")

    return add.component_spec.implementation.container


def test_command_of_this_kfp_is_recognised() -> None:
    container = compiled(packages_to_install=["pandas>=2,<3", "scikit-learn"])
    found = recognise(container.command, ARGS)
    assert found is not None
    assert found.requirements[:3] == ("pandas>=2,<3", "scikit-learn", "kfp==2.16.1")
    assert "def add():" in found.source
    assert found.command == ("sh", "-ec", container.command[5], found.source, *ARGS)


@pytest.mark.parametrize(
    "other",
    [
        ["python3", "-c", "pass"],
        command(run=RUN + "rm -rf /"),
        command(f"'--index-url' 'https://example.com' {KFP}"),
        command(f"{KFP} && curl https://example.com"),
        command("'unbalanced"),
        [*command(), "more"],
    ],
)
def test_any_other_command_is_left_as_it_is(other: list[str]) -> None:
    assert recognise(other, ARGS) is None


def test_index_of_its_own_is_asked() -> None:
    assert recognise(compiled(pip_index_urls=["https://example.com/simple"]).command, ARGS) is None


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, version in (("kfp", "2.16.1"), ("Scikit_Learn", "1.6.1"), ("numpy", "2.0.0rc1")):
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return Environment(tmp_path, tmp_path / "bin" / "python", "3.11")


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("kfp==2.16.1", True),
        ("kfp==2.16.0", False),
        ("scikit-learn", True),
        ("scikit.learn>=1.5,<2", True),
        ("scikit-learn[tests]", False),
        ("pandas", False),
        ("numpy>=2.0.0rc1", True),
        ('typing-extensions>=3.7.4,<5; python_version<"3.9"', True),
        ("kfp @ https://example.com/kfp.whl", False),
        ("git+https://example.com/kfp.git", False),
        ("./local", False),
    ],
)
def test_requirement_is_met_or_not(environment: Environment, requirement: str, met: bool) -> None:
    assert is_met([requirement], environment) is met
