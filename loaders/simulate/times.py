"""Times as the simulator counts them: whole milliseconds since 1970 in UTC."""

from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; a moment without a zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


@lru_cache(maxsize=1024)
def iso(ms: int) -> str:
    """ISO 8601 to the second, without a zone: ``2026-01-05T00:00:30``."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def hl7_time(ms: int, offset: str = "") -> str:
    """HL7 v2 time stamp in UTC to the second, with ``offset`` (``+0000`` or nothing) behind it."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y%m%d%H%M%S") + offset
