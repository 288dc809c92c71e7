"""What a sender is answered: whether at all, with which code, in its own version, delimiters and charset.

Source: HL7 v2 chapter 2.9 (original and enhanced mode), 2.15 (MSA, ERR); docs/decisions/mllp.md says what is
done where that leaves a choice.
"""

import re
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import uuid4

from loaders.hl7.decoder import Message
from loaders.hl7.delimiters import Delimiters, read_delimiters
from loaders.hl7.publish import Publication
from loaders.hl7.rejects import Code, RejectError
from loaders.hl7.stream import Place

Outcome = Literal["stored", "rejected", "not stored"]
"""Kafka has the message; Kafka has it among the rejects; Kafka has not acknowledged it: a retry may help."""

_ORIGINAL: dict[Outcome, str] = {"stored": "AA", "rejected": "AR", "not stored": "AE"}
_ACCEPT: dict[Outcome, str] = {"stored": "CA", "rejected": "CR", "not stored": "CE"}
_NULL = ("", '""')
_TYPES_NEVER_ANSWERED = ("ACK", "MCF")

NOT_STORED = "E_NOT_STORED"
"""Stands where the code of a reject would: the message is nowhere yet."""
# HL7 table 0357.
_REQUIRED_FIELD_MISSING = "101^Required field missing^HL70357"
_DATA_TYPE_ERROR = "102^Data type error^HL70357"
_INTERNAL_ERROR = "207^Application internal error^HL70357"
_CONDITIONS: dict[Code, str] = {
    "E_DELIMITERS": _DATA_TYPE_ERROR,
    "E_NO_MESSAGE_TYPE": _REQUIRED_FIELD_MISSING,
    "E_CONTROL_CHARACTERS": _DATA_TYPE_ERROR,
    "E_CHARSET": _DATA_TYPE_ERROR,
    "E_TOO_LARGE": _INTERNAL_ERROR,
}

_HEADER_BYTES = 8_192
_MSH = re.compile(r"[\s\x0b\ufeff]*(?:\xef\xbb\xbf)?(MSH([!-/:-@\[-`{-~])[^\r\n]*)")
_UNFIT = re.compile(r"[\x00-\x1f]")
_USUAL = read_delimiters("MSH|^~\\&|")


class Header(NamedTuple):
    """The MSH of a message that is to be answered."""

    fields: list[str]
    """From MSH-1 on, as sent; MSH-n at n - 1."""
    delimiters: Delimiters
    charset: str
    code: Code | None
    """Why the message was rejected; None where it was not."""

    def field(self, number: int) -> str:
        """MSH-``number`` as sent, without what would break a frame; "" where absent."""
        return _UNFIT.sub("", self.fields[number - 1]) if number <= len(self.fields) else ""

    def component(self, number: int, component: int) -> str:
        """A component of MSH-``number``; "" where absent."""
        parts = self.field(number).split(self.delimiters.component)
        return parts[component - 1] if component <= len(parts) else ""

    @property
    def version(self) -> tuple[int, ...]:
        """MSH-12 as numbers; the first version where it is none."""
        text = self.component(12, 1).strip()
        return tuple(map(int, text.split("."))) if re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,3}", text) else (2, 1)


def read_header(place: Place, publication: Publication) -> Header | None:
    """Read the header of what came; None where there is none that an answer could be made of."""
    result = publication.result
    if isinstance(result, Message):
        text, charset, code = result.er7, result.meta["charset"], None
    else:
        text, charset, code = place.data[:_HEADER_BYTES].decode("latin-1"), "latin-1", result["code"]
    found = _MSH.match(text)
    if found is None or code == "E_FRAME":
        return None
    try:
        delimiters = read_delimiters(found[1])
    except RejectError:
        if found[2] in _USUAL.msh_2:
            return None
        delimiters = _USUAL._replace(field=found[2])
    fields = [found[2], *found[1][4:].split(found[2])]
    return Header(fields, delimiters, charset, code)


def acknowledge(header: Header, outcome: Outcome, at: datetime) -> bytes | None:
    """Make the answer to a message, without MLLP framing; None where its sender wants none.

    One answer at most: the accept acknowledgment where MSH-15 asks for one, else the application's where
    MSH-16 does. Nothing but the header's own values is in it.
    """
    answer = _code(header, outcome)
    if answer is None:
        return None
    separator, component = header.delimiters.field, header.delimiters.component

    def text(value: str) -> str:
        """Text of ours, its components parted by "^", in the sender's delimiters."""
        return component.join(_escape(part, header.delimiters) for part in value.split("^"))

    version = header.version
    msh = [
        f"MSH{separator}{header.delimiters.msh_2}",
        header.field(5),
        header.field(6),
        header.field(3),
        header.field(4),
        text(f"{at:%Y%m%d%H%M%S%z}"),
        "",
        component.join(_message_type(header, version)),
        uuid4().hex[:20],
        header.field(11),
        header.field(12),
        *[""] * 5,
        header.field(18),
    ]
    msa = ["MSA", answer, header.field(10)]
    segments = [msh, msa]
    if outcome != "stored":
        code = header.code if outcome == "rejected" and header.code else NOT_STORED
        condition = text(_CONDITIONS.get(code, _INTERNAL_ERROR))  # type: ignore[call-overload]
        if version >= (2, 5):
            segments.append(["ERR", "", "", condition, "E", text(code)])
        else:
            msa += [text(code), "", "", condition if version >= (2, 2) else ""]
    lines = [separator.join(segment).rstrip(separator) for segment in segments]
    return "".join(line + "\r" for line in lines).encode(header.charset, "replace")


def _code(header: Header, outcome: Outcome) -> str | None:
    """MSA-1; None where the sender wants no answer."""
    accept, application = (header.field(number).strip().upper() for number in (15, 16))
    if accept in _NULL and application in _NULL:
        return None if header.component(9, 1) in _TYPES_NEVER_ANSWERED else _ORIGINAL[outcome]
    if _wants(accept, outcome):
        return _ACCEPT[outcome]
    return _ORIGINAL[outcome] if _wants(application, outcome) else None


def _wants(condition: str, outcome: Outcome) -> bool:
    """HL7 table 0155. What it does not know asks for an answer: too many harm less than too few."""
    match condition:
        case "" | '""' | "NE":
            return False
        case "ER":
            return outcome != "stored"
        case "SU":
            return outcome == "stored"
        case _:
            return True


def _message_type(header: Header, version: tuple[int, ...]) -> list[str]:
    """MSH-9: the event answered to stands in it from version 2.2 on, the structure from 2.3.1 on."""
    event = header.component(9, 2)
    if event in _NULL or version < (2, 2):
        return ["ACK"]
    return ["ACK", event, "ACK"] if version >= (2, 3, 1) else ["ACK", event]


def _escape(text: str, delimiters: Delimiters) -> str:
    """Write a text so that no character of it is one of a sender's delimiters."""
    roles = dict(zip(delimiters[:5], "FSRET", strict=True))
    escape = delimiters.escape
    if not escape:
        return "".join(c for c in text if c not in roles)
    return "".join(f"{escape}{roles[c]}{escape}" if c in roles else c for c in text)
