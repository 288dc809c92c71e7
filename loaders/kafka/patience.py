"""Waiting for a part that is away: with growing pauses, aloud, and without giving anything up."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from loaders.errors import AwayError

log = structlog.get_logger()

Answer = TypeVar("Answer")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# How often a pause looks whether the loader is to stop.
_SLICE = 0.5
# One call of a member's `idle`.
_BREATH = 0.1


class StoppedError(Exception):
    """Leaves a wait because the loader is to stop."""


class BusyError(Exception):
    """Leaves what takes long without having failed, so that the group hears of this member; called again, it
    goes on from there.
    """


class Listener(Protocol):
    """Someone who is told of a wait."""

    def waiting(self, error: AwayError) -> None:
        """Nothing goes on until this is mended."""

    def resumed(self) -> None:
        """It is mended."""


class Patience:
    """Tries until it works, or for ``limit`` seconds where a limit is given."""

    def __init__(self, listeners: Sequence[Listener] = (), limit: float | None = None) -> None:
        """``idle`` is how to let time pass; a member of a group has to do more than sleep."""
        self.idle: Callable[[float], None] = time.sleep
        self.is_stopping = False
        self._listeners = listeners
        self._limit = limit
        self._pause = _FIRST_PAUSE
        self._since: float | None = None

    def until_done(self, action: Callable[[], Answer]) -> Answer:
        """Do it, again and again as long as something it needs is away or it is not through.

        Raises:
            StoppedError: the loader is to stop.
            AwayError: the limit has passed.
        """
        while True:
            try:
                answer = action()
            except AwayError as error:
                self.failed(error)
            except BusyError:
                self._let_pass(_BREATH)
            else:
                self.succeeded()
                return answer

    def failed(self, error: AwayError) -> None:
        """Wait, longer each time; raises as ``until_done`` does."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif self._limit is not None and now - self._since > self._limit:
            raise error
        log.warning("waiting", what=error.what, where=error.where, to_do=error.do, seconds=self._pause)
        for listener in self._listeners:
            listener.waiting(error)
        self._let_pass(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _let_pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.is_stopping:
                raise StoppedError
            self.idle(min(left, _SLICE))

    def succeeded(self) -> None:
        """Nothing is away."""
        if self._since is not None:
            self._since, self._pause = None, _FIRST_PAUSE
            log.info("resumed")
            for listener in self._listeners:
                listener.resumed()
