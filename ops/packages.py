"""Source distributions of training code, built offline.

A package holds the `ml` code that one model needs and nothing else of the repository. Its place in the
bucket is named by the hash of its content, so that the same code is uploaded once.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.config import ROOT
from ops.errors import OpsError

BUILD_SECONDS = 120
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_SETUP = """\
from setuptools import setup

setup(name={name!r}, version="0.1", packages={packages!r}, include_package_data=True)
"""


@dataclass(frozen=True)
class Package:
    """The files of one distribution."""

    name: str
    files: tuple[Path, ...]
    """relative to the repository"""
    root: Path = ROOT

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over names and contents."""
        digest = hashlib.sha256()
        for file in self.files:
            content = (self.root / file).read_bytes()
            digest.update(f"{file.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()[:12]

    @property
    def object_name(self) -> str:
        """Where it lies in a bucket."""
        return f"packages/{self.name}-{self.digest}/{self.file_name}"

    @property
    def zip_object_name(self) -> str:
        """Where the same lies as a zip."""
        return f"packages/{self.name}-{self.digest}/{self.name.replace('-', '_')}.zip"

    @property
    def file_name(self) -> str:
        return f"{self.name.replace('-', '_')}-0.1.tar.gz"


def package_of(python_module: str, root: Path = ROOT) -> Package:
    """The package that holds a module: `ml.taxi_tips.train` takes ml/*.py and ml/taxi_tips/.

    Raises OpsError when there is no such module.
    """
    top, *inner = python_module.split(".")
    module = root.joinpath(top, *inner)
    if not module.with_suffix(".py").is_file() and not (module / "__main__.py").is_file():
        raise OpsError(f"there is no module {python_module}; mend `python_module` under models")
    folder = root / top
    files = [*folder.glob("*.py")]
    if len(inner) > 1 or (module / "__main__.py").is_file():
        files += [
            f for f in (folder / inner[0]).rglob("*") if f.is_file() and f.suffix in {".py", ".json", ".csv", ".toml"}
        ]
    else:
        inner = []
    relative = sorted(file.relative_to(root) for file in files)
    return Package("-".join([top, *inner[:1]]).replace("_", "-"), tuple(relative), root)


def zipped(package: Package) -> bytes:
    """The package as a zip that Python imports from as it is, once it is on its path; same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in package.files:
            archive.writestr(zipfile.ZipInfo(file.as_posix(), _ZIP_EPOCH), (package.root / file).read_bytes())
    return buffer.getvalue()


@contextmanager
def built(package: Package) -> Iterator[Path]:
    """The source distribution as a file, for as long as the block runs.

    Raises OpsError with the builder's last line when setuptools refuses.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-package-") as name:
        folder = Path(name)
        for file in package.files:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.root / file, target)
        packages = sorted({".".join(file.parent.parts) for file in package.files if file.suffix == ".py"})
        (folder / "setup.py").write_text(_SETUP.format(name=package.name, packages=packages), "utf-8")
        data = [file for file in package.files if file.suffix != ".py"]
        (folder / "MANIFEST.in").write_text("".join(f"include {file.as_posix()}\n" for file in data), "utf-8")
        # `setup.py sdist`, as Google's SDK does; nothing is fetched, since no build isolation is involved.
        build = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "sdist", "--formats=gztar", "--dist-dir", "dist"],
            cwd=folder, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS,
        )  # fmt: skip
        found = sorted((folder / "dist").glob("*.tar.gz"))
        if build.returncode or len(found) != 1:
            lines = (build.stderr or build.stdout).strip().splitlines()
            raise OpsError(f"the package {package.name} could not be built: {lines[-1] if lines else 'no message'}")
        yield found[0]
