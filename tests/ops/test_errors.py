"""What a person can mend is one line and an exit code; a bug keeps its traceback."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import NotFound, ServiceUnavailable
from google.auth.exceptions import DefaultCredentialsError

from ops.errors import OpsError, readable_errors


class Rejected(OpsError):
    exit_code = 3


@pytest.mark.parametrize(
    ("error", "message", "exit_code"),
    [
        (OpsError("this is wrong; do that"), "this is wrong; do that", 1),
        (Rejected("the gate says no"), "the gate says no", 3),
        (NotFound("no such\n  model"), "Google Cloud answered 404 NotFound: no such model", 1),
        (ServiceUnavailable("gone"), "Google Cloud answered 503 ServiceUnavailable: gone; look with: inv doctor", 1),
        (
            DefaultCredentialsError("x"),
            "no Google credentials were found; run: gcloud auth",
            1,
        ),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_readable_errors_prints_one_line(
    error: BaseException, message: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, readable_errors():
        raise error
    assert ended.value.code == exit_code
    printed = capsys.readouterr().err
    assert printed.startswith(f"inv: {message}")
    assert printed.count("\n") == 1


def test_readable_errors_lets_a_bug_through() -> None:
    with pytest.raises(ZeroDivisionError), readable_errors():
        1 / 0  # noqa: B018 -- it is meant to raise


def test_readable_errors_keeps_the_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLOOP_TRACEBACK", "1")
    with pytest.raises(OpsError), readable_errors():
        raise OpsError("x")
