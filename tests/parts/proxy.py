"""A TCP proxy between a client and a server: late, cut, deaf, or losing the answer that mattered."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.parts.process import LOCALHOST, SECONDS, free_port

_CHUNK_BYTES = 65_536
# Of each direction: what is under way is bounded, so that a slow reader slows its sender.
_CHUNKS = 256

T = TypeVar("T")


@dataclass(eq=False)
class _Pair:
    """A client's connection and the one made for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_answer_lost: bool = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on ``host`` and ``port`` and passes everything on, until told otherwise.

    ``delay`` (seconds, each direction) and ``is_deaf`` may be set at any time and hold for what comes after.
    A delay of 0.4 makes round trips of 800 ms; a deaf proxy takes all that it is sent, and passes nothing on.
    """

    def __init__(self, target: tuple[str, int], port: int | None = None) -> None:
        """Listen at ``port``, or a free one; ``target`` is where the server is."""
        self.host = LOCALHOST
        self.port = port or free_port()
        self.target = target
        self.delay = 0.0
        self.is_deaf = False
        self.connections = 0
        """How many clients have come."""
        self._words: bytes | None = None
        self._is_answer_lost = False
        self._sprung = threading.Event()
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, self.host, self.port))

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def cut(self) -> None:
        """Cut all connections, without a farewell; new ones are welcome."""
        self._do(self._cut_all())

    def refuse(self) -> None:
        """Cut all connections and refuse new ones, as a server that is down."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Welcome connections again."""
        self._server = self._do(asyncio.start_server(self._serve, self.host, self.port))

    def cut_before(self, words: bytes) -> None:
        """Cut the next connection whose client sends ``words``; the server never sees them."""
        self._sprung.clear()
        self._words, self._is_answer_lost = words, False

    def lose_answer_to(self, words: bytes) -> None:
        """Cut the next connection whose client sends ``words`` once the server has answered, unheard."""
        self._sprung.clear()
        self._words, self._is_answer_lost = words, True

    def wait_for_cut(self) -> None:
        """Wait until ``cut_before`` or ``lose_answer_to`` has happened.

        Raises:
            TimeoutError: it has not.
        """
        if not self._sprung.wait(SECONDS):
            raise TimeoutError("no client has sent the words")

    def __enter__(self) -> Self:
        """It listens already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything and end."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _cut_all(self) -> None:
        for pair in self._pairs:
            pair.cut()

    async def _refuse(self) -> None:
        self._server.close()
        await self._cut_all()

    async def _end(self) -> None:
        await self._refuse()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            from_server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, to_server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._relay(reader, to_server, pair, is_from_client=True),
                self._relay(from_server, writer, pair, is_from_client=False),
            )
        except OSError:
            pass  # one side is gone
        finally:
            self._pairs.discard(pair)
            pair.cut()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: _Pair,
        *,
        is_from_client: bool,
    ) -> None:
        """Pass on one direction until its end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        sending = asyncio.create_task(self._send(waiting, writer))
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if self._is_cut(chunk, pair, is_from_client=is_from_client):
                    return
                if not self.is_deaf:
                    await waiting.put((self._loop.time() + self.delay, chunk))
            await waiting.put((self._loop.time() + self.delay, b""))
            await sending
        finally:
            sending.cancel()

    def _is_cut(self, chunk: bytes, pair: _Pair, *, is_from_client: bool) -> bool:
        if is_from_client and self._words and self._words in chunk:
            self._words = None
            pair.is_answer_lost = self._is_answer_lost
            if pair.is_answer_lost:
                return False
        elif is_from_client or not pair.is_answer_lost:
            return False
        pair.cut()
        self._sprung.set()
        return True

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(due - self._loop.time())
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
