"""When a cron expression of a schedule is due: five fields, with a time zone before them where it is not UTC.

Source: the comment of Schedule.cron, `CRON_TZ=${IANA_TIME_ZONE}` or `TZ=${IANA_TIME_ZONE}`
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from google.api_core.exceptions import InvalidArgument

_FORM = re.compile(r"\s*(?:(?:CRON_)?TZ=(\S+)\s+)?(.*?)\s*", re.DOTALL)


def next_time(cron: str, after: datetime) -> datetime | None:
    """The first time after a given one, in UTC; None where there is none within 50 years.

    In the hour that daylight saving time leaves out a run is due at its end; in the one that comes twice, once.
    Raises InvalidArgument for what is no cron expression.
    """
    found = _FORM.fullmatch(cron)
    assert found is not None  # noqa: S101  # the form takes everything
    zone, fields = found[1] or "UTC", found[2]
    try:
        simulated = CronSim(fields, after.astimezone(ZoneInfo(zone)))
        return next(simulated).astimezone(UTC)
    except CronSimError as error:
        raise InvalidArgument(f"Invalid cron expression {cron!r}: {error}.") from None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidArgument(f"Invalid cron expression {cron!r}: {zone!r} is no time zone.") from None
    except StopIteration:
        return None
