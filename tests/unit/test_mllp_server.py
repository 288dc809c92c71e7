"""The MLLP server over real sockets; what it publishes to is held in hand, to be late or to fail as told."""

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import hl7
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hl7.mllp import open_hl7_connection
from structlog.testing import capture_logs

from loaders.address import Address
from loaders.errors import CdwError
from loaders.hl7.publish import MESSAGES, ORIGINALS, REJECTED
from loaders.hl7.stream import Options
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import FATAL, Done
from loaders.mllp import server as server_module
from loaders.mllp.listen import Certificates, _context, listen
from loaders.mllp.metrics import MllpMetrics
from loaders.mllp.server import Limits, Server
from loaders.settings import Settings

T = TypeVar("T")
HOST = "127.0.0.1"
SECONDS = 60
MAX_BYTES = 20_000


def message(number: int, size: int = 0) -> bytes:
    text = "x" * size
    return f"MSH|^~\\&|APP|FAC|||1||ORU^R01|{number}|P|2.5\rPID|1||ZZ4711\rNTE|1||{text}Zzcanary\r".encode()


def framed(data: bytes) -> bytes:
    return b"\x0b" + data + b"\x1c\r"


BROKEN = b"MSH|^~\\&|APP|FAC|||1|||7|P|2.5\rPID|1||Zzcanary\r"


class Hand:
    """Takes what is published, and acknowledges it at once or when told."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.held: list[Done] = []
        self.is_holding = False
        self.failure: str | None = None

    def publish(self, records: Sequence[Outgoing], done: Done) -> None:
        self.records += records
        if self.is_holding:
            self.held.append(done)
        else:
            done(self.failure)

    def release(self) -> None:
        self.is_holding = False
        for done in self.held:
            done(self.failure)
        self.held.clear()

    def originals(self) -> list[bytes]:
        return [record.value or b"" for record in self.records if record.topic == ORIGINALS]

    def rejects(self) -> list[tuple[str, bytes]]:
        originals = {record.key: record.value or b"" for record in self.records if record.topic == ORIGINALS}
        values = [json.loads(record.value or b"") for record in self.records if record.topic == REJECTED]
        return [
            (value["code"], originals.get(value["sha256"]) or base64.b64decode(value["bytes"]))
            for value in values
        ]


class Sender:
    """A sender that writes bytes as it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> str:
        """MSA-1 and MSA-2 of the next answer."""
        return answered(await within(self.reader.readuntil(b"\x1c\r")))

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        return await within(self.reader.read())

    def close(self) -> None:
        self.writer.close()


def answered(frame: bytes) -> str:
    assert frame[:1] == b"\x0b"
    segment = hl7.parse(frame[1:-2].decode()).segment("MSA")
    return f"{segment[1]} {segment[2]}"


async def within(waited: Awaitable[T]) -> T:
    return await asyncio.wait_for(waited, SECONDS)


async def until(is_so: Callable[[], object]) -> None:
    async def wait() -> None:
        while not is_so():
            await asyncio.sleep(0.005)

    await within(wait())


class Place:
    """A server that listens, what it publishes to, and senders."""

    def __init__(self, server: Server, hand: Hand, port: int) -> None:
        self.server = server
        self.hand = hand
        self.port = port

    async def connect(self, tls: ssl.SSLContext | None = None) -> Sender:
        return Sender(
            *await asyncio.open_connection(HOST, self.port, ssl=tls, server_hostname=HOST if tls else None)
        )


@asynccontextmanager
async def listening(
    connections: int = 1_000, delivery_seconds: float = SECONDS, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Place]:
    hand = Hand()
    server = Server(
        hand,
        Options("mllp", max_bytes=MAX_BYTES),
        Limits(connections, delivery_seconds),
        MllpMetrics(delivery_seconds),
    )
    port = await server.start(HOST, 0, tls)
    yield Place(server, hand, port)
    server.stop()
    await within(server.finish())


def test_another_librarys_sender_is_answered() -> None:
    async def run() -> None:
        async with listening() as place:
            reader, writer = await open_hl7_connection(HOST, place.port, encoding="utf-8")
            for number in range(3):
                writer.writemessage(hl7.parse(message(number).decode()))
                await writer.drain()
                answer = await within(reader.readmessage())
                assert (str(answer["MSA"][0][1]), str(answer["MSA"][0][2])) == ("AA", str(number))
            writer.close()
            assert place.hand.originals() == [message(number) for number in range(3)]
            assert [r.topic for r in place.hand.records] == [ORIGINALS, MESSAGES] * 3

    asyncio.run(run())


def test_no_answer_before_kafka_has_it() -> None:
    async def run() -> None:
        async with listening() as place:
            place.hand.is_holding = True
            first, second = await place.connect(), await place.connect()
            await first.send(framed(message(1)))
            await until(lambda: place.hand.held)
            place.hand.is_holding = False
            await second.send(framed(message(2)))
            assert await second.answer() == "AA 2"
            await second.send(framed(BROKEN))
            assert await second.answer() == "AR 7"
            assert not first.reader._buffer  # type: ignore[attr-defined]
            place.hand.release()
            assert await first.answer() == "AA 1"

    asyncio.run(run())


def test_answers_come_in_order_though_kafka_is_not() -> None:
    async def run() -> None:
        async with listening() as place:
            place.hand.is_holding = True
            sender = await place.connect()
            await sender.send(framed(message(1)) + framed(BROKEN) + framed(message(2)))
            await until(lambda: len(place.hand.held) == 3)
            place.hand.held.reverse()
            place.hand.release()
            assert [await sender.answer() for _ in range(3)] == ["AA 1", "AR 7", "AA 2"]

    asyncio.run(run())


def test_what_kafka_does_not_take_may_be_sent_again() -> None:
    async def run() -> None:
        async with listening() as place:
            place.hand.failure = "_MSG_TIMED_OUT"
            sender = await place.connect()
            for data in (message(1), BROKEN):
                await sender.send(framed(data))
            assert [await sender.answer(), await sender.answer()] == ["AE 1", "AE 7"]
            place.hand.failure = None
            await sender.send(framed(message(1)))
            assert await sender.answer() == "AA 1"

    asyncio.run(run())


@pytest.mark.parametrize("unanswered", [b"hello", message(2).replace(b"|P|2.5", b"|P|2.5|||NE|NE")])
def test_a_sender_that_wants_no_answer_is_hung_up_on_when_kafka_does_not_take_its_message(
    unanswered: bytes,
) -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            await sender.send(framed(unanswered) + framed(message(1)))
            assert await sender.answer() == "AA 1"
            place.hand.failure = "_MSG_TIMED_OUT"
            await sender.send(framed(unanswered))
            assert await sender.rest() == b""

    asyncio.run(run())


def test_each_message_of_a_batch_is_answered() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            one, two, three = message(1), message(2), message(3)
            await sender.send(framed(b"BHS|^~\\&|B\r" + one + two + b"BTS|2\r"))
            await sender.send(framed(b"FHS|^~\\&|F\r") + framed(three) + framed(b"FTS|1\r") + framed(one))
            assert [await sender.answer() for _ in range(4)] == ["AA 1", "AA 2", "AA 3", "AA 1"]
            metas = [json.loads(r.value or b"")["meta"] for r in place.hand.records if r.topic == MESSAGES]
            assert [list(meta.get("envelope", {})) for meta in metas] == [["BHS"], ["BHS"], ["FHS"], []]

    asyncio.run(run())


def test_many_senders_at_once() -> None:
    async def run() -> None:
        async with listening() as place:

            async def talk(number: int) -> None:
                sender = await place.connect()
                for each in range(10):
                    await sender.send(framed(message(1_000 * number + each)))
                    assert await sender.answer() == f"AA {1_000 * number + each}"
                sender.close()

            await asyncio.gather(*(talk(number) for number in range(100)))
            assert len(set(place.hand.originals())) == len(place.hand.originals()) == 1_000

    asyncio.run(run())


def test_what_has_no_header_is_stored_without_an_answer_and_the_connection_kept() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            await sender.send(framed(b"hello") + framed(b"") + b"stray" + framed(message(1)))
            assert await sender.answer() == "AA 1"
            assert place.hand.rejects() == [("E_NO_MSH", b"hello"), ("E_EMPTY", b""), ("E_FRAME", b"stray")]

    asyncio.run(run())


def test_a_sender_that_begins_anew_within_a_frame() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            await sender.send(b"\x0b" + message(1)[:50] + framed(message(1)))
            assert await sender.answer() == "AA 1"
            assert place.hand.rejects() == [("E_FRAME", message(1)[:50])]

    asyncio.run(run())


def test_cut_anywhere() -> None:
    """Of what a sender sent before it died, whole frames are stored as they are, the rest is a reject."""
    frame = framed(message(2))

    async def run() -> None:
        async with listening() as place:
            for size in range(len(frame) + 1):
                place.hand.records.clear()
                sender = await place.connect()
                await sender.send(framed(message(1)))
                assert await sender.answer() == "AA 1"
                await sender.send(frame[:size])
                sender.writer.write_eof()
                is_whole = size >= len(frame) - 1
                rest = await sender.rest()
                assert [answered(f + b"\x1c\r") for f in rest.split(b"\x1c\r")[:-1]] == ["AA 2"] * is_whole
                assert place.hand.originals() == [message(1)] + [message(2)] * is_whole
                cut = frame[1:size]
                assert place.hand.rejects() == ([] if is_whole or size < 1 else [("E_FRAME", cut)])
                sender.close()

    asyncio.run(run())


def test_it_makes_no_difference_how_bytes_arrive() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            for byte in framed(message(1)) + framed(message(2)):
                await sender.send(bytes([byte]))
                await asyncio.sleep(0)
            assert [await sender.answer(), await sender.answer()] == ["AA 1", "AA 2"]
            assert place.hand.originals() == [message(1), message(2)]

    asyncio.run(run())


def test_a_frame_that_is_too_long_is_rejected_whole_or_in_parts_and_the_connection_kept() -> None:
    long, longer = message(1, MAX_BYTES), message(2, 9 * MAX_BYTES)

    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            for data, answer in ((long, "AR 1"), (longer, "AR 2"), (message(3), "AA 3")):
                await sender.send(framed(data))
                assert await sender.answer() == answer
            rejects = place.hand.rejects()
            assert {code for code, _ in rejects} == {"E_TOO_LARGE"}
            assert rejects[0][1] == long
            parts = [data for _, data in rejects[1:]]
            assert b"".join(parts) == b"\r\x0b" + longer
            assert max(map(len, parts)) == 4 * MAX_BYTES

    asyncio.run(run())


def test_a_sender_that_never_waits_is_read_no_further_than_a_bound() -> None:
    async def run() -> None:
        async with listening() as place:
            place.hand.is_holding = True
            sender = await place.connect()
            flood = asyncio.create_task(
                sender.send(b"".join(framed(message(n, 10_000)) for n in range(3_000)))
            )
            await until(lambda: len(place.hand.held) >= server_module._AHEAD)
            for _ in range(100):
                await asyncio.sleep(0.002)
            assert len(place.hand.held) <= server_module._AHEAD + 2
            assert not flood.done()
            place.hand.release()
            assert [await sender.answer() for _ in range(3_000)] == [f"AA {n}" for n in range(3_000)]
            await within(flood)

    asyncio.run(run())


def test_all_senders_together_are_read_no_further_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_WINDOW_BYTES", 100_000)

    async def run() -> None:
        async with listening() as place:
            place.hand.is_holding = True
            senders = [await place.connect() for _ in range(40)]
            for number, sender in enumerate(senders):
                await sender.send(framed(message(number, 5_000)))
            await until(lambda: len(place.hand.held) >= 5)
            for _ in range(100):
                await asyncio.sleep(0.002)
            assert sum(len(record.value or b"") for record in place.hand.records) <= 100_000
            place.hand.release()
            assert [await sender.answer() for sender in senders] == [f"AA {number}" for number in range(40)]

    asyncio.run(run())


def test_few_long_frames_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_SMALL_FRAME_BYTES", 1_000)
    monkeypatch.setattr(server_module, "_LARGE_FRAMES", 1)
    long = framed(message(1, 15_000))

    async def run() -> None:
        async with listening() as place:
            first, second, small = [await place.connect() for _ in range(3)]
            await first.send(long[:9_000])
            await until(place.server.large_frames.locked)
            # What is read at once is read; for the next there is no place.
            await second.send(long[:9_000])
            await small.send(framed(message(2)))
            assert await small.answer() == "AA 2"
            await second.send(long[9_000:])
            await small.send(framed(message(3)))
            assert await small.answer() == "AA 3"
            assert len(place.hand.originals()) == 2
            await first.send(long[9_000:])
            assert [await first.answer(), await second.answer()] == ["AA 1", "AA 1"]
            await second.send(long)
            assert await second.answer() == "AA 1"

    with capture_logs() as lines:
        asyncio.run(run())
    assert [line["event"] for line in lines].count("mllp_large_frame_waits") == 1


def test_more_senders_than_allowed_are_refused() -> None:
    async def run() -> None:
        async with listening(connections=2) as place:
            first, second = await place.connect(), await place.connect()
            await first.send(framed(message(1)))
            await second.send(framed(message(2)))
            assert [await first.answer(), await second.answer()] == ["AA 1", "AA 2"]
            assert await (await place.connect()).rest() == b""
            second.close()
            await until(lambda: len(place.server._conversations) == 1)
            third = await place.connect()
            await third.send(framed(message(3)))
            assert await third.answer() == "AA 3"

    asyncio.run(run())


def test_a_frame_that_does_not_go_on_is_cut_and_one_that_has_not_begun_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_SILENCE_SECONDS", 0.05)

    async def run() -> None:
        async with listening() as place:
            idle, silent = await place.connect(), await place.connect()
            await idle.send(framed(message(1)))
            assert await idle.answer() == "AA 1"
            await silent.send(b"\x0b" + message(2)[:40])
            assert await silent.rest() == b""
            assert place.hand.rejects() == [("E_FRAME", message(2)[:40])]
            await idle.send(framed(message(3)))
            assert await idle.answer() == "AA 3"

    asyncio.run(run())


def test_a_frame_that_goes_on_by_a_byte_now_and_then_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_FRAME_SECONDS", 1)

    async def trickle(sender: Sender) -> None:
        with suppress(ConnectionError):
            while True:
                await sender.send(b"x")
                await asyncio.sleep(0.02)

    async def run() -> None:
        async with listening() as place:
            slow, steady = await place.connect(), await place.connect()
            await slow.send(b"\x0b" + message(1)[:40])
            trickling = asyncio.create_task(trickle(slow))
            # One that is always within a frame, but never within the same for long.
            data = b"".join(framed(message(number)) for number in range(10, 30))
            size = len(data) // 20
            for number in range(20):
                begin = number * size + 5 * (number > 0)
                await steady.send(data[begin : (number + 1) * size + 5])
                assert await steady.answer() == f"AA {number + 10}"
                await asyncio.sleep(0.1)
            await within(trickling)
            [(code, data)] = place.hand.rejects()
            assert (code, data[:40]) == ("E_FRAME", message(1)[:40])

    with capture_logs() as lines:
        asyncio.run(run())
    ended = [line["ended"] for line in lines if line["event"] == "mllp_closed"]
    assert sorted(ended) == ["by the server", "too slow within a frame"]


def test_a_sender_that_does_not_read_its_answers_is_cut_off_and_its_messages_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(server_module, "acknowledge", lambda *arguments: b"x" * 20_000_000)

    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            sender.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await sender.send(framed(message(1)) * 3)
            await until(lambda: not place.server._conversations)
            assert len(place.hand.originals()) == 3

    asyncio.run(run())


def test_a_stop_answers_what_has_come_and_takes_nothing_more() -> None:
    async def run() -> None:
        async with listening() as place:
            place.hand.is_holding = True
            sender, idle = await place.connect(), await place.connect()
            await sender.send(framed(message(1)) + framed(message(2)) + b"\x0b" + message(3)[:30])
            await until(lambda: len(place.hand.held) == 2)
            place.server.stop()
            assert await idle.rest() == b""
            with pytest.raises(OSError):  # refused, or closed at once
                assert await (await place.connect()).rest() == b""
                raise OSError
            await until(lambda: len(place.hand.held) == 3)
            place.hand.release()
            assert [await sender.answer(), await sender.answer()] == ["AA 1", "AA 2"]
            assert await sender.rest() == b""
            assert place.hand.rejects() == [("E_FRAME", message(3)[:30])]

    asyncio.run(run())


def test_a_stop_waits_until_an_answer_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ack = b"x" * 30_000_000  # more than the two kernels take
    monkeypatch.setattr(server_module, "acknowledge", lambda *arguments: ack)

    async def do_not_wait(_: asyncio.StreamWriter) -> None:
        """As for what is so short that asyncio takes it in."""

    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            monkeypatch.setattr(asyncio.StreamWriter, "drain", do_not_wait)
            await sender.send(framed(message(1)))
            await until(place.hand.originals)
            place.server.stop()
            finishing = asyncio.create_task(place.server.finish())
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert not finishing.done()
            assert len(await sender.rest()) == len(ack) + 3
            await within(finishing)

    asyncio.run(run())


def test_a_stop_does_not_wait_for_a_sender_that_never_ends() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()

            async def flood() -> None:
                while True:
                    await sender.send(framed(message(1)) * 1_000)

            flooding = asyncio.create_task(flood())
            assert await sender.answer() == "AA 1"
            place.server.stop()
            with suppress(OSError):  # closed in the middle of what it sends
                while await within(sender.reader.read(65_536)):
                    pass
            await within(place.server.finish())
            with pytest.raises(OSError):
                await within(flooding)

    with capture_logs() as logs:
        asyncio.run(run())
    assert not [entry for entry in logs if entry["event"] == "mllp_unanswered"]


def test_a_stop_does_not_wait_for_a_sender_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "acknowledge", lambda *arguments: b"x" * 20_000_000)

    async def run() -> None:
        async with listening(delivery_seconds=0.1) as place:
            sender = await place.connect()
            sender.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await sender.send(framed(message(1)) * 100)
            await until(lambda: len(place.hand.originals()) > server_module._AHEAD)
            place.server.stop()
            await within(place.server.finish())
            assert len(place.hand.originals()) == 100

    with capture_logs() as logs:
        asyncio.run(run())
    assert [entry["connections"] for entry in logs if entry["event"] == "mllp_unanswered"] == [1]


def test_a_producer_that_has_ended_ends_the_server() -> None:
    async def run() -> None:
        hand = Hand()
        hand.failure = FATAL
        server = Server(hand, Options("mllp"), Limits(10, SECONDS), MllpMetrics(SECONDS))
        place = Place(server, hand, await server.start(HOST, 0))
        sender = await place.connect()
        await sender.send(framed(message(1)))
        assert await sender.answer() == "AE 1"
        with pytest.raises(CdwError, match="failed for good"):
            await within(server.finish())

    asyncio.run(run())


def test_a_defect_costs_one_connection_and_says_nothing_of_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("Zzcanary")

    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            with monkeypatch.context() as patch:
                patch.setattr(server_module, "publish_place", fail)
                await sender.send(framed(message(1)))
                assert await sender.rest() == b""
            sender = await place.connect()
            await sender.send(framed(message(2)))
            assert await sender.answer() == "AA 2"

    with capture_logs() as logs:
        asyncio.run(run())
    assert [entry["error"] for entry in logs if entry["event"] == "mllp_defect"] == ["ValueError"]
    assert "canary" not in repr(logs)


def test_the_log_has_places_hashes_and_counts_only() -> None:
    async def run() -> None:
        async with listening() as place:
            sender = await place.connect()
            await sender.send(framed(message(1)) + framed(BROKEN))
            assert [await sender.answer(), await sender.answer()] == ["AA 1", "AR 7"]
            place.hand.failure = "_MSG_TIMED_OUT"
            await sender.send(framed(message(2)))
            assert await sender.answer() == "AE 2"
            sender.close()
            await until(lambda: not place.server._conversations)

    with capture_logs() as logs:
        asyncio.run(run())
    said = {entry["event"]: entry for entry in logs}
    assert said["mllp_rejected"]["sha256"] == hashlib.sha256(BROKEN).hexdigest()
    assert said["mllp_not_stored"]["sha256"] == hashlib.sha256(message(2)).hexdigest()
    closed = said["mllp_closed"]
    assert (closed["stored"], closed["rejected"], closed["not_stored"]) == (1, 1, 1)
    for value in ("canary", "4711", "APP"):
        assert value not in repr(logs)


def test_metrics_and_health_say_what_became_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with listening(connections=1) as place:
            metrics = place.server.metrics

            def value(name: str, **labels: str) -> float | None:
                return metrics.registry.get_sample_value(f"cdw_mllp_{name}", labels)

            sender = await place.connect()
            await sender.send(framed(message(1)) + framed(BROKEN))
            assert [await sender.answer(), await sender.answer()] == ["AA 1", "AR 7"]
            assert metrics.health().is_well
            place.hand.failure = "_MSG_TIMED_OUT"
            await sender.send(framed(BROKEN))
            assert await sender.answer() == "AE 7"
            assert not metrics.health().is_well
            place.hand.failure = None
            place.hand.is_holding = True
            await sender.send(framed(message(2)))
            await until(lambda: place.hand.held)
            assert value("waiting_messages") == value("connections") == 1
            assert await (await place.connect()).rest() == b""
            assert value("refused_connections_total") == 1
            place.hand.release()
            assert await sender.answer() == "AA 2"
            assert metrics.health().is_well
            counts = [
                value("messages_total", outcome=outcome) for outcome in ("stored", "rejected", "not stored")
            ]
            assert counts == [2, 1, 1]
            assert value("rejects_total", code="E_NO_MESSAGE_TYPE") == 1
            assert value("kafka_seconds_count") == 4
            assert value("waiting_messages") == value("oldest_waiting_age_seconds") == 0
            # What waits for longer than Kafka may take: this process itself does not go on.
            place.hand.is_holding = True
            await sender.send(framed(message(3)))
            await until(lambda: place.hand.held)
            assert metrics.health().is_well
            now = time.monotonic()
            with monkeypatch.context() as patch:
                patch.setattr("loaders.mllp.metrics.time.monotonic", lambda: now + SECONDS + 1)
                health = metrics.health()
            assert not health.is_well
            assert json.loads(health.as_json())["oldest_waiting_age_seconds"] > SECONDS
            place.hand.release()

    asyncio.run(run())


def test_an_address_that_is_taken_is_told() -> None:
    async def run() -> None:
        async with listening() as place:
            other = Server(place.hand, Options("mllp"), Limits(1, 1), MllpMetrics(1))
            with pytest.raises(CdwError, match="cannot be listened on"):
                await other.start(HOST, place.port)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:2575", ("127.0.0.1", 2575)), ("[::1]:0", ("::1", 0)), ("host:65535", ("host", 65535))],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["", "2575", ":2575", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_tls_only_this_machine_is_listened_to(host: str) -> None:
    with pytest.raises(CdwError, match="without TLS"):
        listen(Settings(), Address(host, 2575), None, is_open=False)  # type: ignore[call-arg]


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._sign(self.name, self.key, is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Files of a certificate for this machine and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(subject, key, is_authority=False))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address(HOST))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


def test_with_tls_a_sender_shows_a_certificate_of_the_right_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    tls = _context(Certificates(*ours.issue("server"), ours.file))

    def sender(issuer: Authority | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(ours.file))
        if issuer:
            context.load_cert_chain(*issuer.issue(f"sender of {issuer.file.stem}"))
        return context

    async def run() -> None:
        async with listening(tls=tls) as place:
            known = await place.connect(sender(ours))
            await known.send(framed(message(1, 15_000)))
            assert await known.answer() == "AA 1"
            for context in (sender(theirs), sender(None), None):
                with pytest.raises((OSError, asyncio.IncompleteReadError)):
                    stranger = await place.connect(context)
                    await stranger.send(framed(message(2)))
                    await stranger.answer()
            await known.send(framed(message(3)))
            assert await known.answer() == "AA 3"
            assert len(place.hand.originals()) == 2

    asyncio.run(run())


def test_certificates_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    one, other = Authority(tmp_path, "one"), Authority(tmp_path, "other")
    certificate, key = one.issue("server")
    _, other_key = other.issue("else")
    for certificates in (
        Certificates(certificate, key, tmp_path / "none"),
        Certificates(tmp_path / "none", key, one.file),
        Certificates(certificate, other_key, one.file),
        Certificates(key, key, one.file),
    ):
        with pytest.raises(CdwError, match="cannot be used"):
            _context(certificates)
