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

from loaders.hl7 import dictionary
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
        ("drop", lambda e: _named(e, structures="SIU_S13", versions="2.3"), "SIU_S13 is not in 2.3"),
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
        ("2.3" + "x" * 30, DEFAULT_VERSION),
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
        ("2.4", "ORU", "R40", "ORU_R40"),  # later
        ("2.8.2", "ORM", "O01", "ORM_O01"),  # withdrawn in 2.7
        ("2.3", "MDM", "T10", "MDM_T02"),
        ("2.3.1", "SIU", "S17", "SIU_S12"),
        ("2.5", "VXU", "V04", "VXU_V04"),
        ("2.5", "ACK", "A01", "ACK"),
        ("2.5", "ACK", None, "ACK"),
        ("2.5", "ORU", None, None),
        ("2.5", "ABC", "XYZ", None),
        ("2.5.1", "SIU", "S14", "SIU_S12"),
        ("2.8.2", "SIU", "S27", "SIU_S12"),
        ("2.3.1", "SIU", "S27", "SIU_S12"),
        ("2.3.1", "ADT", "A12", "ADT_A12"),
        ("2.4", "ADT", "A12", "ADT_A09"),
        ("2.6", "ADT", "A12", "ADT_A09"),
        ("2.7", "ADT", "A12", "ADT_A12"),
        ("2.3.1", "OML", "O21", "OML_O21"),  # later, as the next three
        ("2.3.1", "ADT", "A60", "ADT_A60"),
        ("2.2", "ADT", "A40", "ADT_A39"),
        ("2.1", "ADT", "A47", "ADT_A30"),
        ("2.3.1", "OML", "XYZ", None),
        ("2.3", "QRY", "XYZ", None),  # QRY is a structure in 2.5, of no event
    ],
)
def test_an_event_has_a_structure(
    version: str, message_type: str, trigger_event: str | None, structure: str | None
) -> None:
    assert find_structure(version, message_type, trigger_event) == structure


def test_no_structure_stands_for_an_event_that_table_0354_gives_another() -> None:
    """Structures of an event in the overlay's map that the version's own table 0354 does not have."""
    content = script().json.loads((REPOSITORY / "loaders/hl7/dictionary.json").read_text("utf-8"))
    found = set()
    for index, version in list(enumerate(VERSIONS))[VERSIONS.index("2.3.1") :]:
        module = importlib.import_module(f"hl7apy.v{version.replace('.', '_')}.tables")
        table = set(module.TABLES["HL70354"][1])
        for event, shared in content["events"].items():
            shapes = [s for since, s in content["structures"].get(event, []) if since <= index]
            if shapes and shapes[-1] and event not in table and table & set(shared):
                found.add((event, version))
    # Replies to queries of chapter 5's examples; the table has no row for their events.
    assert found == {(name, v) for name in ("RDY_Z80", "RSP_Z84") for v in ("2.8", "2.8.1", "2.8.2")}


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


def test_a_shape_is_that_of_the_nearest_version_earlier_ones_first() -> None:
    assert shape_of("2.3.1", "OML_O21") == shape_of("2.4", "OML_O21") != shape_of("2.5", "OML_O21")
    assert shape_of("2.1", "ADT_A39") == shape_of("2.3", "ADT_A39") != shape_of("2.8", "ADT_A39")
    assert shape_of("2.8", "ORM_O01") == shape_of("2.6", "ORM_O01")
    assert shape_of("2.4", "ADT_A12") == shape_of("2.3.1", "ADT_A12") != shape_of("2.7", "ADT_A12")


def test_what_is_long_is_neither_looked_up_nor_remembered() -> None:
    caches = [
        getattr(dictionary, name)
        for name in ("_dictionary_version", "_find_structure", "_fields_of", "_components_of")
    ]

    def sizes() -> list[int]:
        return [cache.cache_info().currsize for cache in caches]

    def ask(text: str) -> list[object]:
        return [
            dictionary_version("2.3" + text),
            find_structure("2.4", text, "A01"),
            find_structure("2.4", "ADT", text),
            find_structure("2.4", text, None),
            shape_of("2.4", text),
            fields_of("2.4", text),
            components_of("2.4", text),
        ]

    before = sizes()
    assert ask("x" * 33) == ask("x" * 1_000_000) == [DEFAULT_VERSION, None, None, None, None, (), ()]
    assert sizes() == before
    ask("y" * 29)
    assert sizes() == [before[0] + 1, before[1] + 3, before[2] + 1, before[3] + 1]


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
