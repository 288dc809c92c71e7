"""What the hospital's HL7 feed says: patients come, move, are measured and leave; some things go wrong.

A patient's place in the feed (0, 1, 2…) decides which parts of the play fall to them, so that every part
is played in any simulation with enough patients.
"""

import heapq
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from loaders.simulate.config import Config
from loaders.simulate.hl7 import Message, Observation, Visit, evn, message, mrg, obr, obx, orc, pid, pv1
from loaders.simulate.hospital import Patient, second_registration
from loaders.simulate.scenario import Scenario
from loaders.simulate.times import HOUR, MINUTE
from loaders.simulate.vitals import CONDITIONS, IMPLAUSIBLE, measure

ROUND_EVERY = 4 * HOUR
WARDS = ("RESP", "MED1", "ICU")
DOCTORS = ("D1001^Zzdoctor^Ada^^^Dr", "D1002^Zzhealer^Bo^^^Dr", "D1003^Zzmedic^Cy^^^Dr")

Role = Literal["usual", "registered_twice", "cancelled"]


class Stay:
    """One patient's stay: who and where the patient is at each time (ms), and the messages about it."""

    def __init__(self, config: Config, place: int, patient: Patient, role: Role) -> None:
        """``place`` is the patient's place in the feed."""
        self.place = place
        self.role = role
        self.patient = patient
        self.starts_at, self.ends_at = config.starts_at, config.ends_at
        self.rng = config.random("stay", place)
        self.offset = "+0000" if place % 2 == 0 else ""
        self.messages_sent = 0
        window = self.ends_at - self.starts_at
        # Most are in the ward when the simulation begins; every fifth comes in its first hours.
        before = self.rng.randrange(HOUR, 6 * HOUR, MINUTE)
        self.admitted_at = self.starts_at + (window // 16 if place % 5 == 4 else -before)
        self.updated_at = self.starts_at + window * 3 // 10 if place % 4 == 2 else None
        self.transferred_at = self.starts_at + window * 2 // 5 if place % 3 == 0 else None
        self.merged_at = self.starts_at + window // 2 if role == "registered_twice" else None
        self.discharged_at = self.starts_at + window * 7 // 8 if place % 4 == 3 else None

    def patient_at(self, at: int) -> Patient:
        """The patient as registered then."""
        patient = self.patient
        if self.updated_at is not None and at >= self.updated_at:
            patient = replace(patient, zip_code="88" + patient.zip_code[2:])
        if self.merged_at is not None and at < self.merged_at:
            patient = second_registration(patient)
        return patient

    def visit_at(self, at: int) -> Visit:
        """The encounter as it stood then."""
        moved = self.transferred_at is not None and at >= self.transferred_at
        gone = self.discharged_at is not None and at >= self.discharged_at
        return Visit(
            number=f"VN{200000 + self.place}",
            patient_class="E" if self.role == "cancelled" else "I",
            location=(
                "STEP" if moved else WARDS[self.place % len(WARDS)],
                str(101 + self.place // 2),
                "AB"[self.place % 2],
            ),
            attending=DOCTORS[self.place % len(DOCTORS)],
            admitted_at=self.admitted_at,
            discharged_at=self.discharged_at if gone else None,
        )

    def messages(self) -> Iterator[Message]:
        """All messages of the stay in order of time."""
        if self.role == "cancelled":
            return self.cancelled_admission()
        return heapq.merge(self.movements(), self.rounds(), key=lambda sent: sent.at)

    def send(self, at: int, trigger: str, segments: list[str]) -> Message:
        """The next message of this stay."""
        self.messages_sent += 1
        return message(at, trigger, f"M{self.place:05d}{self.messages_sent:05d}", self.offset, segments)

    def movement(self, at: int, trigger: str, phone: str = "") -> Message:
        """Something that happens to the patient as a whole."""
        segments = [
            evn(trigger, at, self.offset),
            pid(self.patient_at(at), phone),
            pv1(self.visit_at(at), self.offset),
        ]
        return self.send(at, trigger, segments)

    def cancelled_admission(self) -> Iterator[Message]:
        """Admitted by mistake, which is taken back after forty minutes."""
        yield self.movement(self.admitted_at, "ADT^A01")
        yield self.movement(self.admitted_at + 40 * MINUTE, "ADT^A11")

    def movements(self) -> Iterator[Message]:
        """Admission, then an update, a transfer, a merge and the discharge, for those they fall to."""
        yield self.movement(self.admitted_at, "ADT^A01", phone="+00 555 0100")
        if self.updated_at is not None:
            # The telephone number is cleared by HL7's null.
            yield self.movement(self.updated_at, "ADT^A08", phone='""')
        if self.transferred_at is not None:
            yield self.movement(self.transferred_at, "ADT^A02")
        if self.merged_at is not None:
            at = self.merged_at
            merged = [
                evn("ADT^A40", at, self.offset),
                pid(self.patient_at(at)),
                mrg(second_registration(self.patient)),
            ]
            yield self.send(at, "ADT^A40", merged)
        if self.discharged_at is not None:
            yield self.movement(self.discharged_at, "ADT^A03")

    def rounds(self) -> Iterator[Message]:
        """Vital signs every four hours, with what follows from each round before the next begins."""
        condition = CONDITIONS[self.place % len(CONDITIONS)]
        first = max(self.admitted_at, self.starts_at) + (10 + self.place % 40) * MINUTE
        last = self.discharged_at or self.ends_at
        for number, at in enumerate(range(first, last, ROUND_EVERY)):
            observations = measure(
                condition, self.rng, fahrenheit=self.place % 4 == 1, mmol=self.place % 3 == 1
            )
            order = f"F{self.place:05d}-{number:04d}"
            yield from self.one_round(order, at, observations, (self.place + number) % 12)

    def one_round(self, order: str, at: int, observations: list[Observation], part: int) -> Iterator[Message]:
        """A round; of twelve in turn some are preliminary first, corrected, removed, absurd or sent twice."""
        if part == 0:
            yield self.results(order, at, at, [replace(one, status="P") for one in observations])
            yield self.results(order, at, at + 20 * MINUTE, observations)
            return
        if part == 7:
            observations = [IMPLAUSIBLE.get(one.code, one) for one in observations]
        first = self.results(order, at, at, observations)
        yield first
        chosen = self.rng.randrange(1, 6)
        if part == 3:
            corrected = replace(
                observations[chosen], value=str(int(observations[chosen].value) + 2), status="C"
            )
            yield self.results(order, at, at + 90 * MINUTE, self.amended(observations, corrected))
        elif part == 5:
            removed = replace(observations[chosen], status="W" if self.place % 2 else "D")
            yield self.results(order, at, at + 2 * HOUR, self.amended(observations, removed))
        elif part == 9:
            yield replace(first, at=at + 30 * MINUTE)

    def amended(self, observations: list[Observation], changed: Observation) -> list[Observation]:
        """What is sent when one observation has changed.

        Senders that number their observations (OBX-4) send that one alone, the others the whole panel.
        """
        if self.sub_id:
            return [changed]
        return [changed if one.code == changed.code else one for one in observations]

    @property
    def sub_id(self) -> str:
        """OBX-4: given by every other sender."""
        return "1" if self.place % 2 == 0 else ""

    def results(self, order: str, observed_at: int, at: int, observations: list[Observation]) -> Message:
        """An ORU for a round measured at ``observed_at`` and sent at ``at`` (ms)."""
        # The ward's monitor hears of a merge a round later than the registry, and uses the old number.
        patient = self.patient_at(at - ROUND_EVERY if self.merged_at is not None else at)
        statuses = {one.status for one in observations}
        result_status = "P" if statuses == {"P"} else "F" if statuses == {"F"} else "C"
        return self.send(
            at,
            "ORU^R01",
            [
                pid(patient),
                pv1(self.visit_at(at), self.offset),
                orc(order, at, self.offset),
                obr(order, observed_at, self.offset, result_status),
                *(
                    obx(set_id, one, self.sub_id, observed_at, self.offset)
                    for set_id, one in enumerate(observations, 1)
                ),
            ],
        )


def feed(scenario: Scenario) -> Iterator[Message]:
    """All messages of the hospital in the order in which they were sent."""
    people: list[tuple[Patient, Role]] = [
        (device.patient, "registered_twice" if index == scenario.registered_twice else "usual")
        for index, device in enumerate(scenario.devices)
        if index not in scenario.silent_in_hl7
    ]
    people += [(patient, "usual") for patient in scenario.only_in_hl7[1:]]
    people += [(patient, "cancelled") for patient in scenario.only_in_hl7[:1]]
    stays = [Stay(scenario.config, place, patient, role) for place, (patient, role) in enumerate(people)]
    return heapq.merge(*(stay.messages() for stay in stays), key=lambda sent: sent.at)


def broken(scenario: Scenario) -> list[bytes]:
    """Messages that no decoder can take: no MSH, delimiters that are none, no message type."""
    stay = Stay(scenario.config, 99_999, scenario.devices[0].patient, "usual")
    whole = stay.movement(scenario.config.starts_at, "ADT^A08").er7
    return [
        whole[whole.index(b"EVN") :],
        whole.replace(b"MSH|^~\\&|", b"MSH|^^^^|", 1),
        whole.replace(b"|ADT^A08^ADT_A01|", b"||", 1),
    ]
