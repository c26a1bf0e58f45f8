"""Packages of training code: built offline, named by their content, holding nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.packages import built, package_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models' code and a secret beside it."""
    for name, text in {
        "ml/__init__.py": "",
        "ml/shared.py": "X = 1\n",
        "ml/one/__init__.py": "",
        "ml/one/train.py": "print('one')\n",
        "ml/one/deep/__init__.py": "",
        "ml/one/table.csv": "a,b\n",
        "ml/one/__pycache__/train.cpython-311.pyc": "x",
        "ml/two/__init__.py": "",
        "ml/two/train.py": "print('two')\n",
        "config/prod.yaml": "secret: x\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_package_of_a_module_holds_its_model_and_what_models_share(repository: Path) -> None:
    package = package_of("ml.one.train", repository)
    assert [file.as_posix() for file in package.files] == [
        "ml/__init__.py",
        "ml/one/__init__.py",
        "ml/one/deep/__init__.py",
        "ml/one/table.csv",
        "ml/one/train.py",
        "ml/shared.py",
    ]
    assert package.object_name == f"packages/ml-one-{package.digest}/ml_one-0.1.tar.gz"


def test_digest_changes_with_the_code_and_only_with_it(repository: Path) -> None:
    before = package_of("ml.one.train", repository).digest
    (repository / "ml/two/train.py").write_text("print(2)\n")
    assert package_of("ml.one.train", repository).digest == before
    (repository / "ml/one/train.py").write_text("print(1)\n")
    assert package_of("ml.one.train", repository).digest != before


def test_digest_changes_when_a_file_moves(repository: Path) -> None:
    before = package_of("ml.one.train", repository).digest
    (repository / "ml/one/table.csv").rename(repository / "ml/one/other.csv")
    assert package_of("ml.one.train", repository).digest != before


def test_built_package_is_a_source_distribution_of_exactly_that(repository: Path) -> None:
    with built(package_of("ml.one.train", repository)) as file, tarfile.open(file) as archive:
        names = {name for name in archive.getnames() if name.startswith("ml_one-0.1/ml")}
        members = {name.removeprefix("ml_one-0.1/") for name in names if "egg-info" not in name}
        assert "ml/one/train.py" in members
        assert "ml/one/table.csv" in members
        assert not any("two" in name or "config" in name or "pycache" in name for name in members)
    assert not file.exists()


def test_package_of_an_unknown_module_says_which_key_to_mend(repository: Path) -> None:
    with pytest.raises(OpsError, match=r"there is no module ml\.three\.train; mend `python_module`"):
        package_of("ml.three.train", repository)
