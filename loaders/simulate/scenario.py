"""Who gets what: devices, defects, courses of prescriptions and HL7 parts, from the seed.

By default:

- three of five devices, but no more than there are kinds, get a defect each: the kinds of ``KINDS`` in
  order (those that last too long for the window are left out), the devices in an order shuffled by seed;
- half of the devices, but no more than there are courses, get a course of ``COURSES`` each, in order:
  devices without a defect first; one with a defect gets none that would change what is in force;
- the first of the shuffled devices belongs to the patient who was registered twice: HL7 knows that patient
  by a second number until the two are merged, and the device for ever;
- of the other patients one in ten is never heard of in HL7;
- one in ten more people appear in HL7 only and have no device.
"""

from dataclasses import dataclass

from loaders.errors import CdwError
from loaders.simulate.config import Config, device_id
from loaders.simulate.defects import KINDS, Injection
from loaders.simulate.hospital import Device, Patient, make_device, make_patient
from loaders.simulate.prescriptions import COURSES, UNSEEN_BY_THE_DEVICE, Course, follow_course
from loaders.simulate.times import HOUR, MINUTE

FIRST_NUMBER_IN_HL7_ONLY = 500_001


@dataclass(frozen=True)
class Scenario:
    """All that is settled before the first reading; devices, courses and their names run in step.

    ``registered_twice`` and ``silent_in_hl7`` are positions in ``devices``.
    """

    config: Config
    devices: list[Device]
    courses: list[Course]
    course_names: list[str | None]
    injections: list[Injection]
    registered_twice: int | None
    silent_in_hl7: frozenset[int]
    only_in_hl7: list[Patient]


def parse_defects(config: Config, texts: list[str]) -> tuple[tuple[str, str], ...]:
    """The ``NAME:DEVICE`` texts as pairs, for ``Config.defects``.

    Raises ValueError, in words for the user, for an unknown defect or device or a pair named twice.
    """
    device_ids = [device_id(number) for number in range(1, config.patients + 1)]
    pairs = []
    for text in texts:
        name, _, device = text.partition(":")
        if name not in KINDS:
            raise ValueError(f"no defect of that name; there are {', '.join(KINDS)}")
        if device not in device_ids:
            raise ValueError(f"{name}: no such device; there are {device_ids[0]} to {device_ids[-1]}")
        pairs.append((name, device))
    if len(set(pairs)) < len(pairs):
        raise ValueError("the same defect of the same device is asked for twice")
    return tuple(pairs)


def plan(config: Config) -> Scenario:
    """Settle everything that chance decides about who gets what.

    Raises CdwError if a defect that was asked for does not fit into the window.
    """
    rng = config.random("scenario")
    order = list(range(config.patients))
    rng.shuffle(order)
    registered_twice = order[0] if config.patients >= 3 else None
    devices = [
        make_device(config, index + 1, is_registered_twice=index == registered_twice)
        for index in range(config.patients)
    ]
    injections = inject(config, devices, order)
    faulty = {injection.device.device_id for injection in injections}
    sound = [index for index in order if devices[index].device_id not in faulty and index != registered_twice]
    names = share_out_courses(config, sound, [index for index in order if index not in sound])
    few = config.patients // 10 or (1 if config.patients >= 4 else 0)
    return Scenario(
        config=config,
        devices=devices,
        courses=[follow_course(config, device, name) for device, name in zip(devices, names, strict=True)],
        course_names=names,
        injections=injections,
        registered_twice=registered_twice,
        silent_in_hl7=frozenset(rng.sample(order[1:], few)),
        only_in_hl7=[make_patient(config, FIRST_NUMBER_IN_HL7_ONLY + number) for number in range(few)],
    )


def inject(config: Config, devices: list[Device], order: list[int]) -> list[Injection]:
    """The defects with their times; several of one device share its window and never overlap."""
    if config.defects is None:
        fitting = [name for name, kind in KINDS.items() if kind.shortest * MINUTE <= longest_in(config, 1)]
        pairs = [
            (name, devices[index].device_id)
            for name, index in zip(fitting, order[: config.patients * 3 // 5], strict=False)
        ]
    else:
        pairs = list(config.defects)
    of_device: dict[str, list[str]] = {}
    for name, owner in pairs:
        of_device.setdefault(owner, []).append(name)
    by_id = {device.device_id: device for device in devices}
    return [
        place(config, by_id[owner], name, position, len(names))
        for owner, names in of_device.items()
        for position, name in enumerate(names)
    ]


def longest_in(config: Config, slots: int) -> int:
    """The longest time (ms) that a defect may last: half of its share of the window."""
    return (config.ends_at - config.starts_at) // slots // 2


def place(config: Config, device: Device, name: str, slot: int, slots: int) -> Injection:
    """A defect at a time chosen by seed within its slot of the window.

    Raises CdwError if the slot is too short.
    """
    kind = KINDS[name]
    rng = config.random("defect", name, device.device_id)
    longest = min(kind.longest, longest_in(config, slots) // MINUTE)
    if longest < kind.shortest:
        raise CdwError(
            f"the defect {name} does not fit: it lasts {kind.shortest} minutes at least",
            where=f"{config.hours} hours simulated, shared by {slots} defect(s) of that device",
            do=f"simulate {-(-kind.shortest * 2 * slots // 60)} hours or more",
        )
    grain = HOUR if kind.whole_hours else MINUTE
    lasts = rng.randrange(kind.shortest * MINUTE, longest * MINUTE + 1, grain)
    share = (config.ends_at - config.starts_at) // slots
    earliest = config.starts_at + slot * share + share // 8
    latest = config.starts_at + (slot + 1) * share - share // 16 - lasts
    started_at = rng.randrange(-(-earliest // grain) * grain, latest + 1, grain)
    return Injection(
        name=name,
        device=device,
        metrics=(rng.choice(kind.metrics),) if kind.one_of_metrics else kind.metrics,
        started_at=started_at,
        ended_at=started_at + lasts,
        simulation_ends_at=config.ends_at,
        rng=rng,
    )


def share_out_courses(config: Config, sound: list[int], faulty: list[int]) -> list[str | None]:
    """The name of the course of each device's prescription, in the order of the devices."""
    names: list[str | None] = [None] * config.patients
    remaining_sound, remaining_faulty = iter(sound), iter(faulty)
    for name in list(COURSES)[: config.patients // 2]:
        index = next(remaining_sound, None)
        if index is None and name in UNSEEN_BY_THE_DEVICE:
            index = next(remaining_faulty, None)
        if index is not None:
            names[index] = name
    return names
