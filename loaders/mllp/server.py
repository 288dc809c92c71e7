"""Listens for HL7 v2 senders: what each sends is decoded, published, and answered when Kafka has it.

One event loop does it all. Decoding takes less than a tenth of a millisecond a message: other processes on
other ports are the way to more than one processor.
"""

import asyncio
import os
import socket
import ssl
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from loaders.errors import CdwError
from loaders.hl7.decoder import Message
from loaders.hl7.framing import END_BLOCK, START_BLOCK, FrameCutter, Piece
from loaders.hl7.publish import publish_place
from loaders.hl7.rejects import Code
from loaders.hl7.stream import PARTS, Numbering, Options
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import FATAL, Done
from loaders.mllp.acknowledge import Header, Outcome, acknowledge, read_header
from loaders.mllp.metrics import MllpMetrics

# What is read at once; as much again waits in asyncio, the rest in the sender.
_CHUNK_BYTES = 65_536
# A sender that does not wait for its ACKs is this many messages ahead at most.
_AHEAD = 64
# Above this a frame needs one of the few places for large ones, or is not read on: many senders at once
# cannot fill the memory, though each may send the longest frame.
_SMALL_FRAME_BYTES = 262_144
_LARGE_FRAMES = 4
# Together, of all senders: what has been published and not been acknowledged by Kafka.
_WINDOW_BYTES = 64_000_000
# A sender that does not go on with a frame, or does not read its answers, for so long is cut off.
_SILENCE_SECONDS = 60.0
# So is one that has been waited for so long within one frame, be it that a byte comes now and then.
_FRAME_SECONDS = 300.0
_HANDSHAKE_SECONDS = 10.0
# Beyond what Kafka may take to acknowledge: for senders that do not read their ACKs.
_STOP_SECONDS = 5.0

_log = structlog.get_logger()


class Publishes(Protocol):
    """Where messages go: ``loaders.kafka.producer.Publisher``."""

    def publish(self, records: Sequence[Outgoing], done: Done) -> None:
        """Publish records that belong together; ``done`` is called once, in any thread."""


class Limits(NamedTuple):
    """How long and how many."""

    connections: int
    delivery_seconds: float
    """What Kafka may take to acknowledge."""


class _Window:
    """Lets so many bytes be on their way; what is larger goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._room = asyncio.Event()

    async def enter(self, size: int) -> None:
        while self._used and self._used + size > self._size:
            self._room.clear()
            await self._room.wait()
        self._used += size

    def leave(self, size: int) -> None:
        self._used -= size
        self._room.set()


class Server:
    """An MLLP server: started, it listens until it is stopped."""

    def __init__(self, publisher: Publishes, options: Options, limits: Limits, metrics: MllpMetrics) -> None:
        """``options`` are those of every sender; the source of its messages is its address."""
        self.options = options
        self.large_frames = asyncio.Semaphore(_LARGE_FRAMES)
        self.metrics = metrics
        self.stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publisher = publisher
        self._window = _Window(_WINDOW_BYTES)
        self._limits = limits
        self._conversations: dict[asyncio.Task[None], asyncio.WriteTransport] = {}
        self._server: asyncio.Server | None = None
        self._is_failed = False

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, on any free port for 0; give the port.

        Raises:
            CdwError: the address cannot be listened on.
        """
        try:
            self._server = await asyncio.start_server(
                self._accept,
                host,
                port,
                limit=_CHUNK_BYTES,
                backlog=self._limits.connections,
                ssl=tls,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None,
            )
        except OSError as error:
            raise CdwError(
                f"the address cannot be listened on ({os.strerror(error.errno or 0)})",
                where=f"{host}:{port}",
                do="see that no other program listens there, and that the address is one of this machine",
            ) from None
        port = int(self._server.sockets[0].getsockname()[1])
        _log.info("mllp_listening", host=host, port=port, tls=tls is not None)
        return port

    def stop(self) -> None:
        """Take no new senders and no new frames; what has come whole is still published and answered."""
        if not self.stopping.done():
            self.stopping.set_result(None)

    async def finish(self) -> None:
        """Wait until the server has been stopped and all that had come is answered.

        Raises:
            CdwError: it stopped because nothing can be published any more.
        """
        await self.stopping
        assert self._server is not None
        self._server.close()
        _log.info("mllp_stopping", connections=len(self._conversations))
        if self._conversations:
            seconds = self._limits.delivery_seconds + _STOP_SECONDS
            _, late = await asyncio.wait(self._conversations, timeout=seconds)
            if late:  # of senders that do not read their ACKs
                _log.warning("mllp_unanswered", connections=len(late))
                for conversation in late:
                    self._conversations[conversation].abort()
                await asyncio.wait(late)
        _log.info("mllp_stopped")
        if self._is_failed:
            raise CdwError(
                "the Kafka producer has failed for good; every message that was not stored was answered so",
                where="cdw ingest --mllp",
                do="start it again: senders repeat what was not acknowledged",
            )

    async def publish(self, records: Sequence[Outgoing]) -> "asyncio.Future[str | None]":
        """Publish records that belong together once there is room.

        The result is None when Kafka has acknowledged all, else the name of the error.
        """
        size = sum(len(record.value or b"") for record in records)
        await self._window.enter(size)
        number = self.metrics.published()
        loop = asyncio.get_running_loop()
        failure: asyncio.Future[str | None] = loop.create_future()

        def settle(name: str | None) -> None:
            self._window.leave(size)
            self.metrics.settled(number, is_stored=name is None)
            failure.set_result(name)
            if name == FATAL:
                self._is_failed = True
                self.stop()

        def done(name: str | None) -> None:
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, name)

        self._publisher.publish(records, done)
        return failure

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port, *_ = writer.get_extra_info("peername") or ("unknown", 0)
        peer = f"{host}:{port}"
        task = asyncio.current_task()
        assert task is not None
        if len(self._conversations) >= self._limits.connections or self.stopping.done():
            self.metrics.refused()
            _log.warning("mllp_refused", peer=peer, connections=len(self._conversations))
            writer.close()
            return
        # A sender whose machine has gone without a word is found out by the kernel.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._conversations[task] = writer.transport
        self.metrics.opened()
        try:
            await _Conversation(self, peer, reader, writer).run()
        except Exception as error:
            # Without its words, which may be a message's. The sender has no ACK for what it met.
            place = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(place.filename).name}:{place.lineno}"
            _log.error("mllp_defect", peer=peer, error=type(error).__name__, at=at)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()  # the last ACKs are on their way
            del self._conversations[task]
            self.metrics.closed()


class _Answer(NamedTuple):
    """What a sender is told when it is known whether Kafka has what it sent."""

    failure: "asyncio.Future[str | None]"
    outcome: Outcome
    code: Code | None
    header: Header | None
    sha256: str


class _Conversation:
    """One sender's connection."""

    def __init__(
        self, server: Server, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._options = server.options._replace(source=f"mllp:{peer}")
        self._cutter = FrameCutter(PARTS * self._options.max_bytes)
        self._numbering = Numbering(self._options)
        self._answers: asyncio.Queue[_Answer | None] = asyncio.Queue(_AHEAD)
        self._is_large = False
        self._frame_seconds = 0.0
        self._counts: Counter[Outcome] = Counter()
        self._log = _log.bind(peer=peer)

    async def run(self) -> None:
        """Read until the sender ends, does not end a frame, or the server stops; answer everything."""
        self._log.info("mllp_opened")
        answering = asyncio.create_task(self._answer())
        try:
            ended = await self._read()
        finally:
            if self._is_large:
                self._server.large_frames.release()
            await self._answers.put(None)
            await answering
        counts = {outcome.replace(" ", "_"): count for outcome, count in self._counts.items()}
        self._log.info("mllp_closed", ended=ended, **counts)

    async def _read(self) -> str:
        """Take what comes; give what ended it."""
        ended = "by the sender"
        try:
            while chunk := await self._receive():
                if END_BLOCK in chunk:
                    self._frame_seconds = 0.0
                await self._take(self._cutter.cut(chunk))
            if self._server.stopping.done():
                ended = "by the server"
            elif not self._reader.at_eof():
                is_slow = self._frame_seconds >= _FRAME_SECONDS
                ended = "too slow within a frame" if is_slow else "silent within a frame"
        except OSError:
            ended = "broken"
        await self._take(self._cutter.end())
        return ended

    async def _receive(self) -> bytes:
        """Read what there is; b"" where nothing more is to be read."""
        held = self._cutter.held_bytes
        if self._is_large != (held > _SMALL_FRAME_BYTES):
            self._is_large = not self._is_large
            if self._is_large:
                if self._server.large_frames.locked():
                    self._log.warning("mllp_large_frame_waits")
                await self._server.large_frames.acquire()
            else:
                self._server.large_frames.release()
        stopping = self._server.stopping
        if stopping.done():
            return b""
        reading = asyncio.ensure_future(self._reader.read(_CHUNK_BYTES))
        either: set[asyncio.Future[Any]] = {reading, stopping}
        begun = time.monotonic()
        await asyncio.wait(
            either,
            timeout=min(_SILENCE_SECONDS, _FRAME_SECONDS - self._frame_seconds) if held else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if held:  # only what the sender takes: not what Kafka does, or a place for a large frame
            self._frame_seconds += time.monotonic() - begun
        if reading.done():
            return reading.result()
        reading.cancel()
        return b""

    async def _take(self, pieces: Iterable[Piece]) -> None:
        """Publish what has come whole, and have it answered in its order."""
        for place in self._numbering.places(pieces):
            publication = publish_place(place, self._options)
            result = publication.result
            outcome: Outcome = "stored"
            code: Code | None = None
            if isinstance(result, Message):
                digest = result.meta["sha256"]
            else:
                outcome, code, digest = "rejected", result["code"], result["sha256"]
                self._log.warning(
                    "mllp_rejected",
                    code=code,
                    position=result["position"],
                    byte_offset=result["byte_offset"],
                    sha256=digest,
                )
            header = read_header(place, publication)
            failure = await self._server.publish(publication.records)
            await self._answers.put(_Answer(failure, outcome, code, header, digest))

    async def _answer(self) -> None:
        """Answer in the order in which messages came, each when Kafka has it or has failed to take it."""
        is_gone = False
        while answer := await self._answers.get():
            outcome = answer.outcome
            if failure := await answer.failure:
                outcome = "not stored"
                self._log.error("mllp_not_stored", failure=failure, sha256=answer.sha256)
            self._counts[outcome] += 1
            self._server.metrics.answered(outcome, answer.code)
            ack = acknowledge(answer.header, outcome, datetime.now(UTC)) if answer.header else None
            if failure and ack is None:
                self._writer.close()  # the only word there is for a sender that is told nothing else
                is_gone = True
            if ack and not is_gone:
                try:
                    self._writer.write(START_BLOCK + ack + END_BLOCK + b"\r")
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await self._writer.drain()
                except OSError:  # TimeoutError is one
                    is_gone = True
                    self._writer.transport.abort()
