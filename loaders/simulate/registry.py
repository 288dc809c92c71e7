"""The EHR's own tables of patients and devices, and how they change."""

from collections.abc import Iterable
from datetime import date

from loaders.simulate.config import Config
from loaders.simulate.debezium import Change, Row
from loaders.simulate.hospital import Device, Patient
from loaders.simulate.prescriptions import SNAPSHOT_BEFORE_START, Course
from loaders.simulate.times import MINUTE, SECOND

EPOCH = date(1970, 1, 1)


def patient_row(patient: Patient) -> Row:
    """A row of the EHR's ``patients``; ``birth_date`` in days since 1970, as Debezium sends a date."""
    return {
        "id": patient.row_id,
        "patient_id": patient.record_number,
        "given_name": patient.given_name,
        "family_name": patient.family_name,
        "gender": patient.sex,
        "birth_date": (patient.birth_date - EPOCH).days,
        "zip_code": patient.zip_code,
    }


def device_row(device: Device) -> Row:
    """A row of the EHR's ``devices``; settings are in the unit of their metric."""
    return {
        "id": device.row_id,
        "device_id": device.device_id,
        "patient_id": device.patient.record_number,
        "model_type": device.model.model_type,
        "manufacturer": device.model.manufacturer,
        "serial_number": device.serial_number,
        "software_version": device.model.software_version,
        "pressure_setting": device.settings["Pressure"],
        "flow_rate_setting": device.settings["FlowRate"],
        "flow_level": device.settings["FlowLevel"],
    }


def registry_changes(config: Config, devices: Iterable[Device], courses: Iterable[Course]) -> list[Change]:
    """What a snapshot finds of patients and devices, and what changes after it.

    A device that is set anew has its row updated; every seventh patient moves house.
    """
    snapshot_at = config.starts_at - SNAPSHOT_BEFORE_START
    middle = (config.starts_at + config.ends_at) // 2
    changes: list[Change] = []
    for device, course in zip(devices, courses, strict=True):
        person = patient_row(device.patient)
        changes.append(Change(snapshot_at, "patients", "r", None, person))
        if device.row_id % 7 == 0:
            moved = {**person, "zip_code": "99" + device.patient.zip_code[2:]}
            changes.append(Change(middle + device.row_id * SECOND, "patients", "u", person, moved))
        row = device_row(device)
        changes.append(Change(snapshot_at, "devices", "r", None, row))
        for at, settings in course.setpoints[1:]:
            reset = {**row, "pressure_setting": settings["Pressure"]}
            set_at = max(at, snapshot_at + MINUTE)
            # Without REPLICA IDENTITY FULL the row before is not known.
            changes.append(Change(set_at, "devices", "u", None, reset))
    return changes
