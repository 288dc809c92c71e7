"""Servers as children that never outlive the tests, and what starting one needs."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
LOCALHOST = "127.0.0.1"
SECONDS = 60

# Becomes the command given to it, to which the kernel sends a signal when the tests die, however they die.
# Not a preexec_fn: that may deadlock where there are threads. Where there is no prctl, stop() must do.
_TETHER = """
import ctypes, os, pwd, sys
number, parent, user, *command = sys.argv[1:]
if user:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


def wait_until(is_so: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not within the time.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} seconds: {what}")
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on, and that no client is given either while its server is down."""
    while True:
        port = random.randrange(15_000, 32_000)  # below what Linux hands out
        with socket.socket() as probe:
            try:
                probe.bind((LOCALHOST, port))
            except OSError:
                continue
            return port


class Process:
    """A server's process; its output is appended to a file. Start it in the main thread.

    (The kernel's signal comes when the thread that started it ends.)
    """

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start ``command``; ``orphaned`` is what it is sent should the tests die."""
        tether = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _TETHER,
            str(int(orphaned)),
            str(os.getpid()),
            user or "",
            *command,
        ]
        with output.open("ab") as stream:
            self._child = subprocess.Popen(
                tether,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=env,
                cwd="/",
                start_new_session=True,  # control-C is for pytest
            )
        self._output = output

    @property
    def pid(self) -> int:
        return self._child.pid

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def said(self) -> str:
        """The end of its output."""
        return self._output.read_text(errors="replace")[-4_000:]

    def wait_until(self, is_ready: Callable[[], object], what: str) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it has ended, or was not ready in time; with the end of its output.
        """

        def is_ready_or_dead() -> bool:
            return not self.is_alive() or bool(is_ready())

        try:
            wait_until(is_ready_or_dead, what)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.said()}") from None
        if not self.is_alive():
            raise RuntimeError(f"ended while waiting: {what}\n{self.said()}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP holds it still, SIGCONT wakes it."""
        self._child.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal that ends it, and wait; SIGKILL where it does not obey."""
        self._child.send_signal(number)
        try:
            self._child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(SECONDS)
