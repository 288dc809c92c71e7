"""HL7 v2 read a second time, by code that shares nothing with the decoder, as plain as can be.

It says what has to be in a record (leaves, parents), what an input is made of (headers), and what its one
canonical form is. Speed does not matter here. Source: HL7 v2.5.1 chapter 2, docs/decisions/hl7-decoder.md.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

Place = tuple[int, str, int, int, int, int]
"""Number of the segment, its name, and the numbers of field, repetition, component and subcomponent."""
Leaf = tuple[Place, str]

# What may stand around a message, or between frames, and is no part of any.
AROUND = " \t\r\n\x0b\x1c\x1a\ufeff"
_NAME = re.compile(r"[A-Z][A-Z0-9][A-Z0-9]")


class Marks(NamedTuple):
    """The delimiters, "" for one that a message does without."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str
    truncation: str


def marks_of(msh_1: str, msh_2: str) -> Marks:
    """Say which character of MSH-2 is which."""
    if len(msh_2) == 5 and msh_2[2] == msh_2[3]:  # ^~\\&
        msh_2 = msh_2[:3] + msh_2[4]
    if re.fullmatch(r"\^~?\\?&?", msh_2):  # each of the usual ones means what it always does
        repetition, escape, subcomponent = (c if c in msh_2 else "" for c in "~\\&")
        return Marks(msh_1, "^", repetition, escape, subcomponent, "")
    component, repetition, escape, subcomponent, truncation = [*msh_2] + [""] * (5 - len(msh_2))
    return Marks(msh_1, component, repetition, escape, subcomponent, truncation)


def text_of(data: bytes, charset: str) -> str:
    """Decode a message's bytes, and drop what stands around it; blanks at the end of its last line stay."""
    text = data.decode(charset).lstrip(AROUND)
    end = len(text.rstrip(AROUND.rstrip("\ufeff")))
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    return text[:end]


class Parsed(NamedTuple):
    """A message: its delimiters, and its segments as they would be without line ends and ADD."""

    marks: Marks
    msh_2: str
    lines: list[str]


def parse(text: str) -> Parsed:
    """Join what belongs to one segment: lines that are no segments, and what stands in ADD."""
    separator = text[3]
    msh_2 = re.split(re.escape(separator) + "|\r|\n", text[4:])[0]
    raw = re.split("\r\n|\r|\n", text)
    # From the end: a name alone is text where text goes on behind it.
    kinds: list[str] = []
    last = ""
    for line in reversed(raw):
        if not line.strip(AROUND.replace("\ufeff", "")):
            kinds.append("blank")
            continue
        if not (_NAME.match(line) and line[3:4] in ("", separator)):
            last = "text"
        elif not (len(line) == 3 and last == "text"):
            last = "segment"
        kinds.append(last)
    kinds.reverse()
    kinds[0] = "segment"

    lines: list[str] = []
    blank = ""
    for at, (kind, line) in enumerate(zip(kinds, raw, strict=True)):
        if kind == "blank":
            blank += "\n" + line
            continue
        if kind == "text":
            lines[-1] += blank + "\n" + line
        elif line[:3] != "ADD":
            lines.append(line)
        elif not line[3:].strip(separator) and is_last(kinds, raw, at):
            lines.append(line)  # it goes on in the next message
        elif len(lines) > 1 and (len(lines[-1]) > 3 or line[4:5] == separator):
            lines[-1] += line[4:]
        else:  # it goes on with one of the message before
            lines.append(line)
        blank = ""
    return Parsed(Marks(*marks_of(separator, msh_2)), msh_2, lines)


def is_last(kinds: list[str], raw: list[str], at: int) -> bool:
    """Whether nothing stands behind a line, or DSC."""
    behind = next((n for n in range(at + 1, len(raw)) if kinds[n] != "blank"), None)
    return behind is None or (kinds[behind] == "segment" and raw[behind][:3] == "DSC")


def unescape(value: str, marks: Marks, charset: str) -> str:
    """Decode escapes, one after the other."""
    escape = marks.escape
    meant = {
        "F": marks.field,
        "S": marks.component,
        "T": marks.subcomponent,
        "R": marks.repetition,
        "E": escape,
        "P": marks.truncation,
    }
    if not escape or escape not in value:
        return value
    one_hex = re.compile(re.escape(escape) + "X((?:[0-9A-Fa-f]{2})+)" + re.escape(escape))
    result: list[str] = []
    at = 0
    while at < len(value):
        sequence = value[at : at + 3]
        if value[at] != escape:
            begin, at = at, (value + escape).index(escape, at)
            result.append(value[begin:at])
        elif len(sequence) == 3 and sequence[2] == escape and sequence[1] in meant:
            # For a delimiter that the message does without it stays as it is.
            result.append(meant[sequence[1]] or sequence)
            at += 3
        else:
            begin, digits = at, ""
            while found := one_hex.match(value, at):  # a character may be spread over several
                digits, at = digits + found[1], found.end()
            if digits:
                result.append(_hex_text(digits, charset) or value[begin:at])
            else:
                result.append(escape)
                at += 1
    return "".join(result)


def _hex_text(digits: str, charset: str) -> str:
    try:
        text = bytes.fromhex(digits).decode(charset)
    except UnicodeDecodeError:
        return ""
    return "" if re.search("[\0-\x08\x0e-\x1f]", text) else text


def leaves(parsed: Parsed, charset: str) -> Iterator[Leaf]:
    """Give every value of a message with its place."""
    marks = parsed.marks
    for n, line in enumerate(parsed.lines, 1):
        name, fields = line[:3], line.split(marks.field)
        first = 1
        if n == 1:
            yield (1, name, 1, 1, 1, 1), marks.field
            yield (1, name, 2, 1, 1, 1), parsed.msh_2
            fields, first = fields[1:], 3
        for f, field in enumerate(fields[1:], first):
            for r, repetition in enumerate(_split(field, marks.repetition), 1):
                for c, component in enumerate(_split(repetition, marks.component), 1):
                    for s, value in enumerate(_split(component, marks.subcomponent), 1):
                        if value:
                            yield (n, name, f, r, c, s), unescape(value, marks, charset)


def _split(text: str, mark: str) -> list[str]:
    return text.split(mark) if mark else [text]


def canonical(parsed: Parsed, charset: str) -> str:
    """Give a message's one form: a segment a line, nothing empty at any end, escapes where they are needed.

    An escape character that stands for itself (``\\H\\``, a lone one) is written as an escape too: decoding
    makes no difference between the two. Lines that were joined stay so: their line feed is an escape.
    """
    marks = parsed.marks
    lines = []
    for n, line in enumerate(parsed.lines, 1):
        fields = line.split(marks.field)
        first = 2 if n == 1 else 1
        for f in range(first, len(fields)):
            repetitions = []
            for repetition in _split(fields[f], marks.repetition):
                components = []
                for component in _split(repetition, marks.component):
                    values = [
                        escaped(unescape(v, marks, charset), marks)
                        for v in _split(component, marks.subcomponent)
                    ]
                    components.append(_joined(values, marks.subcomponent))
                repetitions.append(_joined(components, marks.component))
            fields[f] = _joined(repetitions, marks.repetition)
        lines.append(_joined(fields, marks.field))
    return "\r".join(lines) + "\r"


def _joined(parts: list[str], mark: str) -> str:
    joined = mark.join(parts)
    while mark and joined.endswith(mark):
        joined = joined[: -len(mark)]
    return joined


def escaped(value: str, marks: Marks) -> str:
    """Write a value so that it can stand between delimiters; the character set of hex is UTF-8."""
    if not marks.escape:
        return value
    codes = dict(zip(marks, "FSRETP", strict=True))
    return "".join(
        f"{marks.escape}{codes[c]}{marks.escape}"
        if c in codes
        else f"{marks.escape}X{ord(c):02X}{marks.escape}"
        if c < " "
        else c
        for c in value
    )


def encode(segments: list[dict[str, Any]]) -> str:
    """Write a record's segments as a message again; all that is known of it is what stands in them."""
    header = segments[0]["fields"]
    marks = marks_of(header["1"][0]["1"], header["2"][0]["1"])
    lines = []
    for segment in segments:
        fields = {int(number): repetitions for number, repetitions in segment["fields"].items()}
        texts = [segment["id"]]
        for number in range(1, max(fields, default=0) + 1):
            is_delimiters = segment is segments[0] and number < 3
            repetitions = [_repetition(values, marks) for values in fields.get(number, [])]
            texts.append(header["2"][0]["1"] if is_delimiters else marks.repetition.join(repetitions))
        if segment is segments[0]:
            del texts[1]  # MSH-1 is the separator itself
        lines.append(marks.field.join(texts) + "\r")
    return "".join(lines)


def _repetition(values: dict[str, str], marks: Marks) -> str:
    by_place: dict[int, dict[int, str]] = {}
    for path, value in values.items():
        component, _, subcomponent = path.partition(".")
        by_place.setdefault(int(component), {})[int(subcomponent or 1)] = escaped(value, marks)
    components = []
    for c in range(1, max(by_place, default=0) + 1):
        parts = by_place.get(c, {})
        components.append(
            marks.subcomponent.join(parts.get(s, "") for s in range(1, max(parts, default=0) + 1))
        )
    return marks.component.join(components)


def decoded_leaves(segments: list[dict[str, Any]]) -> Iterator[Leaf]:
    """Give every value of a record with its place."""
    for segment in segments:
        for field, repetitions in segment["fields"].items():
            for r, values in enumerate(repetitions, 1):
                for path, value in values.items():
                    c, _, s = path.partition(".")
                    yield (segment["n"], segment["id"], int(field), r, int(c), int(s or 1)), value


def parents(names: list[str], message_type: str) -> list[dict[str, int]]:
    """Say what each segment hangs under: look back for the nearest of each kind that nothing has ended."""
    orders = [name for name in names if name in ("ORC", "OBR", "SPM")]
    kinds = ["PID", "ORC", "OBR", "SPM", "OBX"]
    if orders[:1] == ["SPM"]:
        kinds = ["PID", "SPM", "ORC", "OBR", "OBX"]
    if message_type == "OUL":
        kinds = ["PID", *dict.fromkeys([*orders, "ORC", "OBR", "SPM"]), "OBX"]
    found = []
    for at, name in enumerate(names):
        limit = kinds.index(name) if name in kinds else 5 if name in ("NTE", "PRT") else 4
        above: dict[str, int] = {}
        for before in range(at - 1, -1, -1):
            if limit == 0:
                break
            if names[before] in kinds[:limit]:
                above[names[before]] = before + 1
                limit = kinds.index(names[before])
        found.append(above)
    return found


_ENVELOPE = re.compile(rf"(?:[{AROUND}]*(?:FHS|BHS|BTS|FTS)[^\r\n]*)*[{AROUND}]*")
_HEADER = re.compile("(?:\\A|[\r\n\x0b])\ufeff?MSH[|]")


def left_over(data: bytes, pieces: list[tuple[bytes, int | None]]) -> int:
    """Count the bytes of an input that are in no piece, and no line of an envelope, frame's mark or blank.

    ``pieces`` are those that the input was cut into, in order, each with its offset where that is known.
    -1: a piece does not stand where it should.
    """
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(data[:2], "latin-1")
    at = lost = 0
    for piece, offset in pieces:
        begin = data.find(piece, at) if offset is None else offset
        # The same text may stand within the envelope before it.
        while offset is None and at <= begin and not _ends_a_line(data[at:begin], encoding):
            begin = data.find(piece, begin + 1)
        if begin < at or data[begin : begin + len(piece)] != piece:
            return -1
        lost += _lost_between(data[at:begin], encoding)
        at = begin + len(piece)
    return lost + _lost_between(data[at:], encoding)


def _ends_a_line(between: bytes, encoding: str) -> bool:
    text = between.decode(encoding, "replace")
    return not text.strip(AROUND + "\xef\xbb\xbf") or text[-1] in "\r\n\x0b\x1c"


def _lost_between(data: bytes, encoding: str) -> int:
    text = data.decode(encoding, "replace").replace("\xef\xbb\xbf", "\ufeff")
    whole = _ENVELOPE.match(text)
    return len(text) - (whole.end() if whole else 0)


def header_count(text: str) -> int:
    """Count the lines and frames that begin with a header in the usual field separator."""
    return len(_HEADER.findall(text))


def envelopes(text: str) -> Iterator[dict[str, list[Leaf]]]:
    """Give, for each header of a message, the values of the FHS and BHS that it is under."""
    above: dict[str, list[Leaf]] = {}
    for line in re.split("[\r\n]+", text):
        name = line.lstrip(AROUND)[:4]
        if name == "MSH|":
            yield dict(above)
        elif name in ("FHS|", "BHS|"):
            if name == "FHS|":
                above = {}
            above[name[:3]] = list(leaves(parse(line.lstrip(AROUND)), "utf-8"))
        elif name == "BTS|":
            above.pop("BHS", None)
        elif name == "FTS|":
            above = {}
