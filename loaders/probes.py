"""What Prometheus and probes ask over HTTP: ``/metrics`` and ``/health``."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from loaders.address import Address
from loaders.errors import CdwError
from loaders.settings import Settings

# Of a client that connects and says nothing.
_SECONDS = 10


class Health(Protocol):
    """What ``/health`` tells."""

    @property
    def is_well(self) -> bool:
        """Whether the answer is 200."""

    def as_json(self) -> str:
        """The answer as JSON."""


def metrics_address(settings: Settings, text: str | None) -> Address | None:
    """Where metrics are asked for: ``text`` (the option --metrics), else CDW_METRICS_ADDRESS, else nowhere.

    Raises:
        CdwError: it is no address.
    """
    chosen = text or settings.metrics_address
    try:
        return Address.parse(chosen) if chosen else None
    except ValueError as error:
        raise CdwError(
            str(error), where="--metrics" if text else "CDW_METRICS_ADDRESS", do="name one, or none"
        ) from None


@contextmanager
def serve(
    address: Address, registry: CollectorRegistry, health: Callable[[], Health], *, is_open: bool
) -> Iterator[int]:
    """Answer on an address, on any free port for 0, as long as the block is not left; gives the port.

    Args:
        address: where to listen.
        registry: what ``/metrics`` tells.
        health: what ``/health`` tells, asked in another thread; 503 where it is not well.
        is_open: listen on other addresses than this machine's own.

    Raises:
        CdwError: the address cannot be listened on, or is not to be.
    """
    if not is_open and not address.is_loopback:
        raise CdwError(
            "metrics are told to this machine only, for they are not encrypted",
            where=str(address),
            do="listen on 127.0.0.1; or, where the network itself is safe, add --insecure",
        )

    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version = "cdw"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(HTTPStatus.OK, kind, encode(registry))
                case "/health":
                    found = health()
                    status = HTTPStatus.OK if found.is_well else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, "application/json", f"{found.as_json()}\n".encode())
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics or /health\n")

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A request is no event."""

    try:
        server = _Server(address, Handler)
    except OSError as error:
        raise CdwError(
            f"the address for metrics cannot be listened on ({os.strerror(error.errno or 0)})",
            where=str(address),
            do="see that no other program listens there, and that the address is one of this machine",
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no event either."""
