"""Times of cron expressions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.api_core.exceptions import InvalidArgument

from emulator.services.aiplatform.cron import next_time


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 * * * *", "2026-03-01T10:00:00", "2026-03-01T11:00:00"),
        ("*/15 9-17 * * 1-5", "2026-03-06T17:45:00", "2026-03-09T09:00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("TZ=America/New_York 0 3 * * *", "2026-03-07T12:00:00", "2026-03-08T07:00:00"),
        ("CRON_TZ=America/New_York 30 2 * * *", "2026-03-07T12:00:00", "2026-03-08T07:00:00"),  # 2:30 is left out
        ("TZ=America/New_York 30 1 * * *", "2026-11-01T05:31:00", "2026-11-02T06:30:00"),  # 1:30 came twice
        ("  TZ=Europe/Berlin  0 0 1 1 * ", "2026-03-01T00:00:00", "2026-12-31T23:00:00"),
    ],
)
def test_next_time(cron: str, after: str, expected: str) -> None:
    found = next_time(cron, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "cron",
    ["", "x", "* * * *", "61 * * * *", "0 0 30 2 *", "TZ=Nowhere/At_All * * * * *", "TZ=../etc/x * * * * *"],
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid cron expression"):
        next_time(cron, datetime(2026, 1, 1, tzinfo=UTC))
