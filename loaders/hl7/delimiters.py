"""MSH-1 and MSH-2, and the escapes that stand for them (HL7 v2 chapter 2, "Use of escape sequences")."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from loaders.hl7.charset import UNFIT
from loaders.hl7.rejects import RejectError

_STANDARD = "^~\\&"
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_HEADER = re.compile(r"(?:MSH|FHS|BHS|BTS|FTS)(.)([^\r\n]*)")


class Delimiters(NamedTuple):
    """A message's delimiters; "" for one that it does without."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str
    truncation: str
    msh_2: str
    """MSH-2 as sent."""
    is_regular: bool
    """Whether MSH-2 has four or five characters, each by its position."""


def read_delimiters(text: str) -> Delimiters:
    """Read MSH-1 and MSH-2 from a text that begins with a header segment.

    Raises:
        RejectError: E_DELIMITERS: they are missing, repeated, or no punctuation.
    """
    header = _HEADER.match(text)
    if header is None:
        raise RejectError("E_DELIMITERS")
    return _from_fields(header[1], header[2].split(header[1], 1)[0])


@lru_cache(maxsize=256)
def _from_fields(field: str, encoding: str) -> Delimiters:
    """Give the characters of MSH-2 their roles, once for each way of writing them."""
    # A source that doubled its backslash: ^~\\& has the escape character twice.
    characters = (
        encoding[:3] + encoding[4:] if len(encoding) == 5 and encoding[2] == encoding[3] else encoding
    )
    used = field + characters
    if not 1 <= len(characters) <= 5 or len(set(used)) < len(used) or not _PUNCTUATION.issuperset(used):
        raise RejectError("E_DELIMITERS")
    roles = list(characters)
    if characters[0] == "^" and [c for c in _STANDARD if c in characters] == roles:
        roles = [c if c in characters else "" for c in _STANDARD]  # ^~& does without an escape character
    component, repetition, escape, subcomponent, truncation = roles + [""] * (5 - len(roles))
    is_regular = characters == encoding and len(characters) >= 4
    return Delimiters(field, component, repetition, escape, subcomponent, truncation, encoding, is_regular)


def make_unescape(delimiters: Delimiters, charset: str) -> Callable[[str], str]:
    """Make the function that decodes a value's escapes.

    ``\\F\\ \\S\\ \\T\\ \\R\\ \\E\\ \\P\\`` give the delimiter they stand for where the message has it,
    ``\\X..\\`` the bytes in the message's character set (neighbours are taken together: a character may be
    spread over several). All other escapes, and a lone escape character, stay as they are; so does
    hex that is no text of that set, or none at all, or a control character no value may have.
    """
    if not delimiters.escape:
        return str
    escape = re.escape(delimiters.escape)
    sequence = re.compile(rf"{escape}([FSTREP]){escape}|(?:{escape}X(?:[0-9A-Fa-f]{{2}})+{escape})+")
    stands_for = dict(zip("FSRETP", delimiters[:6], strict=True))

    def decoded(found: re.Match[str]) -> str:
        if found[1]:
            return stands_for[found[1]] or found[0]
        try:
            text = bytes.fromhex(found[0].replace(delimiters.escape, "").replace("X", "")).decode(charset)
        except UnicodeDecodeError:
            return found[0]
        return text if text and not UNFIT.search(text) else found[0]

    return lambda value: sequence.sub(decoded, value)
