"""The character set of a message: a byte order mark's, else MSH-18's, else UTF-8, else the fallback.

Names are those of HL7 table 0211 and what senders write in their place.
"""

import re
from typing import NamedTuple

from loaders.hl7.rejects import RejectError

DEFAULT_FALLBACK = "windows-1252"

UNFIT_BYTES = bytes([*range(0x09), *range(0x0E, 0x20)])
"""Control characters that no value may have; tab, line end, vertical tab and form feed occur in text."""
UNFIT = re.compile(f"[{re.escape(UNFIT_BYTES.decode())}]")

_BOM = b"\xef\xbb\xbf"
_ESC = b"\x1b"
_C1 = re.compile("[\x80-\x9f]")

_CODECS = {
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    **{f"8859{part}": f"iso-8859-{part}" for part in (*range(1, 10), 15)},
    **{f"ISO8859{part}": f"iso-8859-{part}" for part in (*range(1, 10), 15)},
    "ISOIR100": "iso-8859-1",
    "LATIN1": "iso-8859-1",
    "WINDOWS1252": "windows-1252",
    "CP1252": "windows-1252",
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "ISOIR14": "shift_jis",
    "ISOIR87": "iso2022_jp_ext",
    "ISOIR159": "iso2022_jp_ext",
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "KSX1001": "euc_kr",
    "BIG5": "big5",
}

CHARSETS = frozenset(_CODECS.values())
"""Python's names of the sets that a message may be in; UTF-16 is known by its byte order mark only."""


class Text(NamedTuple):
    """A message's text without its byte order mark, the character set, and whether it is as declared."""

    text: str
    charset: str
    is_as_declared: bool


def read_text(data: bytes, declared: list[str], fallback: str = DEFAULT_FALLBACK) -> Text:
    """Decode a message's bytes.

    Args:
        data: the message.
        declared: the repetitions of MSH-18, as sent.
        fallback: Python's name of the set for bytes that are neither as declared nor UTF-8.

    Raises:
        RejectError: E_CHARSET: none of them fits.
    """
    codecs = [_CODECS.get(re.sub(r"[^A-Z0-9]", "", name.upper()), "") for name in declared if name]
    if data.startswith(_BOM):
        candidates = ["utf-8"]
    else:
        candidates = [codec for codec in codecs if codec]
        if _ESC in data:  # the sets that are switched to by escape sequences
            candidates.sort(key=lambda codec: not codec.startswith("iso2022"))
        candidates += ["utf-8", fallback]
    for codec in dict.fromkeys(candidates):
        text = _decode(data, codec)
        if text is not None:
            return Text(
                text.removeprefix("\ufeff"), codec, codec in codecs or (codec == "utf-8" and not codecs)
            )
    raise RejectError("E_CHARSET")


def _decode(data: bytes, codec: str) -> str | None:
    """Decode, or None where the bytes do not bear the set out."""
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    # ISO 8859 decodes anything. Bytes it has no letters for are Windows-1252; what reads as UTF-8 is UTF-8.
    if codec.startswith("iso-8859") and not data.isascii() and (_C1.search(text) or _is_utf8(data)):
        return None
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
