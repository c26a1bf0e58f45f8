"""Where files are: local paths as they stand, `gs://` URIs through the /gcs mount.

Vertex AI mounts every bucket that a job may read under /gcs/<bucket>, in prebuilt and custom containers.
Source: https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system
"""

from __future__ import annotations

import glob
from pathlib import Path

from ml.errors import InputError

MOUNT = Path("/gcs")
SCHEME = "gs://"


def local_path(location: str) -> Path:
    """The path behind a local path or a `gs://bucket/name` URI.

    Raises InputError for another scheme, a URI without a bucket, a name that climbs out of its
    bucket, and where /gcs is not mounted.
    """
    if not location.startswith(SCHEME):
        scheme, separator, _ = location.partition("://")
        if separator:
            raise InputError(f"{location}: files are read from a local path or from gs://, not from {scheme}://")
        return Path(location)
    bucket, *parts = location[len(SCHEME) :].split("/")
    if not bucket or bucket in (".", ".."):
        raise InputError(f"{location}: names no bucket; write gs://BUCKET/NAME")
    if any(part in (".", "..") for part in parts):
        raise InputError(f"{location}: '.' and '..' cannot be parts of a path under {MOUNT}")
    if not MOUNT.is_dir():
        raise InputError(
            f"{location}: {MOUNT} is not mounted here; run this in a training job, or copy the file and give its path"
        )
    return MOUNT.joinpath(bucket, *(part for part in parts if part))


def input_files(locations: str) -> list[Path]:
    """The files that a comma-separated list of paths and URIs names, each once, in order of the list.

    `*` stands for any part of one name, as in the `AIP_*_DATA_URI` variables of a job with a dataset.
    Raises InputError when an entry names no file.
    """
    files: dict[Path, None] = {}
    # A file may have a comma in its name: what exists under the whole text is that one file.
    entries = [locations] if "://" not in locations and Path(locations).is_file() else locations.split(",")
    for entry in (text.strip() for text in entries):
        if entry:
            files.update(dict.fromkeys(_matching(entry)))
    if not files:
        raise InputError("no data file is named")
    return list(files)


def output_folder(location: str) -> Path:
    """The folder behind a path or URI, made when it is not there."""
    folder = local_path(location)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _matching(entry: str) -> list[Path]:
    path = local_path(entry)
    if "*" in entry:
        # Only `*` is special: object names may hold brackets and question marks.
        pattern = glob.escape(str(path)).replace("[*]", "*")
        found = [match for match in map(Path, sorted(glob.glob(pattern))) if match.is_file()]
        if not found:
            raise InputError(f"{entry}: no file matches")
        return found
    if path.is_dir():
        raise InputError(f"{entry}: is a folder; name its files, for example {entry.rstrip('/')}/*.csv")
    if not path.is_file():
        raise InputError(f"{entry}: there is no such file")
    return [path]
