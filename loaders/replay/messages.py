"""What the HL7 decoder refused: where it is a message today, it is published as any message is.

The reject stays where it is, in a topic's table. Models count it no longer once a message of the same bytes
is loaded, and here it is passed over from then on.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from loaders.hl7.decoder import Message
from loaders.hl7.publish import MESSAGES, ORIGINALS, publish_place
from loaders.hl7.stream import Options, places
from loaders.ingest import topic_files
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import Outbox
from loaders.kafka.topics import ensure_topics
from loaders.replay.choice import Choice, Sized, portions
from loaders.settings import Settings
from loaders.warehouse.found import Coordinates, Found
from loaders.warehouse.protocol import Warehouse

_REJECTED, _MESSAGES, _ORIGINALS = "raw.hl7_rejected", "raw.hl7_messages", "raw_restricted.hl7_originals"
Put = Callable[[Sequence[Outgoing]], None]
_SHA256 = "(r.payload->>'sha256')"


class _Reject(NamedTuple):
    """A reject of the decoder: where it was in its input, and its bytes."""

    sha256: str
    source: str
    position: int
    byte_offset: int
    data: bytes


class MessageReplay:
    """Has rejects of the decoder decoded again."""

    def __init__(self, warehouse: Warehouse, settings: Settings) -> None:
        """Do nothing yet."""
        self.published = 0
        self.still_rejected = 0
        self._warehouse = warehouse
        self._settings = settings

    def run(self, choice: Choice, directory: Path | None) -> None:
        """Publish what is a message today, to a topic directory, or without one to Kafka.

        Raises:
            CdwError: the warehouse, the directory or Kafka do not allow it; what was published before stays.
        """
        with ExitStack() as stack:
            put = None
            for records in self._decoded(choice):
                if put is None:  # Kafka is asked for nothing where there is nothing to publish
                    put = stack.enter_context(self._output(directory))
                put(records)
                self.published += 1

    @contextmanager
    def _output(self, directory: Path | None) -> Iterator[Put]:
        topics = [ORIGINALS, MESSAGES]
        if directory:
            with topic_files(directory, topics) as put:
                yield put
        else:
            ensure_topics(self._settings, topics)
            with Outbox(self._settings) as outbox:
                yield outbox.put

    def _decoded(self, choice: Choice) -> Iterator[list[Outgoing]]:
        """The records of each reject that is a message today."""
        for portion in portions(self._unsettled(choice), self._settings):
            for reject in self._read(portion):
                records = self._records(reject)
                if records:
                    yield records
                else:
                    self.still_rejected += 1

    def _unsettled(self, choice: Choice) -> list[Sized]:
        """One reject for each input that has not become a message."""
        condition, parameters = choice.condition("(r.payload->>'code')", _SHA256)
        with self._warehouse.maintenance() as statements:
            rejects = statements.stream(
                f"select r._topic_id, r._partition, r._offset, {_SHA256}, ((r.payload->'bytes')->>'bytes'), "  # noqa: S608
                f"length(cast(r.payload as text)) from {_REJECTED} r where {condition} "
                f"and {_SHA256} is not null and not exists (select 1 from {_MESSAGES} m "
                f"where ((m.payload->'meta')->>'sha256') = {_SHA256})",
                parameters,
            )
            found: dict[str, Sized] = {}
            for topic_id, partition, offset, sha256, long, length in rejects:
                size = int(long) if (long or "").isdigit() else length
                found.setdefault(sha256, Sized(Coordinates(topic_id, partition, offset, sha256), size))
        return list(found.values())

    def _read(self, portion: list[Coordinates]) -> list[_Reject]:
        """Rejects with their bytes; those of a long one stand among the originals."""
        with self._warehouse.maintenance() as statements:
            found = Found(statements)
            condition, parameters = found.note(_REJECTED, portion)
            values = statements.execute(
                f"select cast(payload as text) from {_REJECTED} where {condition}",  # noqa: S608 - our own names
                parameters,
            )
            originals = dict(
                statements.execute(
                    f"select sha256, bytes from {_ORIGINALS} where {Found.IN_HASHES.sql}"  # noqa: S608
                )
            )
            found.forget()
        return [reject for (text,) in values if (reject := self._reject(text, originals))]

    def _reject(self, text: str, originals: dict[str, bytes]) -> _Reject | None:
        value = json.loads(text)
        try:
            data = (
                base64.b64decode(value["bytes"], validate=True)
                if isinstance(value["bytes"], str)
                else originals[value["sha256"]]
            )
            return _Reject(value["sha256"], value["source"], value["position"], value["byte_offset"], data)
        except (KeyError, ValueError):
            # Of another shape than ours, or the original was purged.
            self.still_rejected += 1
            return None

    def _records(self, reject: _Reject) -> list[Outgoing]:
        """What is published of a message; nothing of what is none, or not one of these very bytes."""
        options = Options(reject.source, self._settings.hl7_fallback_charset, self._settings.max_record_bytes)
        found = list(places([reject.data], options))
        if len(found) != 1:
            return []
        place = found[0]._replace(position=reject.position, byte_offset=reject.byte_offset)
        result, records = publish_place(place, options)
        is_message = isinstance(result, Message) and result.meta["sha256"] == reject.sha256
        return records if is_message else []
