"""The HL7 feed, read back by a plain splitter of its own."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import pytest

from loaders.simulate.config import Config
from loaders.simulate.scenario import Scenario, plan
from loaders.simulate.times import hl7_time
from loaders.simulate.ward import broken, feed


@dataclass(frozen=True)
class Parsed:
    """A message's segments by name, each a list of its fields, by HL7's numbers."""

    er7: bytes
    segments: dict[str, list[list[str]]]

    @property
    def trigger(self) -> str:
        return self.first("MSH", 9)

    @property
    def record_number(self) -> str:
        return self.first("PID", 3).split("^")[0]

    def first(self, segment: str, field: int) -> str:
        fields = self.segments[segment][0]
        return fields[field] if field < len(fields) else ""


def parse(er7: bytes) -> Parsed:
    segments = defaultdict(list)
    for line in er7.decode().removesuffix("\r").split("\r"):
        fields = line.split("|")
        if fields[0] == "MSH":
            fields.insert(1, "|")
        segments[fields[0]].append(fields)
    return Parsed(er7, dict(segments))


@lru_cache(maxsize=1)
def scenario() -> Scenario:
    return plan(Config(11, 20, 48))


@lru_cache(maxsize=1)
def messages() -> tuple[Parsed, ...]:
    return tuple(parse(message.er7) for message in feed(scenario()))


def of(trigger: str) -> list[Parsed]:
    return [message for message in messages() if message.trigger.startswith(trigger)]


def test_every_kind_of_message_is_there_in_order_of_time() -> None:
    assert {message.trigger for message in messages()} == {
        "ADT^A01^ADT_A01", "ADT^A02^ADT_A02", "ADT^A03^ADT_A03", "ADT^A08^ADT_A01", "ADT^A11^ADT_A09",
        "ADT^A40^ADT_A39", "ORU^R01^ORU_R01",
    }  # fmt: skip
    sent = [message.at for message in feed(scenario())]
    assert sent == sorted(sent)


def test_headers_are_whole() -> None:
    for message in messages():
        assert message.first("MSH", 2) == "^~\\&"
        assert message.first("MSH", 3) == "MERIDIAN"
        assert message.first("MSH", 4) == "GENERAL"
        assert message.first("MSH", 12) == "2.5.1"
        assert message.er7.endswith(b"\r")
        assert b"\n" not in message.er7
        assert not any(line.endswith(b"|") for line in message.er7.split(b"\r"))
    zones = Counter(message.first("MSH", 7)[14:] for message in messages())
    assert set(zones) == {"", "+0000"}


def test_a_control_id_names_one_message_and_one_is_sent_again_to_the_byte() -> None:
    by_id = defaultdict(list)
    for message in messages():
        by_id[message.first("MSH", 10)].append(message.er7)
    assert all(len(set(same)) == 1 for same in by_id.values())
    assert Counter(len(same) for same in by_id.values())[2] > 3


def test_registry_and_feed_share_record_numbers_and_each_has_some_of_its_own() -> None:
    registered = {device.patient.record_number for device in scenario().devices}
    heard = {message.record_number for message in messages()}
    second = next(d.sent_patient_id for d in scenario().devices if d.sent_patient_id not in registered)
    assert len(registered & heard) == 18
    assert len(registered - heard) == 2
    assert len(heard - registered - {second}) == 2


def test_patients_bear_two_identifiers_with_their_authorities() -> None:
    for message in messages():
        identifiers = [tuple(one.split("^")[3:]) for one in message.first("PID", 3).split("~")]
        assert identifiers in ([("EHR", "MR"), ("NATREG", "NI")], [("EHR", "MR")])


def test_admissions_have_place_visit_and_time() -> None:
    for message in of("ADT^A01"):
        place = message.first("PV1", 3).split("^")
        assert len(place) == 4
        assert all(place)
        assert message.first("PV1", 2) in ("I", "E")
        assert message.first("PV1", 7)
        assert message.first("PV1", 19).startswith("VN")
        assert message.first("PV1", 44) == message.first("MSH", 7)
    visits = [message.first("PV1", 19) for message in of("ADT^A01")]
    assert len(visits) == len(set(visits))


def test_a_transfer_moves_the_patient_for_good() -> None:
    moved = of("ADT^A02")
    assert len(moved) > 3
    for transfer in moved:
        for message in messages():
            if "PV1" in message.segments and message.first("PV1", 19) == transfer.first("PV1", 19):
                after = message.first("MSH", 7) >= transfer.first("MSH", 7)
                assert message.first("PV1", 3).startswith("STEP^") == after


def test_a_discharge_ends_the_rounds() -> None:
    gone = of("ADT^A03")
    assert len(gone) > 2
    for discharge in gone:
        left_at = discharge.first("PV1", 45)
        assert left_at == discharge.first("MSH", 7) > discharge.first("PV1", 44)
        rounds = [one for one in of("ORU") if one.first("PV1", 19) == discharge.first("PV1", 19)]
        assert rounds
        assert all(one.first("OBR", 7) < left_at for one in rounds)


def test_an_admission_is_cancelled() -> None:
    (cancelled,) = of("ADT^A11")
    visit = cancelled.first("PV1", 19)
    assert [m.trigger[:7] for m in messages() if "PV1" in m.segments and m.first("PV1", 19) == visit] == [
        "ADT^A01",
        "ADT^A11",
    ]


def test_an_update_moves_house_and_clears_the_telephone() -> None:
    for update in of("ADT^A08"):
        assert update.first("PID", 13) == '""'
        before = next(m for m in of("ADT^A01") if m.record_number == update.record_number)
        assert before.first("PID", 11) != update.first("PID", 11)


def test_the_second_registration_is_merged_and_still_heard_of_once_more() -> None:
    (merge,) = of("ADT^A40")
    merged = merge.first("MRG", 1).split("^")[0]
    device = scenario().devices[scenario().registered_twice or 0]
    assert (merge.record_number, merged) == (device.patient.record_number, device.sent_patient_id)
    at = merge.first("MSH", 7)
    with_old = [m for m in messages() if m.record_number == merged]
    with_new = [m for m in of("ORU") if m.record_number == merge.record_number]
    assert [m for m in with_old if m.first("MSH", 7) < at]
    assert [m for m in with_old if m.first("MSH", 7) > at]
    assert with_new
    assert all(m.first("MSH", 7) > at for m in with_new)


def test_vital_signs_are_coded_and_come_in_more_than_one_unit() -> None:
    units = defaultdict(set)
    for message in of("ORU"):
        for obx in message.segments["OBX"]:
            code, _, system = obx[3].split("^")
            assert system == "LN"
            units[code].add(obx[6].split("^")[0])
    assert units == {
        "8310-5": {"Cel", "[degF]"}, "8867-4": {"/min"}, "9279-1": {"/min"}, "59408-5": {"%"},
        "8480-6": {"mm[Hg]"}, "8462-4": {"mm[Hg]"}, "2339-0": {"mg/dL", "mmol/L"}, "80288-4": {""},
        "3151-8": {"L/min"},
    }  # fmt: skip


def observations() -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """(status, value) in order of sending by (order, code, sub-id or position)."""
    found = defaultdict(list)
    for message in of("ORU"):
        for position, obx in enumerate(message.segments["OBX"], 1):
            key = (message.first("OBR", 3), obx[3].split("^")[0], obx[4] or str(position))
            found[key].append((obx[11], obx[5]))
            assert obx[14] == message.first("OBR", 7)
    return found


def test_observations_go_through_their_statuses() -> None:
    stories = {tuple(status for status, _ in story) for story in observations().values()}
    assert {("F",), ("P", "F"), ("F", "C"), ("F", "D"), ("F", "W"), ("F", "F")} == stories


def test_a_correction_changes_the_value() -> None:
    corrected = [story for story in observations().values() if [s for s, _ in story] == ["F", "C"]]
    assert corrected
    assert all(first != second for (_, first), (_, second) in corrected)


def test_some_values_are_implausible() -> None:
    values = {(code, value) for (_, code, _), story in observations().items() for _, value in story}
    assert ("8867-4", "700") in values
    assert ("8310-5", "98.6") in values
    plausible = [float(value) for code, value in values if code == "8867-4" and value != "700"]
    assert 40 < min(plausible) < max(plausible) < 150


def test_rounds_come_every_four_hours() -> None:
    rounds = defaultdict(set)
    for message in of("ORU"):
        rounds[message.first("PV1", 19)].add(message.first("OBR", 7)[:14])
    for times in rounds.values():
        hours = sorted({int(time[6:8]) * 24 + int(time[8:10]) for time in times})
        assert {later - earlier for earlier, later in pairwise(hours)} == {4}
        assert max(times) < hl7_time(scenario().config.ends_at)


def test_broken_messages_are_broken_each_in_its_way() -> None:
    no_msh, bad_delimiters, no_type = broken(scenario())
    assert not any(line.startswith(b"MSH") for line in no_msh.split(b"\r"))
    assert bad_delimiters.startswith(b"MSH|^^^^|")
    assert parse(no_type).trigger == ""
    assert parse(no_type).first("MSH", 12) == "2.5.1"


@pytest.mark.parametrize("number", [1, 2, 3, 5, 10])
def test_small_hospitals_have_a_feed_too(number: int) -> None:
    triggers = Counter(parse(m.er7).trigger[:7] for m in feed(plan(Config(1, number, 12))))
    assert triggers["ADT^A01"] >= max(1, number - number // 10 - 1)
    assert triggers["ORU^R01"] >= 2
