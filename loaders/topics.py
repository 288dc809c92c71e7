"""The topics the loader knows, the tables they land in, and the keys the models read from each.

Both come from ``vars`` in ``dbt_project.yml``, which the dbt models read too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from loaders.errors import CdwError
from loaders.settings import PROJECT_FILE

RESTRICTED = "raw_restricted"
_TABLE = re.compile(r"(raw|raw_restricted)\.([a-z_][a-z0-9_]*)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CDC = _words("payload before after op ts_ms source snapshot lsn deleted")

# By table, for a topic may be named otherwise. At any depth: a key that only resembles one of these costs
# a reject, which is kept and can be replayed; a key in another case that is let through costs a NULL
# (DuckDB, Postgres) or is read all the same (Redshift).
_KEYS: dict[str, frozenset[str]] = {
    "raw.hl7_messages": _words(
        "meta control_id message_type trigger_event structure version dictionary sending_application "
        "sending_facility message_at sha256 charset codec warnings segments n id parent PID ORC OBR OBX "
        "fields bytes"
    ),
    "raw.hl7_rejected": _words(
        "code position byte_offset sha256 msh source codec bytes control_id message_type version "
        "sending_facility"
    ),
    "raw_restricted.hl7_originals": _words("sha256 bytes"),
    "raw.healthcare_public_patients": _CDC
    | _words("id patient_id given_name family_name gender birth_date zip_code"),
    "raw.healthcare_public_devices": _CDC
    | _words(
        "id device_id patient_id model_type manufacturer serial_number software_version pressure_setting "
        "flow_rate_setting flow_level"
    ),
    "raw.healthcare_public_prescriptions": _CDC
    | _words("id prescription_id patient_id device_id medication_or_therapy start_date end_date parameters"),
}
_TELEMETRY_TABLE = "raw.device_telemetry"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, its raw table and the keys that the models read from its records."""

    name: str
    schema: str
    table: str
    keys: frozenset[str]

    @property
    def qualified(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.table}"

    @property
    def is_restricted(self) -> bool:
        """Whether its records are bytes as they came, not JSON to read."""
        return self.schema == RESTRICTED


def _mapping(value: object, key: str, file: Path) -> Mapping[object, object]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise CdwError(
            f"{PROJECT_FILE} has no map named {key}",
            where=str(file),
            do="restore vars.topics and vars.telemetry_fields as the project ships them",
        )
    return found


def load_topics(project: Path) -> dict[str, Topic]:
    """Read the topics of a project, by name.

    Raises:
        CdwError: ``dbt_project.yml`` cannot be read, or ``vars.topics`` names a table outside raw.
    """
    file = project / PROJECT_FILE
    try:
        variables = _mapping(yaml.safe_load(file.read_text(encoding="utf-8")), "vars", file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise CdwError(f"{PROJECT_FILE} cannot be read", where=str(file), do="mend the file") from None
    telemetry = frozenset(str(name) for name in _mapping(variables, "telemetry_fields", file).values())
    topics: dict[str, Topic] = {}
    for name, qualified in _mapping(variables, "topics", file).items():
        table = _TABLE.fullmatch(str(qualified))
        if table is None:
            raise CdwError(
                f"topic {name} has a table that is not in raw or raw_restricted",
                where=f"vars.topics in {file}",
                do="name it raw.<table> or raw_restricted.<table>, in lower case",
            )
        keys = telemetry if qualified == _TELEMETRY_TABLE else _KEYS.get(str(qualified), frozenset())
        topics[str(name)] = Topic(str(name), table[1], table[2], keys)
    return topics
