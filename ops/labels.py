"""Labels that `ops` puts on what it makes: who owns it, and from what it was made."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from ops.config import ROOT, Config

ENVIRONMENT = "selfloop-environment"
"""marks what a configuration owns; only such resources are ever deleted"""
CODE = "selfloop-code"
TRAINING = "selfloop-training"
DATA = "selfloop-data"
RUN = "selfloop-run"
"""run of an experiment, on the training pipeline that it is of"""
PIPELINE = "selfloop-pipeline"
"""of a run: key under pipelines"""
COMMIT = "git-commit"
DIRTY = "git-dirty"

GIT_SECONDS = 10


def owned(config: Config, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels a resource is declared with, and the mark of its owner."""
    return {**labels, ENVIRONMENT: config.environment}


def owner_filter(config: Config) -> str:
    """The list filter that finds what a configuration owns."""
    return f"labels.{ENVIRONMENT}={config.environment}"


def provenance() -> dict[str, str]:
    """Commit of the working tree and whether it was changed since; nothing outside a git repository."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {COMMIT: commit, DIRTY: str(bool(_git("status", "--porcelain"))).lower()}


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
