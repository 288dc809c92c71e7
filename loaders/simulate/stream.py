"""The telemetry of all devices in the order in which it arrives."""

import heapq
from collections.abc import Iterator

from loaders.kafka.outgoing import Outgoing
from loaders.simulate.defects import KINDS
from loaders.simulate.scenario import Scenario
from loaders.simulate.telemetry import Reading, as_line, healthy_readings

TELEMETRY_TOPIC = "device.telemetry"


def device_readings(scenario: Scenario, index: int) -> Iterator[Reading]:
    """The readings of one device, its defects laid over them, in order of arrival."""
    device = scenario.devices[index]
    readings = healthy_readings(scenario.config, device, scenario.courses[index])
    for injection in scenario.injections:
        if injection.device.device_id == device.device_id:
            readings = KINDS[injection.name].apply(readings, injection)
    return readings


def telemetry(scenario: Scenario) -> Iterator[tuple[int, Outgoing]]:
    """(arrival in ms, record) of every reading of every device; memory holds one reading a device."""

    def arrivals(index: int) -> Iterator[tuple[int, Outgoing]]:
        device = scenario.devices[index]
        return (
            (reading.arrived_at, Outgoing(TELEMETRY_TOPIC, device.device_id, as_line(device, reading)[:-1]))
            for reading in device_readings(scenario, index)
        )

    # The key is the arrival alone: a record must not decide which device goes first.
    return heapq.merge(
        *(arrivals(index) for index in range(len(scenario.devices))), key=lambda arrival: arrival[0]
    )
