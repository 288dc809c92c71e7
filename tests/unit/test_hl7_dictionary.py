"""The dictionary is what the script makes of hl7apy's tables, and every line of the overlay is needed."""

import copy
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loaders.hl7.dictionary import (
    DEFAULT_VERSION,
    components_of,
    dictionary_version,
    fields_of,
    find_structure,
    shape_of,
)

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "make_hl7_dictionary.py"
VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")


@cache
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_hl7_dictionary", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def overlay() -> dict[str, Any]:
    return tomllib.loads(SCRIPT.with_name("hl7_overlay.toml").read_text("utf-8"))


def test_the_files_are_what_the_script_makes(tmp_path: Path) -> None:
    script().main(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 2
    for path in made:
        assert (REPOSITORY / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_the_overlay_has_reasons_only_and_no_entry_without_effect() -> None:
    """What the script does not check itself: that leaving an entry out would change or stop it."""
    whole = overlay()
    assert all(entry["reason"] for entries in whole.values() for entry in entries)
    tables = script()._Tables

    def build(changed: dict[str, Any]) -> Any:
        try:
            versions = [tables(version, changed) for version in VERSIONS]
            return script()._structures(versions, changed), [(t.segments, t.datatypes) for t in versions]
        except script().OverlayError as error:
            return str(error)

    before = build(whole)
    assert not isinstance(before, str)
    for kind in ("names", "drop", "structures"):
        for i in range(len(whole[kind])):
            changed = copy.deepcopy(whole)
            del changed[kind][i]
            assert build(changed) != before, whole[kind][i]


def _named(entry: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {**entry, **change}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("names", lambda e: e, "needs no mending"),
        ("names", lambda e: _named(e, name="EMAIL_ADDRESS"), "a name twice"),
        ("structures", lambda e: _named(e, name="ORU_R30"), "ORU_R30 is in 2.5"),
        ("events", lambda e: _named(e, events="ADT_A01"), "ADT_A01 needs no entry"),
        ("events", lambda e: _named(e, events="ADT_A07"), "ADT_A07 stands twice"),
        (
            "events",
            lambda e: _named(e, events="ADT_X99", structures=["ADT_A01", "ADT_A99"]),
            "ADT_A99 is in no version",
        ),
    ],
)
def test_an_overlay_entry_that_does_nothing_is_refused(
    kind: str, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    changed = copy.deepcopy(overlay())
    changed[kind].append(change(changed[kind][0]))
    with pytest.raises(script().OverlayError, match=message):
        script()._structures([script()._Tables(version, changed) for version in VERSIONS], changed)


@pytest.mark.parametrize(
    ("sent", "version"),
    [
        *((version, version) for version in VERSIONS),
        ("2.9", "2.8.2"),
        ("2.3.5", "2.3.1"),
        ("2.3.0", "2.3"),
        ("2.4.1", "2.4"),
        ("3.0", "2.8.2"),
        ("2.0", "2.1"),
        ("1.9", "2.1"),
        ("v2.3", "2.3"),
        (" 2.3 ", "2.3"),
        ("2.3.z", "2.3"),
        ("2.51", "2.5.1"),
        ("HL7 2.5.1", "2.5.1"),
        ("2", DEFAULT_VERSION),
        ("", DEFAULT_VERSION),
        ('""', DEFAULT_VERSION),
        ("12.4", DEFAULT_VERSION),
        ("2019.4", DEFAULT_VERSION),
        (None, DEFAULT_VERSION),
    ],
)
def test_a_version_has_the_nearest_lower_dictionary(sent: str | None, version: str) -> None:
    assert dictionary_version(sent) == version


@pytest.mark.parametrize(
    ("version", "message_type", "trigger_event", "structure"),
    [
        ("2.2", "ADT", "A04", "ADT_A04"),
        ("2.3", "ADT", "A04", "ADT_A01"),
        ("2.3.1", "ADT", "A04", "ADT_A01"),
        ("2.3.1", "ADT", "A31", "ADT_A01"),
        ("2.4", "ADT", "A31", "ADT_A05"),
        ("2.3.1", "ADT", "A22", "ADT_A02"),
        ("2.5", "ADT", "A22", "ADT_A21"),
        ("2.5", "ADT", "A40", "ADT_A39"),
        ("2.5", "ADT", "A47", "ADT_A30"),
        ("2.8", "ADT", "A47", "ADT_A44"),
        ("2.8", "ADT", "A34", "ADT_A30"),  # withdrawn in 2.7
        ("2.5.1", "ORU", "R01", "ORU_R01"),
        ("2.6", "ORU", "R40", "ORU_R40"),
        ("2.4", "ORU", "R40", None),
        ("2.8.2", "ORM", "O01", "ORM_O01"),  # withdrawn in 2.7
        ("2.3", "MDM", "T10", "MDM_T02"),
        ("2.3.1", "SIU", "S17", "SIU_S12"),
        ("2.5", "VXU", "V04", "VXU_V04"),
        ("2.5", "ACK", "A01", "ACK"),
        ("2.5", "ACK", None, "ACK"),
        ("2.5", "ORU", None, None),
        ("2.5", "ABC", "XYZ", None),
        ("2.3.1", "OML", "O21", None),  # not yet
    ],
)
def test_an_event_has_a_structure(
    version: str, message_type: str, trigger_event: str | None, structure: str | None
) -> None:
    assert find_structure(version, message_type, trigger_event) == structure


def test_every_structure_found_has_a_shape() -> None:
    events = {event for entry in overlay()["events"] for event in entry["events"].split()}
    for version in VERSIONS:
        for event in events:
            structure = find_structure(version, *event.split("_"))
            assert structure is None or shape_of(version, structure), (version, event)


def test_shapes_say_groups_choices_and_repetition() -> None:
    assert shape_of("2.5.1", "ORU_R01") == (
        "MSH SFT* _PATIENT_RESULT+(_PATIENT?(PID PD1? NTE* NK1* _VISIT?(PV1 PV2?)) "
        "_ORDER_OBSERVATION+(ORC? OBR NTE* _TIMING_QTY*(TQ1 TQ2*) CTD? _OBSERVATION*(OBX NTE*) FT1* CTI* "
        "_SPECIMEN*(SPM OBX*))) DSC?"
    )
    assert shape_of("2.6", "ORU_R40") == shape_of("2.6", "ORU_R01")
    assert "_CHOICE|(OBR RQD" in (shape_of("2.3", "ORM_O01") or "")
    assert shape_of("2.5", "ORU_R99") is None


def test_names_follow_the_version() -> None:
    def name(version: str, segment: str, field: int) -> tuple[str, str, bool] | None:
        return fields_of(version, segment)[field - 1]

    assert name("2.1", "PID", 3) == ("PATIENT_ID_INTERNAL_ID", "CK", False)
    assert name("2.5.1", "PID", 3) == ("PATIENT_IDENTIFIER_LIST", "CX", True)
    assert name("2.5.1", "OBX", 20) == ("OBSERVATION_SITE", "CWE", False)
    assert [part.name for part in components_of("2.3", "XPN") if part][:2] == ["FAMILY_NAME", "GIVEN_NAME"]
    assert [part.datatype for part in components_of("2.5.1", "XPN") if part][:2] == ["FN", "ST"]
    assert components_of("2.5.1", "ST") == ()
    assert fields_of("2.5.1", "ZZZ") == ()


def test_what_is_withdrawn_keeps_its_name_and_type() -> None:
    assert fields_of("2.8", "DG1")[6] == ("MAJOR_DIAGNOSTIC_CATEGORY", "CE", False)
    assert fields_of("2.8", "PID")[3] == ("ALTERNATE_PATIENT_ID_PID", "CX", True)
    assert fields_of("2.8.2", "QRD") == fields_of("2.6", "QRD") != ()
    assert components_of("2.8", "CE") == components_of("2.6", "CE") != ()


def test_names_are_distinct_within_a_segment_and_a_type() -> None:
    content = script().json.loads((REPOSITORY / "loaders/hl7/dictionary.json").read_text("utf-8"))
    for version in VERSIONS:
        for read, owners in ((fields_of, content["segments"]), (components_of, content["datatypes"])):
            for owner in owners:
                names = [part.name for part in read(version, owner) if part]
                assert len(names) == len(set(names)), (version, owner)
                assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in names), (version, owner)


def test_the_command_line_does_not_read_it() -> None:
    code = (
        "import sys, loaders.cli; module = sys.modules.get('loaders.hl7.dictionary'); "
        "print(module and module._content.cache_info())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "None" or "misses=0" in done.stdout
