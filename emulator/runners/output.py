"""A container's output as lines, in bounded memory."""

from __future__ import annotations

from collections import deque

from emulator.core.interfaces import OutputLine

#: A longer line is given out in pieces of this size.
LINE_BYTES = 256 << 10
#: How much of standard error a result carries.
TAIL_BYTES = 4 << 10


class Lines:
    """Splits the bytes of one stream into lines."""

    def __init__(self, is_error: bool) -> None:
        self._is_error = is_error
        self._rest = b""

    def feed(self, data: bytes) -> list[OutputLine]:
        """The lines that these bytes complete."""
        *complete, rest = (self._rest + data).split(b"\n")
        lines = [piece for line in complete for piece in _pieces(line)]
        if len(rest) > LINE_BYTES:
            *pieces, rest = _pieces(rest)
            lines += pieces
        self._rest = rest
        return [self._line(line) for line in lines]

    def end(self) -> list[OutputLine]:
        """What came after the last line break."""
        rest, self._rest = self._rest, b""
        return [self._line(rest)] if rest else []

    def _line(self, line: bytes) -> OutputLine:
        return OutputLine(line.removesuffix(b"\r").decode("utf-8", "replace"), self._is_error)


def _pieces(line: bytes) -> list[bytes]:
    """A line cut so that no character is cut: UTF-8's following bytes begin with 0b10."""
    pieces = []
    while len(line) > LINE_BYTES:
        cut = LINE_BYTES
        while cut > LINE_BYTES - 4 and line[cut] & 0xC0 == 0x80:
            cut -= 1
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


class Tail:
    """The last lines that came by, at most `TAIL_BYTES` of them."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, lines: list[OutputLine]) -> None:
        for line in lines[-TAIL_BYTES:]:
            text = line.text.encode()[-TAIL_BYTES:].decode(errors="ignore")
            self._lines.append(text)
            self._size += len(text) + 1
        while self._size > TAIL_BYTES and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1

    @property
    def text(self) -> str:
        return "\n".join(self._lines).encode()[-TAIL_BYTES:].decode(errors="ignore")
