"""The rows of a tabular dataset: CSV objects in Cloud Storage, read as one table and one row at a time.

Source: https://cloud.google.com/vertex-ai/docs/tabular-data/classification-regression/prepare-data: the first line
of every file names the columns, and all files of a dataset have the same columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google.api_core.exceptions import Cancelled, InvalidArgument, NotFound

from emulator.core.interfaces import ObjectStore

_LARGEST_LINE_BYTES = 10 << 20
#: Rows between two looks at whether it was cancelled.
_LOOK_EVERY = 1000
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """One row, as it is in its file and as it is understood."""

    number: int
    """from 0, through all files"""
    raw: bytes
    """its bytes with the end of the line; several lines where a quoted field has some"""
    fields: list[str]


class CsvTable:
    """Opens the table: finds its files and reads the header.

    Raises NotFound where a file is missing, InvalidArgument for what is no such table.
    """

    def __init__(
        self, objects: ObjectStore, uris: Iterable[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """uris: a `*` in one stands for any characters. is_cancelled: asked now and then while rows are read."""
        self._objects = objects
        self._is_cancelled = is_cancelled
        self._files = [found for uri in uris for found in self._find(uri)]
        first = next(self._rows_of(self._files[0], 0), None)
        if first is None:
            raise InvalidArgument(f"The file {self._files[0]} is empty: its first line must name the columns.")
        self.header = first.raw
        """its bytes, with the end of the line"""
        self.columns = first.fields

    def rows(self) -> Iterator[Row]:
        """Every row, each time anew.

        Raises InvalidArgument for a file with other columns, or that is no CSV; Cancelled when that was asked for.
        """
        number = 0
        for file in self._files:
            rows = self._rows_of(file, number)
            header = next(rows, None)
            if header is None or header.fields != self.columns:
                raise InvalidArgument(f"The columns of {file} are not those of {self._files[0]}.")
            for row in rows:
                yield row
                number += 1
                if number % _LOOK_EVERY == 0:
                    self.check_cancelled()

    def check_cancelled(self) -> None:
        """Raises Cancelled when that was asked for."""
        if self._is_cancelled():
            raise Cancelled("Reading the dataset was cancelled.")

    def column(self, name: str) -> int:
        """The place of a column. Raises InvalidArgument when there is none of that name."""
        if name not in self.columns:
            raise InvalidArgument(f'The dataset has no column "{name}"; it has {", ".join(self.columns)[:1000]}.')
        return self.columns.index(name)

    def _find(self, uri: str) -> list[str]:
        if "*" not in uri:
            return [uri]
        pattern = re.compile(".*".join(map(re.escape, uri.split("*"))), re.DOTALL)
        found = [name for name in self._objects.names(uri.partition("*")[0]) if pattern.fullmatch(name)]
        if not found:
            raise NotFound(f"There are no objects like {uri}.")
        return found

    def _rows_of(self, file: str, number: int) -> Iterator[Row]:
        """The header, with the number before the first row's, and the rows of one file; blank lines are left out."""
        lines = _Lines(self._objects.read(file), file)
        try:
            for index, fields in enumerate(filter(None, csv.reader(lines)), start=number - 1):
                yield Row(index, lines.take(), fields)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{file} cannot be read as CSV near line {lines.count}: {error}") from None


class _Lines:
    """Lines as text, for a reader that takes as many as a row has; `take` gives back the bytes of those."""

    def __init__(self, pieces: Iterable[bytes], file: str) -> None:
        self._lines = _split(pieces, file)
        self._taken: list[bytes] = []
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not self.count:
            line = line.removeprefix(_MARK)
        self.count += 1
        if line in (b"\n", b"\r\n") and not self._taken:
            return ""
        self._taken.append(line)
        return line.decode()

    def take(self) -> bytes:
        taken = self._taken[0] if len(self._taken) == 1 else b"".join(self._taken)
        self._taken.clear()
        return taken


def _split(pieces: Iterable[bytes], file: str) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > _LARGEST_LINE_BYTES:
            raise InvalidArgument(f"{file} has a line of more than {_LARGEST_LINE_BYTES >> 20} MiB.")
    if rest:
        yield rest + b"\n"
