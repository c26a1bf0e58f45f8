"""What looks after the repository and the machine."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.errors import OpsError, readable_errors
from ops.tasks.options import ENV

#: Each half has an emulator of its own.
_SIDE_BY_SIDE = ("--numprocesses", "2", "--dist", "loadfile")
_TESTS = {"select": "only tests whose name matches, as pytest's -k", "path": "files or folders, comma-separated"}


@task(help={"env": ENV})
def doctor(c: Context, env: str = "local") -> None:
    """Say what is wrong with this machine or shell for each client, and how to mend it."""
    with readable_errors():
        from ops.config import load_config
        from ops.doctor import examine

        findings = list(examine(load_config(env)))
        print("\n".join(map(str, findings)))
        if any(finding.level == "wrong" for finding in findings):
            raise Exit(code=1)


@task
def check(c: Context) -> None:
    """Run what pre-commit and CI run: style, types, who imports whom, YAML, secrets."""
    with readable_errors():
        from ops.checks import run_checks
        from ops.progress import Report

        failed = run_checks(Report())
        if failed:
            raise OpsError(f"found something: {', '.join(failed)}")


@task(help=_TESTS)
def test(c: Context, select: str = "", path: str = "") -> None:
    """Run the tests, loads and soaks excepted; all of them two files at a time."""
    _pytest(select, path, *(() if select or path else _SIDE_BY_SIDE))


@task(help=_TESTS)
def test_long(c: Context, select: str = "", path: str = "") -> None:
    """Run the loads, soaks and kill rounds."""
    _pytest(select, path, "-m", "long")


@task(help={"name": "one benchmark; without it all of them"})
def bench(c: Context, name: str = "") -> None:
    """Measure the emulator beside its peers."""
    with readable_errors():
        _python_module("benchmarks", *([name] if name else []))


def _pytest(select: str, path: str, *options: str) -> None:
    with readable_errors():
        chosen = ["-k", select] if select else []
        _python_module("pytest", *options, *chosen, *filter(None, path.split(",")))


def _python_module(module: str, *arguments: str) -> None:
    """Run a module of this environment in place of this process's own ending."""
    import subprocess

    from ops.config import ROOT

    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise Exit(code=done.returncode)
