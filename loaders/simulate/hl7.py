"""How the hospital's HL7 v2.5.1 messages are spelled (ER7): segments and their fields."""

from collections.abc import Mapping
from dataclasses import dataclass

from loaders.simulate.hospital import EHR_AUTHORITY, FACILITY, NATIONAL_AUTHORITY, Patient
from loaders.simulate.times import hl7_time

APPLICATION = "MERIDIAN"
STRUCTURES = {
    "ADT^A01": "ADT_A01",
    "ADT^A02": "ADT_A02",
    "ADT^A03": "ADT_A03",
    "ADT^A08": "ADT_A01",
    "ADT^A11": "ADT_A09",
    "ADT^A40": "ADT_A39",
    "ORU^R01": "ORU_R01",
}
ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


@dataclass(frozen=True)
class Message:
    """One message as sent: when (ms), its type (``ADT``, ``ORU``) and its bytes, segments ended by CR."""

    at: int
    message_type: str
    er7: bytes


@dataclass(frozen=True)
class Visit:
    """An encounter, its times in ms; ``location`` is point of care, room, bed."""

    number: str
    patient_class: str
    location: tuple[str, str, str]
    attending: str
    admitted_at: int
    discharged_at: int | None


def text(value: str) -> str:
    """A value with HL7's delimiters escaped."""
    return value.translate(ESCAPES)


def segment(name: str, fields: Mapping[int, str]) -> str:
    """A segment from its fields by position; those that are absent are empty, and no empty one ends it."""
    return "|".join([name, *(fields.get(position, "") for position in range(1, max(fields) + 1))]).rstrip("|")


def message(at: int, trigger: str, control_id: str, offset: str, segments: list[str]) -> Message:
    """A message of one type (``ADT^A01``); ``offset`` is what follows its time (``+0000`` or nothing)."""
    # MSH-1 is the field separator itself, so the fields of MSH are counted from 2.
    header = segment(
        "MSH",
        {
            1: "^~\\&",
            2: APPLICATION,
            3: FACILITY,
            4: "WAREHOUSE",
            5: FACILITY,
            6: hl7_time(at, offset),
            8: f"{trigger}^{STRUCTURES[trigger]}",
            9: control_id,
            10: "P",
            11: "2.5.1",
            14: "AL",
            15: "NE",
            17: "UNICODE UTF-8",
        },
    )
    er7 = "".join(line + "\r" for line in [header, *segments])
    return Message(at, trigger[:3], er7.encode())


def evn(trigger: str, at: int, offset: str) -> str:
    """EVN: what happened and when."""
    return segment("EVN", {1: trigger[4:], 2: hl7_time(at, offset)})


def pid(patient: Patient, phone: str = "") -> str:
    """PID: the EHR's record number first, then the national identifier where there is one."""
    identifiers = [f"{patient.record_number}^^^{EHR_AUTHORITY}^MR"]
    if patient.national_id is not None:
        identifiers.append(f"{patient.national_id}^^^{NATIONAL_AUTHORITY}^NI")
    return segment(
        "PID",
        {
            1: "1",
            3: "~".join(identifiers),
            5: f"{text(patient.family_name)}^{text(patient.given_name)}^^^^^L",
            7: f"{patient.birth_date:%Y%m%d}",
            8: patient.sex,
            11: f"{text('1 Nowhere & Nothing Street')}^^Exampleton^^{patient.zip_code}^^H",
            13: phone,
        },
    )


def mrg(merged: Patient) -> str:
    """MRG: the identifier that goes."""
    return segment("MRG", {1: f"{merged.record_number}^^^{EHR_AUTHORITY}^MR"})


def pv1(visit: Visit, offset: str) -> str:
    """PV1: where the patient lies, who attends, which visit, since when and until when."""
    fields = {
        1: "1",
        2: visit.patient_class,
        3: f"{'^'.join(visit.location)}^{FACILITY}",
        7: visit.attending,
        19: f"{visit.number}^^^{FACILITY}^VN",
        44: hl7_time(visit.admitted_at, offset),
    }
    if visit.discharged_at is not None:
        fields[45] = hl7_time(visit.discharged_at, offset)
    return segment("PV1", fields)


@dataclass(frozen=True)
class Observation:
    """One result: LOINC code, name, HL7 value type, value, UCUM unit, status (OBX-11)."""

    code: str
    name: str
    value_type: str
    value: str
    unit: str
    status: str = "F"


def obx(set_id: int, observation: Observation, sub_id: str, observed_at: int, offset: str) -> str:
    """OBX: one observation."""
    return segment(
        "OBX",
        {
            1: str(set_id),
            2: observation.value_type,
            3: f"{observation.code}^{observation.name}^LN",
            4: sub_id,
            5: text(observation.value),
            6: f"{text(observation.unit)}^^UCUM" if observation.unit else "",
            11: observation.status,
            14: hl7_time(observed_at, offset),
        },
    )


def orc(filler_order: str, at: int, offset: str) -> str:
    """ORC: results of an order."""
    return segment("ORC", {1: "RE", 2: f"P{filler_order[1:]}", 3: filler_order, 9: hl7_time(at, offset)})


def obr(filler_order: str, observed_at: int, offset: str, status: str) -> str:
    """OBR: the panel of vital signs that the observations below belong to."""
    return segment(
        "OBR",
        {
            1: "1",
            2: f"P{filler_order[1:]}",
            3: filler_order,
            4: "85353-1^Vital signs panel^LN",
            7: hl7_time(observed_at, offset),
            22: hl7_time(observed_at, offset),
            25: status,
        },
    )
