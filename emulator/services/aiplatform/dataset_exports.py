"""Writes the rows of a dataset to Cloud Storage as CSV files, one set of files for each part of a split.

Rows go through files on disk, since a file's name says of how many it is one: memory does not grow with the rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from emulator.core.interfaces import ObjectStore
from emulator.services.aiplatform.csv_table import CsvTable
from emulator.services.aiplatform.data_splits import Assign

#: Rows of one file, as far as a row does not go beyond it.
FILE_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Export:
    """What was written: part -> URIs of its files, and part -> number of rows."""

    files: Mapping[str, list[str]]
    rows: Mapping[str, int]


class Exporter:
    def __init__(self, objects: ObjectStore, scratch: Path, file_bytes: int = FILE_BYTES) -> None:
        """scratch: an existing folder on disk that takes as many bytes as a dataset has."""
        self._objects = objects
        self._scratch = scratch
        self._file_bytes = file_bytes

    def write(
        self,
        table: CsvTable,
        assign: Assign,
        parts: tuple[str, ...],
        folder: str,
    ) -> Export:
        """`<folder>/training-00001-of-00002.csv` and so on, the header in each; a part without rows has one file.

        parts: every name that `assign` gives. folder: a gs:// URI without a slash at its end.
        Raises what reading and writing raise, Cancelled among it.
        """
        with ExitStack() as stack:
            local = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="export-", dir=self._scratch)))
            writers = {part: _Part(local, part, table.header, self._file_bytes) for part in parts}
            for writer in writers.values():
                stack.callback(writer.close)
            for row in table.rows():
                part = assign(row)
                if part is not None:
                    writers[part].add(row.raw)
            files = {part: self._upload(writer, folder, table) for part, writer in writers.items()}
        return Export(files, {part: writer.rows for part, writer in writers.items()})

    def _upload(self, writer: _Part, folder: str, table: CsvTable) -> list[str]:
        writer.close()
        uris = []
        for index, path in enumerate(writer.paths, start=1):
            table.check_cancelled()
            uri = f"{folder}/{writer.name}-{index:05}-of-{len(writer.paths):05}.csv"
            self._objects.write(uri, _pieces(path), "text/csv")
            path.unlink()
            uris.append(uri)
        return uris


def export_time(moment: datetime) -> str:
    """`2025-01-01T00:00:00.000Z`, as the names of exports end."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


@dataclass
class _Part:
    """One set of files that grows row by row."""

    folder: Path
    name: str
    header: bytes
    file_bytes: int
    rows: int = 0
    paths: list[Path] = field(default_factory=list)
    _file: BinaryIO | None = None
    _size: int = 0

    def __post_init__(self) -> None:
        self._begin()

    def add(self, row: bytes) -> None:
        if self._size + len(row) > self.file_bytes and self._size > len(self.header):
            self._begin()
        self._write(row)
        self.rows += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self.close()
        self.paths.append(self.folder / f"{self.name}-{len(self.paths)}")
        self._file = self.paths[-1].open("xb", buffering=_PIECE_BYTES)
        self._size = 0
        self._write(self.header)

    def _write(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  # opened when the part began
        self._file.write(data)
        self._size += len(data)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
