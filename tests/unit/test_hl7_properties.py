"""Whatever is sent: values come out as they went in, only codes are raised, and cost is in proportion."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from loaders.hl7.decoder import Message
from loaders.hl7.stream import decode_stream
from tests.fuzz.fuzz_hl7 import checker
from tests.unit import hl7_independent as independent
from tests.unit.hl7_files import EXAMPLES, FIXTURES, files
from tests.unit.hl7_invariants import check, check_chunks, decode

VT, FS = b"\x0b", b"\x1c"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
SEEDS = [file.read_bytes() for folder in (EXAMPLES, FIXTURES) for file in files(folder)]
Segments = list[dict[str, Any]]

# No deadline: a machine may be busy. What takes too long is tested below.
patiently = settings(deadline=None)

# -- messages of any shape -----------------------------------------------------------------------------------

USUAL = ("|", "^~\\&")
marks = st.just(USUAL) | st.lists(st.sampled_from(PUNCTUATION), min_size=5, max_size=6, unique=True).map(
    lambda chosen: (chosen[0], "".join(chosen[1:]))
)
short_marks = st.lists(st.sampled_from(PUNCTUATION), min_size=2, max_size=4, unique=True).map(
    lambda chosen: (chosen[0], "".join(chosen[1:]))
) | st.sampled_from([("|", "^~&"), ("|", "^\\&"), ("|", "^&"), ("|", "^~\\"), ("|", "^~\\\\&")])

UNFIT = "".join(map(chr, [*range(0x09), *range(0x0E, 0x20)]))
characters = st.characters(exclude_categories=["Cs"], exclude_characters=UNFIT)
NASTY = [
    '""', " ", "\\", "\\F\\", "\\E\\", "\\X41\\", "\\XC3\\", "\\H\\", "\r", "\n", "a\r\nb", "MSH|^~\\&|",
    "PID|1", "\rMSH|^~\\&|A\r", "%s", "%", "{}", "x", "\ufeff", "\u2028", "\x85", "\x7f", "\t", "\x0b",
    "|^~\\&#", "007.50", "é", "€", "𝄞",
]  # fmt: skip
values = st.text(characters, min_size=1, max_size=12) | st.sampled_from(NASTY)
names = st.sampled_from(
    ["PID", "PV1", "ORC", "OBR", "OBX", "SPM", "NTE", "PRT", "ZZ1", "NKA", "QQQ"]
) | st.from_regex(r"[A-Z][A-Z0-9]{2}", fullmatch=True).filter(
    lambda name: name not in {"MSH", "FHS", "BHS", "BTS", "FTS", "ADD", "DSC"}
)


@st.composite
def fields(draw: st.DrawFn, value: st.SearchStrategy[str], roles: independent.Marks, first: int) -> Any:
    """Draw a segment's fields as a record has them, with what the delimiters can tell apart."""
    most = 4 if roles.subcomponent else 1
    places = st.tuples(st.integers(1, 5), st.integers(1, most)).map(
        lambda place: f"{place[0]}.{place[1]}" if place[1] > 1 else str(place[0])
    )
    repetition = st.dictionaries(places, value, max_size=4)
    several = st.lists(repetition, min_size=1, max_size=3 if roles.repetition else 1)
    return draw(
        st.dictionaries(
            st.integers(first, 20).filter(lambda n: n not in (9, 18)).map(str),
            several.filter(lambda found: bool(found[-1])),
            max_size=5,
        )
    )


def value_of(value: st.SearchStrategy[str], roles: independent.Marks) -> st.SearchStrategy[str]:
    """Limit values to what can be written: without an escape character, no delimiters and no line ends."""
    if roles.escape:
        return value
    unfit = "".join(roles) + "".join(map(chr, range(0x20)))
    return value.map(lambda text: "".join(c for c in text if c not in unfit) or "a")


@st.composite
def messages(
    draw: st.DrawFn,
    drawn_marks: st.SearchStrategy[tuple[str, str]] = marks,
    value: st.SearchStrategy[str] = values,
    msh_18: str = "",
) -> Segments:
    """Draw the segments of a record, parents included."""
    separator, msh_2 = draw(drawn_marks)
    roles = independent.marks_of(separator, msh_2)
    value = value_of(value, roles)
    header = draw(fields(st.just("a") if msh_18 else value, roles, 3))
    header |= {"1": [{"1": separator}], "2": [{"1": msh_2}], "9": [{"1": "ADT", "2": "A01"}]}
    if msh_18:
        header["18"] = [{"1": msh_18}]
    others = draw(st.lists(st.tuples(names, fields(value, roles, 1)), max_size=6))
    segments = [("MSH", header), *others]
    above = independent.parents([name for name, _ in segments], "ADT")
    return [
        {"n": n, "id": name, "fields": found} | ({"parent": parent} if parent else {})
        for n, ((name, found), parent) in enumerate(zip(segments, above, strict=True), 1)
    ]


def decoded(data: bytes) -> Segments:
    (result,) = decode(data)
    assert isinstance(result, Message), result["code"]
    return [dict(segment) for segment in result.record["segments"]]


@patiently
@given(messages(), st.sampled_from(["\r", "\n", "\r\n", "\n\r\n"]), st.sampled_from(["utf-8", "utf-8-sig"]))
def test_what_goes_in_comes_out(segments: Segments, end: str, charset: str) -> None:
    data = independent.encode(segments).replace("\r", end).encode(charset)
    assert decoded(data) == segments
    check(data)


@patiently
@given(messages(short_marks))
def test_what_goes_in_with_few_delimiters_comes_out(segments: Segments) -> None:
    data = independent.encode(segments).encode()
    assert decoded(data) == segments
    check(data)


LATE = bytes(range(0xA0, 0x100))
LETTERS = {
    **{
        f"8859/{part}": (f"iso-8859-{part}", "a" + LATE.decode(f"iso-8859-{part}", "ignore"))
        for part in (*range(1, 10), 15)
    },
    "WINDOWS-1252": ("windows-1252", "a" + LATE.decode("windows-1252")),
    "UNICODE UTF-8": ("utf-8", "aé€𝄞東"),
    "ISO IR14": ("shift_jis", "aﾔﾏﾀﾞ山田ソ表"),
    "ISO IR87": ("iso2022_jp_ext", "a山田ア丂"),
    "GB 18030-2000": ("gb18030", "a北京㐂𝄞"),
    "KS X 1001": ("euc_kr", "a서울"),
    "BIG-5": ("big5", "a臺北功許"),
}


@patiently
@given(st.sampled_from(sorted(LETTERS)), st.data())
def test_what_goes_in_comes_out_in_the_declared_set(msh_18: str, data: st.DataObject) -> None:
    codec, letters = LETTERS[msh_18]
    value = st.text(letters, min_size=1, max_size=8)
    segments = data.draw(messages(st.just(USUAL), value, msh_18))
    sent = independent.encode(segments).encode(codec)
    # What reads as UTF-8 is UTF-8, whatever part of ISO 8859 is declared.
    assume(not codec.startswith("iso-8859") or sent.isascii() or not is_utf8(sent))
    assert decoded(sent) == segments
    check(sent)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Escapes of control characters are one byte each, which is no text of UTF-16.
printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@patiently
@given(messages(value=printable), st.sampled_from(["utf-16-le", "utf-16-be"]))
def test_what_goes_in_comes_out_in_utf_16(segments: Segments, codec: str) -> None:
    data = ("\ufeff" + independent.encode(segments)).encode(codec)
    assert decoded(data) == segments
    check(data)


# -- what is no message, or hardly ---------------------------------------------------------------------------

LINES = [
    "MSH|^~\\&|A|F|||1||ADT^A01|1|P|2.5", "MSH#*:?@#A#F###1##ORU*R01#1#P#2.5", "MSH|^~&|||||||OUL^R22",
    "MSH|", "MSH-3", "\ufeffMSH|^~\\&|||||||A", "\x0bMSH|^~\\&|||||||A",
    "FHS|^~\\&|||||||||F", "BHS|^~\\&|", "BTS|1", "FTS", "PID|1||7", "PID", "OBX|1|TX|||one^a&b~c", "OBR|1",
    "ORC|NW", "SPM|1", "NTE", "NKA", "ADD", "ADD|", "ADD|more", "ADD||F", "DSC|P|F", "DSC|P|I", "DSC",
    "text that goes on", " ", "a|b", "\\X41\\\\XC3\\", "\\XC3\\\\XA9\\", "\\F\\S\\", "\x0b", "\x1c", "\x1a",
    "\t", "\ufeff", "é", "|", "^", "~", "\\", "&", "#", "*", "x", "\x00", "\x1b$B", '""',
]  # fmt: skip
soup = st.lists(st.sampled_from(LINES) | st.sampled_from(["\r", "\n", "\r\n", "\r\r"]), max_size=30)
texts = soup.map("".join) | st.lists(st.sampled_from(LINES), max_size=15).map("\r".join)
HEADER = "MSH|^~\\&|A|F|||1||ADT^A01|1|P|2.5\r"
H = HEADER.rstrip().encode()


@patiently
@given(texts, st.sampled_from(["utf-8", "utf-16", "latin-1"]))
@example("MSH|^~\\&|||||||A\rOBX|1\r\rADD\rNKA\r\rADD\rtext", "utf-8")
@example("MSH|^~\\&\rtext|||||||A", "utf-8")
def test_lines_of_all_kinds_in_any_order(text: str, codec: str) -> None:
    check(text.encode(codec, "ignore"))


@patiently
@given(texts)
@example("PID|1||7\rADD|\rtext")
@example("NKA\rADD|\rtext")
@example("PV1\rADD||x\rtext")
@example("ADD\rADD|\rADD|x")
def test_lines_of_all_kinds_in_one_message(text: str) -> None:
    check((HEADER + text).encode())


@patiently
@given(st.binary(max_size=200))
@example(FS + b"\xef")
@example(b"\xef\r" + H)
def test_bytes_of_all_kinds(data: bytes) -> None:
    check(data)
    check(HEADER.encode() + data)
    check(VT + data)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a good or bad file with bytes taken out, put in, repeated and moved."""
    data = draw(st.sampled_from(SEEDS))[:3000]
    for _ in range(draw(st.integers(1, 5))):
        begin, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        piece = data[begin:end]
        data = draw(
            st.sampled_from(
                [
                    data[:begin] + data[end:],
                    data[:end] + piece + data[end:],
                    data[:begin] + data[end:] + piece,
                    data[:begin] + bytes([draw(st.integers(0, 255))]) + data[begin + 1 :],
                    data[:begin] + draw(st.sampled_from(LINES)).encode() + data[begin:],
                ]
            )
        )
    return data[:6000]


@patiently
@given(mutated())
def test_files_with_errors_of_all_kinds(data: bytes) -> None:
    check(data)


def test_the_fuzz_target_checks_what_these_tests_check() -> None:
    run = checker()
    for data in SEEDS:
        run(data)


# -- streams -------------------------------------------------------------------------------------------------

contents = (
    st.sampled_from(SEEDS).map(lambda data: data[:500]) | st.binary(max_size=30) | st.just(HEADER.encode())
)
streams = st.lists(st.sampled_from([VT, FS, FS + b"\r", b"\r", VT + FS]) | contents, max_size=10).map(
    b"".join
)


@patiently
@given(streams, st.integers(1, 50))
def test_how_a_stream_is_cut_makes_no_difference(data: bytes, size: int) -> None:
    check(VT + data)
    check_chunks(VT + data, (1, size))


@patiently
@given(mutated(), st.integers(1, 200))
def test_how_a_file_is_cut_makes_no_difference(data: bytes, size: int) -> None:
    check_chunks(data, (1, size))


@patiently
@given(st.binary(max_size=60).filter(lambda data: VT not in data and FS not in data), st.integers(1, 9))
def test_whatever_is_in_a_frame_costs_no_neighbour(data: bytes, max_kilobytes: int) -> None:
    good = VT + HEADER.encode() + FS + b"\r"
    bad = VT + data * max_kilobytes * 50 + FS + b"\r"
    found = list(decode_stream([good + bad + good], source="x", max_bytes=1000 * max_kilobytes))
    for result in (found[0], found[-1]):
        assert isinstance(result, Message)
        assert result.data == HEADER.encode()


@patiently
@given(mutated() | streams, st.integers(1, 300), st.integers(1, 50))
@example(("\ufeff" + "𝄞é" * 50).encode("utf-16-le"), 3, 7)
def test_a_limit_loses_no_byte_and_does_not_hang_on_how_the_input_is_cut(
    data: bytes, max_bytes: int, size: int
) -> None:
    def cut(pieces: list[bytes]) -> list[Any]:
        return list(decode_stream(pieces, source="x", max_bytes=max_bytes))

    found = cut([data])
    assert cut([data[at : at + size] for at in range(0, len(data), size)]) == found
    for result in found:
        if isinstance(result, Message):
            assert len(result.data) <= max_bytes


# -- cost ----------------------------------------------------------------------------------------------------

FHS = b"FHS|^~\\&|"
BITS = bytes.maketrans(b"01", b"|a")


def shape(number: int) -> bytes:
    return f"{number:014b}".encode().translate(BITS)


def cut_up(data: bytes, size: int = 64) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# An input that grows with n; n such that it takes some hundredths of a second.
GROWING: dict[str, tuple[int, Callable[[int], Any]]] = {
    "delimiters of fields": (50_000, lambda n: [H + b"\rZZZ" + b"|" * n]),
    "delimiters of components": (200_000, lambda n: [H + b"\rZZZ|" + b"^" * n + b"x"]),
    "delimiters of repetitions": (50_000, lambda n: [H + b"\rZZZ|" + b"~" * n + b"x"]),
    "values in components": (20_000, lambda n: [H + b"\rZZZ|" + b"x^" * n]),
    "escape characters": (200_000, lambda n: [H + b"\rZZZ|" + b"\\" * n]),
    "hex without an end": (200_000, lambda n: [H + b"\rZZZ|\\X" + b"41" * n]),
    "hex that is no text": (100_000, lambda n: [H + b"\rZZZ|" + b"\\XFF\\" * n]),
    "short lines": (20_000, lambda n: [H + b"\rABC" * n]),
    "lines under an order": (20_000, lambda n: [H + b"\rPID\rORC\rOBR\rSPM" + b"\rOBX|" * n]),
    "blank lines": (200_000, lambda n: [H + b"\rNTE|" + b"\r" * n + b"text"]),
    "blank lines before": (200_000, lambda n: [b"\r\n \t" * n + H]),
    "lines of text": (100_000, lambda n: [H + b"\rNTE|" + b"\rtext" * n]),
    "lines of three capitals, then text": (50_000, lambda n: [H + b"\rNTE|" + b"\rNKA" * n + b"\rtext"]),
    "lines that look like a header": (50_000, lambda n: [H + b"\rMSH-x" * n]),
    "ADD": (100_000, lambda n: [H + b"\rNTE|" + b"\rADD|abc" * n]),
    "ADD without fields": (20_000, lambda n: [H + b"\rNTE|x" + b"\rADD" * n + b"\rADD|y"]),
    "ADD and blank lines": (20_000, lambda n: [H + b"\rNTE|x" + b"\rADD\r\r" * n + b"\r" * n]),
    "messages": (1_000, lambda n: [(H + b"\r") * n]),
    "broken messages": (2_000, lambda n: [b"MSH|\r" * n]),
    "envelopes": (2_000, lambda n: [b"FHS|^~\\&|x\r" * n]),
    "an envelope that grows": (300, lambda n: [FHS + b"x" * 20 * n + b"\r" + (H + b"\r") * n]),
    "frames": (3_000, lambda n: [b"\x0bx\x1c\r" * n]),
    "frames that begin anew": (5_000, lambda n: [b"\x0b" + (H + b"\r\x0b") * n + H + b"\x1c\r"]),
    "vertical tabs": (1_000_000, lambda n: [H + b"\rNTE|" + b"\x0b" * n + b"x"]),
    "character sets": (5_000, lambda n: [H + b"||||||" + b"8859/1~" * n + b"\rNTE|" + b"\xc3\xa9" * n]),
    "a message in many chunks": (1_000_000, lambda n: cut_up(H + b"\rNTE|" + b"x" * n)),
    "no message in many chunks": (1_000_000, lambda n: cut_up(b"x" * n)),
    "a frame in many chunks": (1_000_000, lambda n: cut_up(VT + H + b"\rNTE|" + b"x" * n + FS)),
    "UTF-16 in many chunks": (100_000, lambda n: cut_up(("\ufeff" + HEADER + "x" * n).encode("utf-16-le"))),
    "shapes": (1000, lambda n: [H + b"".join(b"\rZZZ|" + shape(i) for i in range(n))]),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_time_and_output_are_in_proportion_to_the_input(name: str) -> None:
    n, make = GROWING[name]

    def cost(n: int) -> tuple[float, int]:
        gc.collect()
        gc.disable()  # what other tests have left behind is not to be counted
        started = time.process_time()
        size = 0
        for result in decode_stream(make(n), source="x", max_bytes=1 << 30):
            if isinstance(result, Message):
                size += len(result.segments) + len(str(result.meta))
            else:
                size += len(str(result))
        gc.enable()
        return time.process_time() - started, size

    cost(n)
    (small, small_size), (large, large_size) = min(cost(n), cost(n)), min(cost(5 * n), cost(5 * n))
    # Five times as much takes five times as long; were it quadratic, 25 times.
    assert large < 14 * small + 0.1
    assert large_size < 7 * small_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\rNTE|1" * 100_000, [{"1": [{"1": "1"}]}] * 100_000),
        ("\rNTE|1" * 100_000 + "\rtext", [{"1": [{"1": "1"}]}] * 99_999 + [{"1": [{"1": "1\ntext"}]}]),
        ("\rZZZ" + "|x" * 100_000, [{str(n): [{"1": "x"}] for n in range(1, 100_001)}]),
        ("\rZZZ|" + "x~" * 99_999 + "x", [{"1": [{"1": "x"}] * 100_000}]),
        ("\rZZZ|" + "x^" * 100_000, [{"1": [{str(n): "x" for n in range(1, 100_001)}]}]),
        ("\rZZZ|" + "&" * 100_000 + "x", [{"1": [{"1.100001": "x"}]}]),
        ("\rZZZ|" + "x" * 3_900_000, [{"1": [{"1": "x" * 3_900_000}]}]),
        ("\rZZZ|x" + "\rtext" * 100_000, [{"1": [{"1": "x" + "\ntext" * 100_000}]}]),
        ("\rZZZ|x" + "\rADD|y" * 100_000, [{"1": [{"1": "x" + "y" * 100_000}]}]),
        ("\rZZZ|" + "\\T\\" * 100_000, [{"1": [{"1": "&" * 100_000}]}]),
        ("\rZZZ|" + "\\XC3\\\\XA9\\" * 100_000, [{"1": [{"1": "é" * 100_000}]}]),
    ],
    ids=[
        "segments", "segments and text", "fields", "repetitions", "components", "subcomponents",
        "value", "lines", "ADD", "escapes", "hex",
    ],
)  # fmt: skip
def test_nothing_is_lost_of_what_is_large(text: str, expected: Any) -> None:
    is_whole = [segment["fields"] for segment in decoded(H + text.encode())[1:]] == expected
    assert is_whole


def test_a_hundred_thousand_messages() -> None:
    data = b"MSH|^~\\&|||||||A\r"
    found = decode(data * 100_000)
    assert {type(result) for result in found} == {Message}
    assert len(found) == 100_000
    assert sum(len(result.data) for result in found if isinstance(result, Message)) == 100_000 * len(data)


@pytest.mark.parametrize(
    "start", [H + b"\rNTE|", b"no HL7", VT + H + b"\rNTE|", H + b"\r\n" * 100, b"FHS|^~\\&|"]
)
@pytest.mark.parametrize("filling", [b"x", b"\r", b"|", b"\rPID"])
def test_memory_is_bounded_by_the_limit_not_the_input(start: bytes, filling: bytes) -> None:
    def endless() -> Iterator[bytes]:
        yield start
        for _ in range(12):
            yield filling * (500_000 // len(filling))

    tracemalloc.start()
    try:
        for _ in decode_stream(endless(), source="x", max_bytes=50_000):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_500_000  # of six millions
