"""``cdw ingest --mllp``: an address to listen on, certificates, signals, and Kafka behind it."""

import asyncio
import ssl
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any, NamedTuple

import structlog

from loaders.address import Address
from loaders.errors import CdwError
from loaders.hl7.publish import HL7_TOPICS
from loaders.hl7.stream import Options
from loaders.kafka.producer import Publisher
from loaders.kafka.topics import ensure_topics
from loaders.mllp.metrics import MllpMetrics
from loaders.mllp.server import Limits, Server
from loaders.probes import serve
from loaders.settings import Settings

_log = structlog.get_logger()


class Certificates(NamedTuple):
    """Files in PEM."""

    certificate: Path
    """The server's, with those between it and its authority."""
    key: Path
    authority: Path
    """Of those whose certificates senders must show."""


def listen(
    settings: Settings,
    address: Address,
    certificates: Certificates | None,
    *,
    metrics: Address | None = None,
    is_open: bool = False,
) -> None:
    """Take messages from senders and publish them, until SIGTERM or SIGINT.

    Args:
        settings: Kafka, limits, character set.
        address: where to listen.
        certificates: for TLS, in which senders must show a certificate; None for none.
        metrics: where to tell metrics and health; None for nowhere.
        is_open: listen on other addresses than this machine's own without TLS.

    Raises:
        CdwError: the address or the certificates cannot be used, or Kafka not.
    """
    if certificates is None and not is_open and not address.is_loopback:
        raise CdwError(
            "without TLS only this machine's own senders are listened to",
            where=str(address),
            do="name --tls-cert, --tls-key and --tls-ca, or listen on 127.0.0.1; in a safe network: "
            "--insecure",
        )
    tls = _context(certificates) if certificates else None
    ensure_topics(settings, HL7_TOPICS)
    told = MllpMetrics(settings.kafka_delivery_seconds)
    with ExitStack() as stack:
        if metrics:
            stack.enter_context(serve(metrics, told.registry, told.health, is_open=is_open))
        publisher = stack.enter_context(Publisher(settings))
        asyncio.run(_serve(settings, publisher, told, address, tls))


async def _serve(
    settings: Settings, publisher: Publisher, told: MllpMetrics, address: Address, tls: ssl.SSLContext | None
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_defect)
    options = Options("mllp", settings.hl7_fallback_charset, settings.max_record_bytes)
    limits = Limits(settings.mllp_connections, settings.kafka_delivery_seconds)
    server = Server(publisher, options, limits, told)
    for number in (SIGTERM, SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.start(address.host, address.port, tls)
    await server.finish()


def _log_defect(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Without the words of the exception, which may be a message's.
    _log.error("mllp_defect", error=type(context.get("exception")).__name__)


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    file = certificates.authority
    try:
        context.load_verify_locations(file)
        file = certificates.certificate
        # No question on the terminal where a key has a password.
        context.load_cert_chain(file, certificates.key, password=lambda: "")
    except OSError:  # ssl.SSLError too
        raise CdwError(
            "certificates or key cannot be used",
            where=f"{file}" if file == certificates.authority else f"{file}, {certificates.key}",
            do="name files in PEM that can be read and belong together, the key without a password",
        ) from None
    return context
