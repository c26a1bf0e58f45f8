"""What goes wrong in a task, said in one line: what happened and what to do next."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_LOGIN = "gcloud auth application-default login"

INTERRUPTED = 130
"""what shells give back after Ctrl-C"""


class OpsError(Exception):
    """A failure that the person at the keyboard can mend; its text is the whole message."""

    exit_code = 1


class EnvironmentNotFound(OpsError):
    """There is no overlay of that name."""

    def __init__(self, environment: str, known: Sequence[str]) -> None:
        super().__init__(f"config/{environment}.yaml does not exist; environments: {', '.join(known) or 'none'}")


class ConfigError(OpsError):
    """A configuration file that does not say what it should; one line a finding."""


class EmulatorNotRunning(OpsError):
    """No emulator answers on the state directory that the configuration names."""

    def __init__(self, state: str) -> None:
        super().__init__(f"no emulator runs on {state}; start it with: inv emulator.up")


class ResourceNotFound(OpsError):
    """Something that the configuration declares is not there yet."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a person can mend into one line on standard error and an exit code.

    An OpsError, an answer of Google's APIs, missing credentials and an interrupt are such; anything else is
    a bug of ours and keeps its traceback. `SELFLOOP_TRACEBACK=1` keeps every traceback.
    """
    try:
        yield
    except OpsError as error:
        _fail(error, str(error), error.exit_code)
    except KeyboardInterrupt as error:
        _fail(error, "interrupted", INTERRUPTED)
    except Exception as error:
        message = _google_message(error)
        if message is None:
            raise
        _fail(error, message, 1)


def _fail(error: BaseException, message: str, exit_code: int) -> None:
    if os.environ.get("SELFLOOP_TRACEBACK"):
        raise error
    print(f"inv: {message}", file=sys.stderr, flush=True)
    raise SystemExit(exit_code) from None


def _google_message(error: Exception) -> str | None:
    """One line for an exception of Google's client libraries; None for any other.

    The libraries are looked up among the modules that are already loaded: an exception of a library that was
    never imported cannot have been raised, and importing it would slow every failing task.
    """
    auth = sys.modules.get("google.auth.exceptions")
    if auth is not None:
        if isinstance(error, auth.DefaultCredentialsError):
            return f"no Google credentials were found; run: {_LOGIN}"
        if isinstance(error, auth.GoogleAuthError):
            return f"Google refused the credentials ({_first_line(error)}); run: {_LOGIN}"
    api_core = sys.modules.get("google.api_core.exceptions")
    if api_core is None or not isinstance(error, api_core.GoogleAPIError):
        return None
    if isinstance(error, api_core.RetryError):
        return f"the service did not answer in time: {_first_line(error)}; look with: inv doctor"
    code = getattr(error, "code", None)
    status = getattr(code, "value", code)
    text = getattr(error, "message", None) or str(error)
    hint = "; look with: inv doctor" if status == 503 else ""
    return f"Google Cloud answered {status} {type(error).__name__}: {_first_line(text)}{hint}"


def _first_line(text: object) -> str:
    return " ".join(str(text).split())[:600]
