"""How environments are made and found again."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulator.runners import environments, package_index
from emulator.runners.environments import Environments
from emulator.runners.images import NoEnvironment

NAME = "sklearn-cpu.1-6"


class CountedUv:
    """Stands for uv: lays the folder that it would make, and counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fails = False

    def __call__(self, *arguments: str) -> None:
        self.calls.append(arguments)
        if self.fails:
            raise NoEnvironment("uv could not make the environment: no such version")
        if arguments[0] == "venv":
            Path(arguments[-1]).mkdir(parents=True)


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> CountedUv:
    counted = CountedUv()
    monkeypatch.setattr(Environments, "_uv", staticmethod(counted))
    monkeypatch.setattr(Environments, "_fetch_wheels", lambda *_: None)
    return counted


def test_environment_is_made_once_for_all(tmp_path: Path, uv: CountedUv) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Environments(tmp_path).named(NAME), range(4)))
    assert len(set(made)) == 1
    assert [call[0] for call in uv.calls] == ["venv", "pip", "pip"]
    assert made[0].root.parent == tmp_path


def test_making_is_told_and_finding_is_not(tmp_path: Path, uv: CountedUv) -> None:
    said: list[str] = []
    Environments(tmp_path).named(NAME, said.append)
    assert "Making the environment sklearn-cpu.1-6: Python 3" in said[0]
    said.clear()
    Environments(tmp_path).named(NAME, said.append)
    assert said == []


def test_half_made_environment_is_made_anew(tmp_path: Path, uv: CountedUv) -> None:
    uv.fails = True
    with pytest.raises(NoEnvironment, match="no such version"):
        Environments(tmp_path).named(NAME)
    uv.fails = False
    root = Environments(tmp_path).named(NAME).root
    (root / "selfloop.json").unlink()
    (root / "left").touch()
    assert not (Environments(tmp_path).named(NAME).root / "left").exists()


def test_environment_of_a_python_that_is_gone_is_made_anew(tmp_path: Path, uv: CountedUv) -> None:
    done = Environments(tmp_path).named(NAME).root / "selfloop.json"
    done.write_text(json.dumps({"interpreter": str(tmp_path / "python3.11")}))
    Environments(tmp_path).named(NAME)
    assert [call[0] for call in uv.calls] == ["venv", "pip", "pip"] * 2


def test_changed_requirements_are_another_environment(
    tmp_path: Path, uv: CountedUv, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints = tmp_path / "images.txt"
    constraints.write_text("pip==1\n")
    monkeypatch.setattr(environments, "_CONSTRAINTS", tmp_path)
    first = Environments(tmp_path).named(NAME)
    constraints.write_text("pip==2\n")
    assert Environments(tmp_path).named(NAME).root != first.root


def test_offline_failure_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(NoEnvironment, match=r"emulator\.egress in config: add package-index"):
        Environments(tmp_path / "environments", offline=True).named(NAME)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoEnvironment, match="file/environments cannot be written"):
        Environments(tmp_path / "file" / "environments").named(NAME)


def test_own_interpreter_is_found_without_a_search() -> None:
    python = environments.find_python(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert python == environments.own().interpreter
    assert environments.find_python("2.0") is None


def test_uv_gets_the_index_that_pip_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = {
        "index-url": "https://index.example/simple",
        "extra-index-url": "https://more.example/simple",
        "find-links": "/a /b",
    }
    monkeypatch.setattr(package_index, "pip_settings", lambda: pip)
    monkeypatch.setattr(package_index, "_UV_FILES", ())
    variables = package_index.uv_variables({"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root"})
    assert variables == {
        "HOME": "/root",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://more.example/simple",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_index_of_uv_s_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index, "pip_settings", lambda: {"index-url": "https://index.example/simple"})
    variables = package_index.uv_variables({"UV_DEFAULT_INDEX": "https://uv.example"})
    assert variables == {"UV_DEFAULT_INDEX": "https://uv.example"}


def test_pip_settings_are_read_from_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    settings = package_index.pip_settings()
    assert settings["index-url"] == "https://index.example/simple"
    assert settings["find-links"] == "/a /b"
