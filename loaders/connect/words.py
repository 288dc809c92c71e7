"""What Kafka Connect, Debezium and Postgres say is wrong, in words of ours.

Theirs may quote a record or a setting, and are never shown: at most the name of the exception.
"""

import re
from typing import NamedTuple


class Words(NamedTuple):
    """What is wrong, and what to do about it."""

    what: str
    do: str


_SQL = "run deploy/connect/ehr.sql in the EHR's database"
_ADDRESS = "see that EHR_HOST and EHR_PORT are set for Kafka Connect's workers, and reach the EHR's Postgres"

# The first that is found counts.
_KNOWN = [
    (
        r"password authentication failed|no password was provided|no pg_hba\.conf entry",
        Words(
            "the EHR's Postgres does not let the connector in",
            "see that EHR_USER and EHR_PASSWORD are set for Kafka Connect's workers, and that pg_hba.conf "
            "there lets that role in, for the database and for replication",
        ),
    ),
    (
        r"database \S+ does not exist",
        Words(
            "the EHR's Postgres has no such database",
            "see that EHR_DATABASE is set for Kafka Connect's workers",
        ),
    ),
    (
        r"wal_level",
        Words(
            "the EHR's Postgres does not keep what a connector reads (wal_level is not logical)",
            "set wal_level = logical there and restart the server",
        ),
    ),
    (
        r"WAL sender|REPLICATION (attribute|role)|replication role|must be superuser",
        Words("the connector's role may not read changes (no REPLICATION)", _SQL),
    ),
    (
        r"replication slots are in use|too many clients|max_wal_senders",
        Words(
            "the EHR's Postgres has no replication slot, sender or connection left",
            "raise max_replication_slots, max_wal_senders or max_connections there, or drop what nobody uses",
        ),
    ),
    (
        r"is active for PID|Failed to start replication stream|distinct replication\s+slot name",
        Words(
            "another connector, or one that has just died, reads the same replication slot",
            "give each connector a slot.name of its own; after a crash, wait a minute and register it again",
        ),
    ),
    (
        r"no longer available on the server|requested WAL segment|can no longer (access|get changes)|"
        r"invalidated|replication slot \S+ does not exist",
        Words(
            "changes after the connector's position are gone from the EHR's Postgres: its replication slot "
            "was dropped, or it was away for longer than the log is kept",
            "drop the slot if it is still there, make it anew as deploy/connect/ehr.sql does, then read the "
            "tables anew: cdw connect snapshot NAME; rows deleted in the meantime do not show in it",
        ),
    ),
    (
        r"Publication autocreation is disabled|publication \S+ does not exist",
        Words("the EHR's database has no such publication", _SQL),
    ),
    (
        r"permission denied",
        Words("the connector's role may not read a table", _SQL),
    ),
    (
        r"RecordTooLargeException",
        Words(
            "a change is larger than Kafka takes",
            "raise max.message.bytes of the topic and producer.override.max.request.size of the connector",
        ),
    ),
    (
        r"(Topic|Cluster|Group)AuthorizationException",
        Words("Kafka does not let Kafka Connect write", "give its workers' user the rights to the topics"),
    ),
    (
        r"refused|UnknownHost|connection attempt failed|timed? ?out|No route to host|SocketException",
        Words("the EHR's Postgres cannot be reached", _ADDRESS),
    ),
]
_EXCEPTION = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+([\w$]+(?:Exception|Error))\b", re.MULTILINE)


def in_words(said: str) -> Words:
    """What a text of theirs means."""
    for pattern, words in _KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return words
    names = _EXCEPTION.findall(said)
    return Words(
        f"it failed for a reason that cdw does not know ({names[-1]})"
        if names
        else "it failed for a reason that cdw does not know",
        "see the log of Kafka Connect's worker",
    )
