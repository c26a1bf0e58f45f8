"""The rules of the tree: who imports whom, and what a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Read at generation time only; their import costs seconds (docs/decisions/0001).
GENERATORS = {Path("emulator/core/gapic.py"), Path("emulator/core/discovery.py"), Path("emulator/core/generate.py")}
LONGEST_MODULE = 500
# Names that say nothing of what a module holds.
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "lib", "base", "shared", "manager"}
# The prebuilt training image has these and Python 3.10.
ML_PACKAGES = {"ml", "numpy", "pandas", "sklearn", "joblib", "threadpoolctl"}
# Members of the standard library that Python 3.10 has not.
SINCE_3_11 = {
    ("datetime", "UTC"), ("enum", "StrEnum"), ("enum", "verify"), ("typing", "Self"), ("typing", "LiteralString"),
    ("typing", "Never"), ("typing", "assert_never"), ("typing", "Required"), ("typing", "NotRequired"),
    ("typing", "override"), ("asyncio", "TaskGroup"), ("asyncio", "timeout"), ("contextlib", "chdir"),
    ("itertools", "batched"), ("hashlib", "file_digest"), ("tomllib", ""),
}  # fmt: skip


def modules(*folders: str) -> list[Path]:
    """Python files below folders, relative to the root."""
    return sorted(file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def syntax_tree(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), str(module))


def imports(module: Path) -> Iterator[tuple[str, str]]:
    """Each import anywhere in a module: (module, name), the name empty for `import x`. Relative ones resolved."""
    package = module.parent.parts
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


def imported_modules(module: Path) -> set[str]:
    """Full names of what a module imports, as `package` and as `package.name`."""
    return {full for base, name in imports(module) for full in (base, f"{base}.{name}" if name else base)}


def test_import_contracts_of_pyproject_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["core", "services", "runners"])
def test_emulator_imports_no_client_package_of_google(folder: str) -> None:
    wrong = {
        f"{module}: {name}"
        for module in modules(f"emulator/{folder}")
        if module not in GENERATORS
        for name in imported_modules(module)
        if name.startswith(("google.cloud", "googleapiclient", "google.genai"))
    }
    assert not wrong


def test_running_emulator_loads_no_client_package_of_google() -> None:
    """What the syntax does not show: an import made by one of our dependencies."""
    script = (
        "import emulator.app, sys;"
        "print([name for name in sys.modules if name.startswith(('google.cloud.', 'googleapiclient', 'vertexai'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_services_do_not_import_one_another() -> None:
    wrong = set()
    for module in modules("emulator/services"):
        own = ".".join(module.parts[:3]).removesuffix(".py")
        for name in imported_modules(module):
            if name.startswith("emulator.services.") and not (name == own or name.startswith(f"{own}.")):
                wrong.add(f"{module}: {name}")
    assert not wrong


def test_only_the_table_of_contents_imports_the_tasks() -> None:
    wrong = {
        f"{module}: {name}"
        for module in modules("ops")
        if module.parts[1] != "tasks"
        for name in imported_modules(module)
        if name == "ops.tasks" or name.startswith("ops.tasks.")
    }
    assert not wrong


def test_ml_imports_only_what_the_training_image_has() -> None:
    allowed = ML_PACKAGES | sys.stdlib_module_names
    wrong = {
        f"{module}: {name}"
        for module in modules("ml")
        if module.parts[1] != "pipelines"
        for name in imported_modules(module)
        if name.partition(".")[0] not in allowed
    }
    assert not wrong


def test_ml_is_python_3_10() -> None:
    wrong = set()
    for module in modules("ml"):
        if module.parts[1] == "pipelines":
            continue
        ast.parse((ROOT / module).read_text(), str(module), feature_version=(3, 10))
        wrong |= {f"{module}: {name}" for name in imports(module) if name in SINCE_3_11}
        for node in ast.walk(syntax_tree(module)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in SINCE_3_11:
                    wrong.add(f"{module}:{node.lineno}: {node.value.id}.{node.attr}")
            elif node.__class__.__name__ == "TryStar":
                wrong.add(f"{module}: except*")
    assert not wrong


@pytest.mark.parametrize("module", modules("emulator", "ops", "ml"), ids=str)
def test_module_is_short_and_named_by_what_it_holds(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= LONGEST_MODULE
    assert module.stem not in EMPTY_NAMES


@pytest.mark.parametrize("module", modules("emulator", "ops", "ml", "benchmarks"), ids=str)
def test_module_begins_with_a_docstring(module: Path) -> None:
    if (ROOT / module).read_text().strip():
        assert ast.get_docstring(syntax_tree(module))


def test_nothing_evaluates_text_or_opens_a_shell() -> None:
    """What a reader must not have to look for: eval, exec, a shell, an unsafe YAML loader."""
    wrong = set()
    for module in [*modules("emulator", "ops", "ml", "benchmarks"), Path("tasks.py")]:
        if not (ROOT / module).exists():
            continue
        for node in ast.walk(syntax_tree(module)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            shell = any(keyword.arg == "shell" and ast.unparse(keyword.value) != "False" for keyword in node.keywords)
            if called in {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load"} or shell:
                wrong.add(f"{module}:{node.lineno}: {called}")
    assert not wrong


def test_decisions_are_numbered_without_gaps_and_say_their_status() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        assert headings[:3] == ["## Context", "## Decision", "## Consequences"], page.name
        assert "\nStatus: " in text, page.name
