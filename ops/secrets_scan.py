"""Secrets that must not be committed: keys and tokens whose form is known.

A scan of our own, because the known scanners bring a service, a baseline file or no release in years. It looks at
what git tracks and what it would add, and names file and line, never the secret.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.config import ROOT
from ops.errors import OpsError

# Sources: the issuers' own descriptions of their formats. Pieces are put together so that this file has none.
PATTERNS = {
    "a private key": re.compile(
        r"-----BEGIN (?:RSA |EC |OPENSSH |ENCRYPTED )?PRIVATE " + r"KEY-----\s*[\\nA-Za-z0-9+/]{32}"
    ),
    "a Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a Google OAuth token": re.compile(r"\bya29\.[0-9A-Za-z_-]{30,}"),
    "a Google OAuth client secret": re.compile(r"\bGOCSPX-[0-9A-Za-z_-]{28}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{40,})"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
}
LARGEST_BYTES = 2_000_000


@dataclass(frozen=True)
class Leak:
    """A line that looks like a secret."""

    file: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: holds what looks like {self.what}; take it out and revoke it"


def scan(root: Path = ROOT) -> Iterator[Leak]:
    """What the files of a git repository hold.

    Raises OpsError when it is none.
    """
    for name in _files(root):
        path = root / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # not text: no secret of these forms is written in it
        yield from leaks(text, Path(name))


def leaks(text: str, file: Path) -> Iterator[Leak]:
    """What one text holds, in the order of its lines."""
    found = ((match.start(), what) for what, pattern in PATTERNS.items() for match in pattern.finditer(text))
    for start, what in sorted(found):
        yield Leak(file, text.count("\n", 0, start) + 1, what)


def _files(root: Path) -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        raise OpsError(f"{root} is no git repository, so there is no list of files to scan") from None
    return [name for name in listed.stdout.split("\0") if name]
