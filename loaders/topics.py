"""The topics the loader knows, the tables they land in, and the keys the models read from each.

Both come from ``vars`` in ``dbt_project.yml``, which the dbt models read too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from loaders.errors import CdwError
from loaders.settings import PROJECT_FILE

RESTRICTED = "raw_restricted"
_TABLE = re.compile(r"(raw|raw_restricted)\.([a-z_][a-z0-9_]*)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# At any depth: a key that only resembles one of these costs a reject, which is kept and can be replayed; a
# key in another case that is let through costs a NULL (DuckDB, Postgres) or is read all the same (Redshift).
_MESSAGE = _words(
    "meta control_id message_type trigger_event structure version dictionary sending_application "
    "sending_facility message_at sha256 charset codec warnings segments n id parent PID ORC OBR OBX "
    "fields bytes"
)
_REJECTED = _words(
    "code position byte_offset sha256 msh source codec bytes control_id message_type version sending_facility"
)
_ORIGINAL = _words("sha256 bytes")
_CDC = _words("payload before after op ts_ms source snapshot lsn deleted")

# By table, for a topic may be named otherwise: the keys that no sender chooses, and our names of the fields
# that vars.field_names gives theirs for.
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "raw.hl7_messages": (_MESSAGE, _words("")),
    "raw.hl7_rejected": (_REJECTED, _words("")),
    "raw_restricted.hl7_originals": (_ORIGINAL, _words("")),
    "raw.device_telemetry": (
        _words(""),
        _words("device_id patient_id ts metric_name metric_value unit software_version sequence"),
    ),
    "raw.healthcare_public_patients": (
        _CDC,
        _words("id patient_id given_name family_name gender birth_date zip_code"),
    ),
    "raw.healthcare_public_devices": (
        _CDC,
        _words(
            "id device_id patient_id model_type manufacturer serial_number software_version pressure_setting "
            "flow_rate_setting flow_level"
        ),
    ),
    "raw.healthcare_public_prescriptions": (
        _CDC,
        _words(
            "id prescription_id patient_id device_id medication_or_therapy start_date end_date parameters"
        ),
    ),
}
# What a path of every warehouse's JSON functions can carry.
_FIELD = re.compile(r"[^\W\d](?:[\w .:-]*\w)?")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, its raw table and the keys that the models read from its records."""

    name: str
    schema: str
    table: str
    keys: frozenset[str]
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of the fields that senders name: ours -> theirs."""

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
            do="restore vars.topics and vars.field_names as the project ships them",
        )
    return found


def _fields(
    names: object, topic: str, ours: frozenset[str], fixed: frozenset[str], file: Path
) -> dict[str, str]:
    """The names of a topic's fields, ours -> theirs, once they are known to be all and to be told apart."""
    fields = {str(our): str(their) for our, their in names.items()} if isinstance(names, dict) else {}
    if fields.keys() != ours:
        what = f"it must name these and no others: {', '.join(sorted(ours)) or 'none'}"
    elif bad := sorted(our for our, their in fields.items() if not _FIELD.fullmatch(their)):
        what = f"no JSON path of every warehouse can hold the names given to: {', '.join(bad)}"
    elif len({key.casefold() for key in fixed.union(fields.values())}) < len(fixed.union(fields.values())):
        what = "names that differ in case only cannot be told apart"
    else:
        return fields
    raise CdwError(
        f"the field names of topic {topic} cannot be used: {what}",
        where=f"vars.field_names in {file}",
        do="give each field of ours the sender's name for it (ours: theirs), under the topic's name",
    )


def _variables(project: Path) -> tuple[Path, Mapping[object, object]]:
    file = project / PROJECT_FILE
    try:
        return file, _mapping(yaml.safe_load(file.read_text(encoding="utf-8")), "vars", file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise CdwError(f"{PROJECT_FILE} cannot be read", where=str(file), do="mend the file") from None


def load_patient_authorities(project: Path) -> tuple[str, str]:
    """Read whose the patient ids of telemetry are, and whose those of the EHR.

    Raises:
        CdwError: ``dbt_project.yml`` cannot be read.
    """
    _, variables = _variables(project)
    return str(variables.get("telemetry_patient_authority")), str(variables.get("ehr_patient_authority"))


def load_topics(project: Path) -> dict[str, Topic]:
    """Read the topics of a project, by name.

    Raises:
        CdwError: ``dbt_project.yml`` cannot be read, ``vars.topics`` names a table outside raw, or
            ``vars.field_names`` lacks a field or has a name that cannot be told from another.
    """
    file, variables = _variables(project)
    names = _mapping(variables, "field_names", file)
    topics: dict[str, Topic] = {}
    for name, qualified in _mapping(variables, "topics", file).items():
        table = _TABLE.fullmatch(str(qualified))
        if table is None:
            raise CdwError(
                f"topic {name} has a table that is not in raw or raw_restricted",
                where=f"vars.topics in {file}",
                do="name it raw.<table> or raw_restricted.<table>, in lower case",
            )
        fixed, ours = _KEYS.get(str(qualified), (frozenset(), frozenset()))
        fields = _fields(names.get(name), str(name), ours, fixed, file)
        topics[str(name)] = Topic(str(name), table[1], table[2], fixed.union(fields.values()), fields)
    return topics
