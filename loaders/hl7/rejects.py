"""Why a message could not be decoded, and the value that is kept in its place."""

import base64
import hashlib
import re
from typing import Literal, TypedDict

Code = Literal[
    "E_EMPTY",
    "E_NO_MSH",
    "E_DELIMITERS",
    "E_NO_MESSAGE_TYPE",
    "E_CONTROL_CHARACTERS",
    "E_CHARSET",
    "E_FRAME",
    "E_TOO_LARGE",
]

CODEC = "2"
"""The decoder's own version: it rises whenever the same bytes would give another record."""

_MSH_CHARACTERS = 64
_MSH = re.compile(rb"MSH([!-/:-@\[-`{-~])([^\r\n]*)")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RejectError(Exception):
    """A message that cannot be decoded; carries the code and nothing of the message."""

    def __init__(self, code: Code) -> None:
        """Keep the code."""
        super().__init__(code)
        self.code = code


class Msh(TypedDict):
    """What could be read of a rejected message's header; None where nothing could."""

    control_id: str | None
    message_type: str | None
    version: str | None
    sending_facility: str | None


class Reject(TypedDict):
    """A value of the topic ``hl7.rejected``: the reason, the place, and the bytes in base64."""

    code: Code
    position: int
    byte_offset: int
    sha256: str
    msh: Msh
    source: str
    codec: str
    bytes: str


def make_reject(code: Code, data: bytes, *, position: int, byte_offset: int, source: str) -> Reject:
    """Make the value for bytes that are no message.

    Args:
        code: the reason.
        data: the bytes, without MLLP framing.
        position: number of the message or reject in its input, from 1.
        byte_offset: where ``data`` begins in its input, from 0.
        source: name of the input.
    """
    return Reject(
        code=code,
        position=position,
        byte_offset=byte_offset,
        sha256=hashlib.sha256(data).hexdigest(),
        msh=_read_msh(data),
        source=source,
        codec=CODEC,
        bytes=base64.b64encode(data).decode("ascii"),
    )


def _read_msh(data: bytes) -> Msh:
    """Read the header by position alone: nothing in it can be trusted."""
    found = _MSH.search(data)
    fields = found[2].split(found[1]) if found else []

    def field(number: int) -> str | None:
        # found[2] begins at MSH-2, or is empty before a separator that opens MSH-2.
        index = number - 2
        text = fields[index].decode("utf-8", "replace") if index < len(fields) else ""
        return _UNFIT.sub("", text)[:_MSH_CHARACTERS] or None

    return Msh(control_id=field(10), message_type=field(9), version=field(12), sending_facility=field(4))
