"""Invented people and their devices. Nobody here exists, and every name says so."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal

from loaders.simulate.config import READING_INTERVAL_SECONDS, Config, device_id
from loaders.simulate.times import SECOND

FACILITY = "GENERAL"
EHR_AUTHORITY = "EHR"
NATIONAL_AUTHORITY = "NATREG"

Metric = Literal["Pressure", "FlowRate", "FlowLevel"]
METRICS: tuple[Metric, ...] = ("Pressure", "FlowRate", "FlowLevel")
UNITS: dict[Metric, str] = {"Pressure": "cmH2O", "FlowRate": "L/min", "FlowLevel": "mL"}
"""What each metric is measured in where a reading states no unit (FlowLevel: the volume of a breath)."""

FAMILY_NAMES = (
    "Zzalder", "Zzbirch", "Zzcedar", "Zzdogwood", "Zzelm", "Zzfir", "Zzginkgo", "Zzhazel", "Zzivy",
    "Zzjuniper", "Zzkapok", "Zzlinden", "Zzmüller-Maple", "Zznutmeg", "Zzoak", "Zzpine", "Zzquince",
    "Zzrowan", "Zzspruce", "Zzteak", "Zzulmus", "Zzviburnum", "Zzwillow", "Zzyew",
)  # fmt: skip
GIVEN_NAMES = {
    "F": ("Testa", "Samplina", "Mocka", "Dummia", "Fictia", "Phonia", "Inventa"),
    "M": ("Testo", "Samplus", "Mocko", "Dummius", "Fictus", "Phonius", "Invento"),
}


@dataclass(frozen=True)
class Patient:
    """A person: ``record_number`` is issued by the EHR, ``national_id`` by the national register."""

    row_id: int
    record_number: str
    national_id: str | None
    family_name: str
    given_name: str
    sex: Literal["F", "M"]
    birth_date: date
    zip_code: str


def second_registration(patient: Patient) -> Patient:
    """The same person, registered once more in an emergency: another number, no national identifier."""
    return replace(patient, record_number=f"MRN8{patient.record_number[4:]}", national_id=None)


@dataclass(frozen=True)
class Model:
    """A make of device and the habits of its firmware."""

    model_type: str
    manufacturer: str
    software_version: str
    clock: Literal["iso", "iso_milliseconds", "iso_offset", "epoch_milliseconds"]
    sends_unit: bool
    sends_software_version: bool
    sends_sequence: bool


MODELS = (
    Model("Zephyr Three", "Fable Respiratory", "3.2.1", "iso", True, True, False),
    Model("Aerolis 200", "Borealis Invented Devices", "2.0.4", "iso_milliseconds", True, False, True),
    Model("Pneuma One", "Mockingbird Medical", "1.9.0", "epoch_milliseconds", False, True, True),
    Model("Brook Home", "Fable Respiratory", "5.0.0", "iso_offset", False, False, False),
)


@dataclass(frozen=True)
class Device:
    """A breathing device, its patient, and what it was set to when the simulation began.

    ``sent_patient_id`` is what it sends as its patient: not always the number the EHR has. Readings are
    taken ``phase_ms`` past each half minute and arrive ``delay_ms`` later.
    """

    row_id: int
    device_id: str
    serial_number: str
    model: Model
    patient: Patient
    sent_patient_id: str
    settings: dict[Metric, float]
    phase_ms: int
    delay_ms: int


def make_patient(config: Config, number: int) -> Patient:
    """The patient with this number; the same one however many others there are."""
    rng = config.random("patient", number)
    sex = rng.choice(("F", "M"))
    return Patient(
        row_id=1000 + number,
        record_number=f"MRN{100000 + number}",
        national_id=f"99{70000000 + number * 37:08d}",
        family_name=FAMILY_NAMES[(number - 1) % len(FAMILY_NAMES)],
        given_name=rng.choice(GIVEN_NAMES[sex]),
        sex="F" if sex == "F" else "M",
        birth_date=date(1935, 1, 1) + timedelta(days=rng.randrange(365 * 65)),
        zip_code=f"{rng.randrange(100):02d}000",
    )


def make_device(config: Config, number: int, *, is_registered_twice: bool = False) -> Device:
    """The device with this number, which belongs to the patient with the same number.

    It sends that patient's record number, or the one of the patient's second registration.
    """
    rng = config.random("device", number)
    model = MODELS[(number - 1) % len(MODELS)]
    # A clock that shows seconds ticks on them.
    grain = 1 if model.clock.endswith("milliseconds") else SECOND
    patient = make_patient(config, number)
    return Device(
        row_id=500 + number,
        device_id=device_id(number),
        serial_number=f"SN{rng.randrange(10**8):08d}",
        model=model,
        patient=patient,
        sent_patient_id=(second_registration(patient) if is_registered_twice else patient).record_number,
        settings={
            "Pressure": rng.choice((9.6, 9.8, 10.0, 10.2, 10.4)),
            "FlowRate": rng.choice((2.4, 2.5, 2.6)),
            "FlowLevel": rng.choice((110.0, 120.0, 130.0)),
        },
        phase_ms=rng.randrange(0, READING_INTERVAL_SECONDS * SECOND, grain),
        delay_ms=rng.randrange(200, 2 * SECOND),
    )
