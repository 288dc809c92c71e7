"""Structured logs on stderr, JSON lines or words on a terminal: coordinates, hashes and counts, no values."""

import sys

import structlog


def configure_log() -> None:
    """Have ``structlog.get_logger()`` write to stderr."""
    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever that is by then
    )
