"""What a person can mend: a message for them, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Data or arguments that cannot be used; the message says where and what to do."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an InputError, or a file that cannot be opened, into one line on stderr and exit code 1."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        # Only errors of the file system, which name their file, are the user's to mend.
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
    else:
        return
    raise SystemExit(1)
