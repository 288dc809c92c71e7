"""Every byte of an input is in one piece, and each piece is what it should be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.hl7.framing import Piece, pieces

A = b"MSH|^~\\&|A|F|||1||ADT^A01|1|P|2.5\rPID|1||7\r"
B = b"MSH|^~\\&|B|F|||2||ADT^A03|2|P|2.5\rPID|1||8\r"
VT, FS = b"\x0b", b"\x1c"


def cut(data: bytes, size: int | None = None) -> list[Piece]:
    size = size or max(len(data), 1)
    return list(pieces(data[at : at + size] for at in range(0, len(data), size)))


def kinds(data: bytes) -> list[tuple[str, bytes]]:
    return [(piece.kind, piece.data) for piece in cut(data)]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r\n"])
def test_messages_are_cut_at_lines_whatever_ends_them(end: bytes) -> None:
    first, second = A.replace(b"\r", end), B.replace(b"\r", end)
    assert kinds(first + second) == [("MSH", first), ("MSH", second)]


def test_the_last_line_needs_no_end() -> None:
    assert kinds(A + B[:-1]) == [("MSH", A), ("MSH", B[:-1])]


@pytest.mark.parametrize(
    "text",
    [
        b"OBX|1|TX|||MSH|^~\\& stands in the text\r",
        b"MSH-3 names the sender\r",
        b"MSH: see above\r",
        b"MSHX|1\r",
    ],
)
def test_msh_within_text_starts_no_message(text: bytes) -> None:
    assert kinds(A + text) == [("MSH", A + text)]


@pytest.mark.parametrize(
    "header", [b"MSH#*:?@#X\r", b"MSH$%~\\&$X\r", b"MSH|\r", b"MSH||X\r", b"MSH|ABCD|X\r"]
)
def test_any_delimiter_starts_a_message_and_a_broken_header_does_too(header: bytes) -> None:
    assert kinds(A + header) == [("MSH", A), ("MSH", header)]


def test_a_header_that_is_broken_in_the_delimiter_of_the_one_before_starts_a_message() -> None:
    first, second = b"MSH#*:?@#X\r", b"MSH#ABC\r"
    assert kinds(first + second) == [("MSH", first), ("MSH", second)]


def test_byte_order_marks_stay_with_their_message() -> None:
    bom = b"\xef\xbb\xbf"
    assert kinds(bom + A + bom + B) == [("MSH", bom + A), ("MSH", bom + B)]


def test_text_before_the_first_message_is_no_message() -> None:
    assert kinds(b"junk\r" + A) == [("E_NO_MSH", b"junk\r"), ("MSH", A)]


def test_blank_lines_before_the_first_message_belong_to_it() -> None:
    assert kinds(b"\r\n \n" + A) == [("MSH", b"\r\n \n" + A)]


@pytest.mark.parametrize("data", [b"", b"\r\n", b" \t\n\xef\xbb\xbf"])
def test_nothing_at_all_is_said_to_be_empty(data: bytes) -> None:
    assert kinds(data) == [("E_EMPTY", data)]


def test_a_batch_is_cut_into_envelope_and_messages() -> None:
    lines = [b"FHS|^~\\&|X\r", b"BHS|^~\\&|X\r", A, B, b"BTS|2\r", b"FTS|1\r\n\r\n"]
    assert kinds(b"".join(lines)) == list(zip(["FHS", "BHS", "MSH", "MSH", "BTS", "FTS"], lines, strict=True))


def test_segments_right_under_an_envelope_are_no_message() -> None:
    assert kinds(b"BHS|^~\\&|X\rPID|1||7\r" + A) == [
        ("BHS", b"BHS|^~\\&|X\r"),
        ("E_NO_MSH", b"PID|1||7\r"),
        ("MSH", A),
    ]


def test_a_batch_without_a_message_is_empty() -> None:
    assert [kind for kind, _ in kinds(b"BHS|^~\\&|X\rBTS|0\r")] == ["BHS", "BTS", "E_EMPTY"]


def test_frames_are_cut_and_unwrapped() -> None:
    data = VT + A + FS + b"\r" + VT + B + FS + b"\r"
    assert cut(data) == [Piece("MSH", 1, A), Piece("MSH", len(A) + 4, B)]


@pytest.mark.parametrize("after", [b"", b"\n", b"\r\n", b"\r\r"])
def test_what_follows_the_end_of_a_frame_may_be_any_line_end(after: bytes) -> None:
    assert kinds(VT + A + FS + after + VT + B + FS + after) == [("MSH", A), ("MSH", B)]


def test_a_frame_may_hold_several_messages() -> None:
    assert kinds(VT + A + B + FS + b"\r") == [("MSH", A), ("MSH", B)]


def test_an_empty_frame_is_told() -> None:
    assert kinds(VT + FS + b"\r" + VT + A + FS + b"\r") == [("E_EMPTY", b""), ("MSH", A)]


def test_a_frame_without_a_message_is_told() -> None:
    assert kinds(VT + b"PID|1\r" + FS + b"\r" + VT + A + FS + b"\r") == [("E_NO_MSH", b"PID|1\r"), ("MSH", A)]


def test_bytes_between_frames_are_told_and_cost_no_neighbour() -> None:
    data = VT + A + FS + b"\rstray" + VT + B + FS + b"\r"
    assert cut(data) == [
        Piece("MSH", 1, A),
        Piece("E_FRAME", len(A) + 3, b"stray"),
        Piece("MSH", len(A) + 9, B),
    ]


def test_a_frame_that_does_not_end_is_told() -> None:
    assert kinds(VT + A + FS + b"\r" + VT + B) == [("MSH", A), ("E_FRAME", B)]


def test_a_frame_that_begins_anew_loses_the_half_only() -> None:
    data = VT + A[:20] + VT + B + FS + b"\r"
    assert cut(data) == [Piece("E_FRAME", 1, A[:20]), Piece("MSH", 22, B)]


def test_a_vertical_tab_in_text_does_not_begin_a_frame() -> None:
    message = A + b"NTE|1||one\x0btwo\r"
    assert kinds(VT + message + FS + b"\r") == [("MSH", message)]


def test_a_framed_message_in_a_file_that_does_not_begin_with_a_frame_is_found() -> None:
    assert [kind for kind, _ in kinds(b"\n" + VT + A + FS + b"\r" + VT + B + FS + b"\r")] == ["MSH", "MSH"]


@pytest.mark.parametrize(("encoding", "bom"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_utf_16_is_cut_by_its_characters(encoding: str, bom: bytes) -> None:
    first, second = (message.decode().replace("7", "Ω𝄞").encode(encoding) for message in (A, B))
    assert cut(bom + first + second) == [
        Piece("MSH", 0, bom + first, encoding),
        Piece("MSH", 2 + len(first), second, encoding),
    ]


def test_the_first_message_may_be_indented() -> None:
    assert kinds(b"\r\n  " + A + b" MSH|text\r" + B) == [("MSH", b"\r\n  " + A + b" MSH|text\r"), ("MSH", B)]
    assert kinds(b"x\r MSH|^~\\&|") == [("E_NO_MSH", b"x\r MSH|^~\\&|")]


def test_what_is_no_utf_16_after_all_is_told() -> None:
    assert kinds(b"\xff\xfeM\x00\x00\xd8") == [("E_CHARSET", b"\xff\xfeM\x00\x00\xd8")]


FRAGMENTS = [
    A,
    B,
    VT,
    FS,
    b"\r",
    b"\n",
    b"MSH",
    b"|",
    b"#",
    b"MSH#*:?@#X\r",
    b"\xef\xbb\xbf",
    b"BHS|^~\\&|\r",
    b"BTS|1",
    b"x",
]
inputs = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join)


@given(inputs, st.integers(1, 40))
def test_how_the_input_is_divided_makes_no_difference(data: bytes, size: int) -> None:
    assert cut(data, size) == cut(data)


@given(inputs | st.binary())
def test_every_byte_is_in_one_piece(data: bytes) -> None:
    found = cut(data)
    at = 0
    for piece in found:
        between = data[at : piece.byte_offset]
        assert not between.strip(VT + FS + b" \t\r\n\x1a\xef\xbb\xbf"), "bytes were left out"
        assert data[piece.byte_offset :].startswith(piece.data)
        assert piece.byte_offset >= at
        at = piece.byte_offset + len(piece.data)
    assert not data[at:].strip(VT + FS + b" \t\r\n\x1a\xef\xbb\xbf")
    if not data.startswith(VT):
        assert b"".join(piece.data for piece in found) == data


def test_an_input_may_come_byte_by_byte_and_unlimited() -> None:
    endless = itertools.chain.from_iterable(itertools.repeat([A[:9], A[9:]]))
    assert [piece.kind for piece in itertools.islice(pieces(endless), 100)] == ["MSH"] * 100
