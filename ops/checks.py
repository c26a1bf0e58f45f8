"""What pre-commit and CI run, as one list: style, types, who imports whom, YAML, secrets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops import secrets_scan
from ops.config import ROOT
from ops.errors import OpsError
from ops.progress import Report


@dataclass(frozen=True)
class Check:
    """One check: gives back what it has to say, empty when all is well."""

    name: str
    run: Callable[[], str]


def _program(name: str, *arguments: str) -> Callable[[], str]:
    """A program of this environment; its output when it fails."""

    def run() -> str:
        program = Path(sys.executable).parent / name
        if not program.exists():
            raise OpsError(f"{name} is not installed; run: make setup")
        done = subprocess.run(
            [str(program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        return (done.stdout + done.stderr).strip() if done.returncode else ""

    return run


def _yaml() -> str:
    """yamllint over the YAML files that git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.yaml", "*.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    files = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return _program("yamllint", "--strict", *files)() if files else ""


def _secrets() -> str:
    return "\n".join(str(leak) for leak in secrets_scan.scan())


CHECKS = (
    Check("style (ruff)", _program("ruff", "check", "--quiet")),
    Check("form (ruff format)", _program("ruff", "format", "--check", "--quiet")),
    Check("imports (lint-imports)", _program("lint-imports")),
    Check("YAML (yamllint)", _yaml),
    Check("secrets", _secrets),
    Check("types (mypy)", _program("mypy")),
)


def run_checks(report: Report) -> list[str]:
    """Names of the checks that found something, after saying what."""
    failed = []
    for check in CHECKS:
        with report.step(check.name) as step:
            said = check.run()
            step.failed = bool(said)
        if said:
            failed.append(check.name)
            print(said, file=sys.stderr)
    return failed
