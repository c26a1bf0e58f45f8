"""What the documents say exists: tasks, files, variables."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.loader import FilesystemLoader

from tests.conftest import Emulator

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "emulator/services/*/README.md")
    for page in ROOT.glob(pattern)
)


@cache
def tasks() -> set[str]:
    """Every name under which a task can be called."""
    module, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    collection = Collection.from_module(module)
    names = set(collection.task_names)
    return names | {alias for aliases in collection.task_names.values() for alias in aliases}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_names_only_tasks_that_exist(page: Path) -> None:
    named = re.findall(r"(?:`|^    |\$\(|bin/)inv ([a-z][\w.]*)", page.read_text(), re.MULTILINE)
    assert set(named) <= tasks()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_links_only_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_names_only_files_of_the_tree_that_exist(page: Path) -> None:
    """Paths in backticks that begin with one of our folders; <placeholders>, patterns and modules with -m aside."""
    folders = "|".join(("benchmarks", "cloudbuild", "config", "constraints", "docs", "emulator", "ml", "ops", "tests"))
    named = re.findall(rf"`((?:{folders})/[\w./-]*\w(?:/|\.\w+))`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_clients_page_explains_every_variable_that_is_exported(emulator: Emulator) -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    # Named as a family: gcloud's own switches against questions and updates.
    quiet = {name for name in emulator.variables if re.match(r"CLOUDSDK_.*(DISABLE)", name)}
    missing = {name for name in emulator.variables if name not in page} - quiet
    assert missing == set()


def test_changelog_has_an_unreleased_section_first() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
