"""Long names: every value of a record once, under the names and in the groups of HL7."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.hl7.decoder import Message
from loaders.hl7.names import with_long_names
from loaders.hl7.stream import decode_stream

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "hl7"
MSH = r"MSH|^~\&|LAB|GENERAL|||20240102||{}|M1|P|{}"


def of(segments: str) -> list[str]:
    return segments.split()


def named(event: str, version: str, *segments: str) -> dict[str, Any]:
    data = "\r".join([MSH.format(event, version), *segments]).encode()
    (message,) = decode_stream([data], source="test")
    assert isinstance(message, Message)
    return with_long_names(message.record)


def groups(content: Any) -> Any:
    """Leave groups and segment numbers only."""
    if isinstance(content, list):
        return [groups(item) for item in content]
    if "n" in content:
        return content["n"]
    return {name: groups(item) for name, item in content.items() if name != "meta"}


def test_fields_and_components_have_long_names() -> None:
    pid = named("ADT^A01", "2.5.1", "EVN|A01", "PID|1||4711^^^GENERAL&1.2&ISO^MR||DOE&VAN^JANE||19700101|F")[
        "PID"
    ]
    assert pid == {
        "n": 3,
        "SET_ID_PID": "1",
        "PATIENT_IDENTIFIER_LIST": [
            {
                "ID_NUMBER": "4711",
                "ASSIGNING_AUTHORITY": {
                    "NAMESPACE_ID": "GENERAL",
                    "UNIVERSAL_ID": "1.2",
                    "UNIVERSAL_ID_TYPE": "ISO",
                },
                "IDENTIFIER_TYPE_CODE": "MR",
            }
        ],
        "PATIENT_NAME": [
            {"FAMILY_NAME": {"SURNAME": "DOE", "OWN_SURNAME_PREFIX": "VAN"}, "GIVEN_NAME": "JANE"}
        ],
        "DATE_TIME_OF_BIRTH": {"TIME": "19700101"},
        "ADMINISTRATIVE_SEX": "F",
    }


def test_names_follow_the_version_of_the_message() -> None:
    pid = named("ADT^A01", "2.3", "PID|||4711||DOE^JANE||19700101")["PID"]
    assert pid["PATIENT_ID_INTERNAL_ID"] == [{"ID": "4711"}]
    assert pid["PATIENT_NAME"] == {"FAMILY_NAME": "DOE", "GIVEN_NAME": "JANE"}
    assert pid["DATE_OF_BIRTH"] == {"TIME_OF_AN_EVENT": "19700101"}


def test_an_event_newer_than_the_version_has_the_groups_of_the_first_later_one() -> None:
    old = groups(named("OML^O21", "2.3.1", "PID|1", "ORC|NW", "OBR|1", "ORC|NW", "OBR|2"))
    assert old == groups(named("OML^O21", "2.4", "PID|1", "ORC|NW", "OBR|1", "ORC|NW", "OBR|2"))
    assert list(old) == ["MSH", "OML_O21_PATIENT", "OML_O21_ORDER_GENERAL"]
    merged = groups(named("ADT^A40", "2.2", "EVN|A40", "PID|1", "MRG|1", "PID|2", "MRG|2"))
    assert merged == {"MSH": 1, "EVN": 2, "ADT_A39_PATIENT": [{"PID": 3, "MRG": 4}, {"PID": 5, "MRG": 6}]}


@pytest.mark.parametrize("event", ["SIU^S14", "SIU^S14^SIU_S12", "SIU^S14^SIU_S14"])
def test_scheduling_notices_have_the_groups_of_siu_s12(event: str) -> None:
    message = groups(named(event, "2.5.1", "SCH|1", "PID|1", "RGS|1", "AIS|1"))
    assert list(message) == ["MSH", "SCH", "SIU_S12_PATIENT", "SIU_S12_RESOURCES"]


def test_what_the_dictionary_does_not_know_keeps_its_number() -> None:
    message = named(
        "ADT^A01",
        "2.5.1",
        "PID|1~2||4711^^^^^^^^^^x||||1970^D^y|a^b&c" + "|" * 32 + "late",
        "ZPI|a|b^c&d|e~f^g",
    )
    pid = message["PID"]
    assert pid["SET_ID_PID"] == ["1", "2"]
    assert pid["PATIENT_IDENTIFIER_LIST"] == [{"ID_NUMBER": "4711", "CX_11": "x"}]
    assert pid["DATE_TIME_OF_BIRTH"] == {"TIME": "1970", "DEGREE_OF_PRECISION": "D", "TS_3": "y"}
    assert pid["ADMINISTRATIVE_SEX"] == {"IS_1": "a", "IS_2": {"IS_2_1": "b", "IS_2_2": "c"}}
    assert pid["PID_40"] == "late"
    assert message["ZPI"] == [
        {
            "n": 3,
            "ZPI_1": "a",
            "ZPI_2": {"ZPI_2_1": "b", "ZPI_2_2": {"ZPI_2_2_1": "c", "ZPI_2_2_2": "d"}},
            "ZPI_3": ["e", {"ZPI_3_1": "f", "ZPI_3_2": "g"}],
        }
    ]


def test_null_empty_repetitions_and_escapes() -> None:
    pid = named("ADT^A01", "2.5.1", r'PID|||~4711||""||""|""~~M|||A \T\ B^')["PID"]
    assert pid["PATIENT_IDENTIFIER_LIST"] == [None, {"ID_NUMBER": "4711"}]
    assert pid["PATIENT_NAME"] == [{"FAMILY_NAME": {"SURNAME": '""'}}]
    assert pid["ADMINISTRATIVE_SEX"] == ['""', None, "M"]
    assert pid["PATIENT_ADDRESS"] == [{"STREET_ADDRESS": {"STREET_OR_MAILING_ADDRESS": "A & B"}}]


@pytest.mark.parametrize(
    ("value_type", "sent", "value"),
    [
        ("NM", "1.50", "1.50"),
        ("CWE", "A^text", {"IDENTIFIER": "A", "TEXT": "text"}),
        ("SN", ">^5", {"COMPARATOR": ">", "NUM1": "5"}),
        ("ZZ", "a^b", {"ZZ_1": "a", "ZZ_2": "b"}),
        ("ST", "a^b", {"ST_1": "a", "ST_2": "b"}),
        ("", "a^b", {"VARIES_1": "a", "VARIES_2": "b"}),
        ("not a type", "a^b", {"VARIES_1": "a", "VARIES_2": "b"}),
        ("", "a", "a"),
    ],
)
def test_an_observation_has_the_type_that_it_tells(value_type: str, sent: str, value: Any) -> None:
    message = named("ORU^R01", "2.6", "OBR|1", f"OBX|1|{value_type}|8867-4||{sent}")
    (result,) = message["ORU_R01_PATIENT_RESULT"]
    (order,) = result["ORU_R01_ORDER_OBSERVATION"]
    (observation,) = order["ORU_R01_OBSERVATION"]
    assert observation["OBX"]["OBSERVATION_VALUE"] == [value]


def test_results_stand_under_their_order_and_patient() -> None:
    message = named(
        "ORU^R01", "2.5.1", *of("PID PD1 PV1 ORC OBR NTE OBX NTE ZOB OBX SPM OBX OBR OBX PID OBR OBX DSC")
    )
    assert groups(message) == {
        "MSH": 1,
        "ORU_R01_PATIENT_RESULT": [
            {
                "ORU_R01_PATIENT": {"PID": 2, "PD1": 3, "ORU_R01_VISIT": {"PV1": 4}},
                "ORU_R01_ORDER_OBSERVATION": [
                    {
                        "ORC": 5,
                        "OBR": 6,
                        "NTE": [7],
                        "ORU_R01_OBSERVATION": [{"OBX": 8, "NTE": [9], "ZOB": [10]}, {"OBX": 11}],
                        "ORU_R01_SPECIMEN": [{"SPM": 12, "OBX": [13]}],
                    },
                    {"OBR": 14, "ORU_R01_OBSERVATION": [{"OBX": 15}]},
                ],
            },
            {
                "ORU_R01_PATIENT": {"PID": 16},
                "ORU_R01_ORDER_OBSERVATION": [{"OBR": 17, "ORU_R01_OBSERVATION": [{"OBX": 18}]}],
            },
        ],
        "DSC": 19,
    }


def test_the_next_order_is_no_prior_result_of_the_one_before() -> None:
    message = named("OML^O21^OML_O21", "2.5.1", *of("PID ORC OBR OBX ORC OBR"))
    first, second = message["OML_O21_ORDER"]
    assert groups(first) == {
        "ORC": 3,
        "OML_O21_OBSERVATION_REQUEST": {"OBR": 4, "OML_O21_OBSERVATION": [{"OBX": 5}]},
    }
    assert groups(second) == {"ORC": 6, "OML_O21_OBSERVATION_REQUEST": {"OBR": 7}}


def test_a_group_does_not_begin_anew_in_its_middle() -> None:
    """A visit after a result is no other patient's."""
    message = named("ORU^R01", "2.5.1", *of("PID OBR OBX PV1 OBX"))
    (result,) = groups(message["ORU_R01_PATIENT_RESULT"])
    (order,) = result["ORU_R01_ORDER_OBSERVATION"]
    assert order["ORU_R01_OBSERVATION"] == [{"OBX": 4, "PV1": [5]}, {"OBX": 6}]


def test_a_choice_holds_one_alternative() -> None:
    message = named("ORM^O01", "2.3", *of("PID ORC OBR NTE ORC RXO RXR"))
    assert groups(message["ORM_O01_ORDER"]) == [
        {"ORC": 3, "ORM_O01_ORDER_DETAIL": {"ORM_O01_CHOICE": {"OBR": 4}, "NTE": [5]}},
        {"ORC": 6, "ORM_O01_ORDER_DETAIL": {"ORM_O01_CHOICE": {"RXO": 7}, "RXR": [8]}},
    ]


def test_what_is_out_of_order_or_too_much_stays() -> None:
    message = named("ADT^A01", "2.5.1", *of("EVN PV1 PID PID OBX IN1 IN2 IN1 PD1 ZZZ"))
    assert groups(message) == {
        "MSH": 1,
        "EVN": 2,
        "PV1": 3,
        "PID": [4, 5],
        "OBX": [6],
        "ADT_A01_INSURANCE": [{"IN1": 7, "IN2": 8}, {"IN1": 9, "ZZZ": [11]}],
        "PD1": 10,
    }


@pytest.mark.parametrize(
    ("event", "version", "group"),
    [
        ("ORU^R01", "2.5.1", "ORU_R01_PATIENT_RESULT"),
        ("ORU^R01^ORU_R01", "9", "ORU_R01_PATIENT_RESULT"),
        ("ORU^R01^NONSENSE", "2.5.1", "ORU_R01_PATIENT_RESULT"),
        ("ORU^R40^ORU_R40", "2.6", "ORU_R40_PATIENT_RESULT"),
        ("ORU^R01^ORU_R30", "2.5.1", None),
        ("ABC^XYZ", "2.5.1", None),
        ("ORU", "2.5.1", None),
    ],
)
def test_the_structure_is_the_one_named_else_the_events(event: str, version: str, group: str | None) -> None:
    message = named(event, version, "PID|1")
    assert (group in message) if group else groups(message)["PID"] in (2, [2])


def leaves(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in ("n", "meta"):
                yield from leaves(value, (*path, key))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from leaves(value, (*path, i))
    elif content is not None:
        yield path, content


def record_leaves(record: Any) -> list[str]:
    return [
        value
        for segment in record["segments"]
        for repetitions in segment["fields"].values()
        for repetition in repetitions
        for value in repetition.values()
    ]


def numbers(content: Any) -> Iterator[int]:
    if isinstance(content, dict):
        if "n" in content:
            yield content["n"]
        else:
            for key, value in content.items():
                if key != "meta":
                    yield from numbers(value)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value)


def assert_conserved(record: Any) -> None:
    message = with_long_names(record)
    assert Counter(map(hash, record_leaves(record))) == Counter(hash(value) for _, value in leaves(message))
    assert sorted(numbers(message)) == [segment["n"] for segment in record["segments"]]
    assert message["meta"] == record["meta"]
    json.dumps(message)


def test_the_examples_keep_every_value() -> None:
    files = [file for file in sorted(EXAMPLES.iterdir()) if file.suffix != ".md"]
    found = [r for file in files for r in decode_stream([file.read_bytes()], source=file.name)]
    messages = [result for result in found if isinstance(result, Message)]
    assert messages
    for message in messages:
        assert_conserved(message.record)


IDS = st.sampled_from(
    of("PID PD1 NK1 PV1 ORC OBR OBX NTE SPM AL1 DG1 IN1 IN2 PR1 ROL RXO RXA SCH RGS AIS ZZ1 QRD")
)
POSITION = st.integers(1, 60)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Records of any shape: the value is its own place, so that none can stand for another."""
    segments = [{"n": 1, "id": "MSH", "fields": {"1": [{"1": "|"}]}}]
    for n, name in enumerate(draw(st.lists(IDS, max_size=12)), 2):
        fields: dict[str, list[dict[str, str]]] = {}
        for field in sorted(draw(st.sets(POSITION, max_size=5))):
            repetitions: list[dict[str, str]] = []
            for r in range(draw(st.integers(1, 3))):
                places = draw(st.sets(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=4))
                repetitions.append(
                    {(f"{c}.{s}" if s > 1 else str(c)): f"{n}.{field}.{r}.{c}.{s}" for c, s in sorted(places)}
                )
            fields[str(field)] = repetitions
        if name == "OBX" and draw(st.booleans()):
            fields["2"] = [{"1": draw(st.sampled_from(["CE", "CX", "NM", "ED", "XX", "odd", "OBX"]))}]
        segments.append({"n": n, "id": name, "fields": fields})
    event = draw(
        st.sampled_from(["ORU_R01", "ADT_A01", "ORM_O01", "OML_O21", "SIU_S12", "VXU_V04", "XXX_X01"])
    )
    meta = {
        "version": draw(st.sampled_from(["2.1", "2.3", "2.5.1", "2.8", None])),
        "message_type": event[:3],
        "trigger_event": event[4:],
        "structure": event,
    }
    return {"meta": meta, "segments": segments}


@given(records())
def test_every_value_stands_in_it_once(record: dict[str, Any]) -> None:
    assert_conserved(record)


def test_no_name_is_that_of_a_number() -> None:
    """``CX_11`` is component 11, whatever the dictionary calls others."""
    content = json.loads((EXAMPLES.parents[1] / "loaders/hl7/dictionary.json").read_text("utf-8"))
    for kind in ("segments", "datatypes"):
        for owner, histories in content[kind].items():
            for number, history in enumerate(histories, 1):
                for _, text in history:
                    found = re.match(rf"{owner}_(\d+) ", text)
                    assert found is None or int(found[1]) == number, owner
