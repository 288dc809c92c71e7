"""Messages that nobody here wrote: a simulated hospital's 1,013, read where they lie, counted in two ways."""

import os
import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Warehouse
from tests.warehouse.hospital import Runner

CORPUS = Path(os.environ.get("CDW_HL7_CORPUS", PROJECT.parent / "shared" / "hl7"))
FILE = CORPUS / "Snowflake-Labs+Snowflake-HL7V2-Parsing" / "src__test__data__hl7__hl7_2-3_samples.txt"
MESSAGES = 1013


def counted_by_hand() -> dict[str, int]:
    """What the file holds, by splitting its lines and nothing of ours."""
    patients: set[str] = set()
    merged: set[str] = set()
    identifiers: set[str] = set()
    visits: set[str] = set()
    results: set[tuple[str, ...]] = set()
    untimed = 0
    patient, order = "", [""] * 8
    for line in re.split(r"[\r\n]+", FILE.read_text(encoding="ascii")):
        fields = [*line.split("|"), *[""] * 20]
        match fields[0]:
            case "MSH":
                order = [""] * 8
            case "PID":
                patient = fields[3].split("^")[0]
                patients.add(patient)
                identifiers.update("^".join(one.split("^")[:4]) for one in fields[3].split("~"))
            case "MRG":
                merged.add(fields[1].split("^")[0])
            case "PV1":
                visits.update({fields[19]} - {""})
            case "OBR":
                order = fields
            case "OBX" if fields[14] or order[7]:
                results.add((patient, order[3], fields[3], fields[4] or fields[1], fields[14] or order[7]))
            case "OBX":
                untimed += 1
    return {
        "core.dim_patients": len(patients - merged),
        "core.patient_identifiers": len(identifiers),
        "core.fact_encounters": len(visits),
        "core.fact_observations": len(results),
        "intermediate.int_observations__rejects": untimed,
    }


@pytest.mark.skipif(not FILE.is_file(), reason="no public HL7 messages at CDW_HL7_CORPUS or ../shared/hl7")
def test_a_hospital_of_1013_messages_becomes_marts(
    tmp_path: Path, profiles_dir: Path, warehouse: Warehouse
) -> None:
    runner = Runner(tmp_path, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
    topics = tmp_path / "topics"
    runner.check("cdw", "ingest", str(FILE), "--to-dir", str(topics))
    runner.load(topics)
    runner.dbt("build", "--exclude-resource-type", "unit_test")

    by_hand = counted_by_hand() | {"raw.hl7_messages": MESSAGES, "raw_restricted.hl7_originals": MESSAGES}
    assert min(by_hand.values()) > 0
    counted = {name: warehouse.rows(f"select count(*) from {name}")[0][0] for name in by_hand}
    assert counted == by_hand
