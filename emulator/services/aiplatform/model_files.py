"""The service's own copies of models' files: what changes in a bucket later changes no version."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from google.api_core.exceptions import NotFound
from selfloop_apis import aiplatform_v1

from emulator.core.interfaces import ObjectStore, ServiceBuckets
from emulator.services.aiplatform import model_resources as resources

_BLOCK_BYTES = 1 << 20


class ModelFiles:
    """A folder for each version that has files, named after `models/M@V`.

    Files arrive in a folder of their own and are put in place when their version is stored. `changing` is held
    from before a version is stored or removed until its files are in place or gone: the name of a model that is
    deleted may be given again at once. A container of one's own reads them from a bucket of the service's, in a
    project of its own as the real service has it.
    """

    def __init__(self, objects: ObjectStore, buckets: ServiceBuckets, folder: Path) -> None:
        self._objects = objects
        self._buckets = buckets
        self._folder = folder
        self.changing = threading.RLock()
        # What an upload was fetching when the emulator was killed.
        shutil.rmtree(self._arriving, ignore_errors=True)

    @property
    def _arriving(self) -> Path:
        return self._folder / ".arriving"

    def of(self, version: str) -> Path:
        """The folder of `projects/N/locations/L/models/M@V`; absent where it has no files."""
        return self._folder.joinpath(*_parts(version))

    def fetch(self, model: aiplatform_v1.Model) -> Path | None:
        """A new folder with the files at a model's artifact_uri, once its image finds what it loads there.

        Raises NotFound for a bucket that is not there, FailedPrecondition for files that the image cannot serve.
        """
        if not model.artifact_uri:
            return None
        directory = resources.artifact_directory(model.artifact_uri)
        resources.check_artifacts(model.container_spec.image_uri, directory, self._objects.names(directory))
        return self._arrive(lambda folder: self._objects.download(directory, folder))

    def duplicate(self, version: str) -> Path | None:
        """A new folder with the files of a version, None where it has none.

        Raises NotFound for a version that is deleted meanwhile.
        """
        source = self.of(version)
        if not source.exists():
            return None
        try:
            return self._arrive(lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True))
        except (FileNotFoundError, shutil.Error):
            raise _deleted(version) from None

    def _arrive(self, fill: Callable[[Path], object]) -> Path:
        folder = self._arriving / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            fill(folder)
        except BaseException:
            self.discard(folder)
            raise
        return folder

    def place(self, version: str, arrived: Path) -> None:
        """Make a folder that arrived the version's."""
        target = self.of(version)
        # What a crash left here is of a version that was never given.
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived.rename(target)

    def discard(self, arrived: Path | None) -> None:
        """Remove a folder that is not needed, or no longer there."""
        if arrived is not None:
            shutil.rmtree(arrived, ignore_errors=True)

    def remove(self, versions: Iterable[str]) -> None:
        for version in versions:
            shutil.rmtree(self.of(version), ignore_errors=True)
            self._buckets.clear(f"{published_uri(version)}/")

    def publish(self, version: str, is_cancelled: Callable[[], bool]) -> None:
        """Put a version's files where `published_uri` says. Raises NotFound for a version that is deleted meanwhile."""
        project, location, *_ = _parts(version)
        self._buckets.make(_bucket(project, location), f"vertex-{project}-tp", location)
        self.export(version, f"{published_uri(version)}/", is_cancelled)

    def export(self, version: str, prefix: str, is_cancelled: Callable[[], bool]) -> bool:
        """Write a version's files below `gs://bucket/dir/`; False when it was left before the end.

        Raises NotFound for a bucket that is not there, and for a version that is deleted meanwhile.
        """
        folder = self.of(version)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise _deleted(version)
        for file in files:
            if is_cancelled():
                return False
            try:
                self._objects.write(f"{prefix}{file.relative_to(folder).as_posix()}", _blocks(file))
            except FileNotFoundError:
                raise _deleted(version) from None
        return True


def published_uri(version: str) -> str:
    """The `gs://` directory of a version's published files: a container's AIP_STORAGE_URI."""
    project, location, model_id, version_id = _parts(version)
    return f"gs://{_bucket(project, location)}/models/{model_id}/{version_id}"


def _bucket(project: str, location: str) -> str:
    return f"vertex-{project}-{location}-tp"


def _parts(version: str) -> tuple[str, str, str, str]:
    """Project's number, location, model and version of `projects/N/locations/L/models/M@V`."""
    model, _, version_id = version.partition("@")
    _, project, _, location, _, model_id = model.split("/")
    return project, location, model_id, version_id


def _deleted(version: str) -> NotFound:
    return NotFound(f"The Model version `{version}` does not exist.")


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            yield block
