"""What the loader's gate refused: where it passes today it becomes a row, under its own coordinates.

It keeps its time of arrival too, and is a row of a new batch of kind ``replay``: rows that came, rejects that
went.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

from loaders.books import Entry, Place, write_entry
from loaders.errors import DataError
from loaders.gate import Gate, is_tombstone, original
from loaders.kafka.records import Sorter, open_avro
from loaders.replay.choice import Choice, Sized, portions
from loaders.settings import Settings
from loaders.topics import Topic
from loaders.warehouse.found import COORDINATES, Coordinates, Found
from loaders.warehouse.layout import POSITIONS, REJECTS, topic_columns
from loaders.warehouse.protocol import Warehouse
from loaders.warehouse.statements import Cell, Statements


class _Reject(NamedTuple):
    """A row of the rejects, as far as it goes on."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp: datetime | None
    timestamp_type: str | None
    key: str | None
    key_bytes: bytes | None
    headers: str | None
    bytes: bytes | None
    loaded_at: datetime


class TransportReplay:
    """Sends rejects of the gate through it again."""

    def __init__(self, warehouse: Warehouse, topics: Mapping[str, Topic], settings: Settings) -> None:
        """Do nothing yet."""
        self.rows: Counter[str] = Counter()
        """Rejects that became rows, by topic."""
        self.still_rejected = 0
        self._warehouse = warehouse
        self._topics = topics
        self._settings = settings
        self._gates = {name: Gate(topic, settings.max_record_bytes) for name, topic in topics.items()}
        avro = open_avro(settings)
        self._sorters = {
            name: Sorter(topic, settings.max_record_bytes, avro) for name, topic in topics.items()
        }
        self._from_directories: set[str] = set()

    def run(self, choice: Choice) -> None:
        """Find what passes today, then move it, a portion a transaction.

        Raises:
            CdwError: the warehouse does not allow it; what was moved before stays.
        """
        for portion in portions(self._passing(choice), self._settings):
            self._move(portion)

    def _passing(self, choice: Choice) -> list[Sized]:
        passing: list[Sized] = []
        condition, parameters = choice.condition("reason", "sha256")
        with self._warehouse.maintenance() as statements:
            directories = statements.execute(
                f"select topic_id from {POSITIONS} where cluster like %s",  # noqa: S608 - our own name
                ("dir:%",),
            )
            self._from_directories = {topic_id for (topic_id,) in directories}
            rejects = statements.stream(
                f"select {COORDINATES}, _topic, _key_bytes, bytes, "  # noqa: S608 - our own names
                # A time that no warehouse can hold is no matter of the gate.
                f"reason not in ('E_TIMESTAMP', 'E_HEADERS') from {REJECTS} where {condition}",
                parameters,
            )
            for topic_id, partition, offset, topic, key, data, can_pass in rejects:
                if can_pass and self._passes(topic, topic_id, key, data):
                    passing.append(Sized(Coordinates(topic_id, partition, offset), len(data or b"")))
                else:
                    self.still_rejected += 1
        return passing

    def _passes(self, name: str, topic_id: str, key: bytes | None, data: bytes | None) -> bool:
        topic = self._topics.get(name)
        if topic is None or self._read(topic, topic_id, data)[1]:
            return False
        return self._sorters[name].read_key(key)[1] is None

    def _read(self, topic: Topic, topic_id: str, data: bytes | None) -> tuple[bytes | None, str | None]:
        """The value that a row has, and why there is none."""
        if data is None or topic_id not in self._from_directories:
            return self._sorters[topic.name].read(data)
        # In a topic directory an original is JSON with base64, in Kafka it is the bytes themselves.
        reason = self._gates[topic.name].check(data)
        if reason or is_tombstone(data):
            return None, reason
        return (original(data) if topic.is_restricted else data), None

    def _move(self, portion: list[Coordinates]) -> None:
        try:
            with self._warehouse.maintenance() as statements:
                moved = self._move_at_once(statements, portion)
        except DataError:
            # What the warehouse itself refuses stays, and costs the others nothing.
            if len(portion) == 1:
                self.still_rejected += 1
                return
            middle = len(portion) // 2
            self._move(portion[:middle])
            self._move(portion[middle:])
        else:
            self.rows += moved

    def _move_at_once(self, statements: Statements, portion: list[Coordinates]) -> Counter[str]:
        found = Found(statements)
        condition, parameters = found.note(REJECTS, portion)
        rejects = statements.execute(
            "select _topic, _topic_id, _partition, _offset, _timestamp, _timestamp_type, _key, "  # noqa: S608
            f"_key_bytes, cast(_headers as text), bytes, _loaded_at from {REJECTS} where {condition} "
            "order by _offset",
            parameters,
        )
        statements.execute(f"delete from {REJECTS} where {condition}", parameters)  # noqa: S608
        by_place: defaultdict[Place, list[_Reject]] = defaultdict(list)
        for row in rejects:
            by_place[Place(*row[:3])].append(_Reject(*row))
        for place, records in by_place.items():
            self._insert(statements, place, records)
        found.forget()
        return Counter({place.topic: len(records) for place, records in by_place.items()})

    def _insert(self, statements: Statements, place: Place, records: list[_Reject]) -> None:
        at = datetime.now(UTC).replace(tzinfo=None)
        batch_id = write_entry(statements, Entry("replay", place, len(records), -len(records), at))
        topic = self._topics[place.topic]
        statements.append(
            topic.qualified,
            topic_columns(topic),
            {
                "_topic": place.topic,
                "_topic_id": place.topic_id,
                "_partition": place.partition,
                "_offset": [record.offset for record in records],
                "_timestamp": [record.timestamp for record in records],
                "_timestamp_type": [record.timestamp_type for record in records],
                "_key": [self._key(record) for record in records],
                "_headers": [record.headers for record in records],
                "_batch_id": batch_id,
                "_loaded_at": [record.loaded_at for record in records],
                **self._content(topic, records),
            },
        )

    def _key(self, record: _Reject) -> str | None:
        if record.key_bytes is None:
            return record.key
        return self._sorters[record.topic].read_key(record.key_bytes)[0]

    def _content(self, topic: Topic, records: Sequence[_Reject]) -> dict[str, list[Cell]]:
        values: list[Cell] = []
        digests: list[Cell] = []
        for record in records:
            value, _ = self._read(topic, record.topic_id, record.bytes)
            values.append(value)
            digests.append(None if value is None else sha256(value).hexdigest())
        return {"sha256": digests, "bytes": values} if topic.is_restricted else {"payload": values}
