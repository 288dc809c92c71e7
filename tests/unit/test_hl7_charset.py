"""Which character set a message is read in."""

import codecs

import pytest

from loaders.hl7.charset import CHARSETS, read_text
from loaders.hl7.rejects import RejectError

LATIN, UTF8 = "Zürich".encode("latin-1"), "Zürich".encode()


@pytest.mark.parametrize(
    ("data", "declared", "text", "charset", "is_as_declared"),
    [
        (b"plain", [], "plain", "utf-8", True),
        (b"plain", ["ASCII"], "plain", "ascii", True),
        (UTF8, [], "Zürich", "utf-8", True),
        (UTF8, ["UNICODE UTF-8"], "Zürich", "utf-8", True),
        (LATIN, ["8859/1"], "Zürich", "iso-8859-1", True),
        (LATIN, ["ISO-8859-1"], "Zürich", "iso-8859-1", True),
        ("Łódź".encode("iso-8859-2"), ["8859/2"], "Łódź", "iso-8859-2", True),
        (LATIN, ["", "8859/15"], "Zürich", "iso-8859-15", True),
        ("東京".encode("gb18030"), ["GB 18030-2000"], "東京", "gb18030", True),
        ("서울".encode("euc-kr"), ["KS X 1001"], "서울", "euc_kr", True),
        ("東京".encode("big5"), ["BIG-5"], "東京", "big5", True),
        ("a東京".encode("iso2022_jp"), ["ASCII", "ISO IR87"], "a東京", "iso2022_jp_ext", True),
        # a byte order mark goes before the declaration
        (b"\xef\xbb\xbf" + UTF8, ["8859/1"], "Zürich", "utf-8", False),
        # the bytes do not bear the declaration out
        (UTF8, ["ASCII"], "Zürich", "utf-8", False),
        (UTF8, ["8859/1"], "Zürich", "utf-8", False),
        (LATIN, ["UNICODE UTF-8"], "Zürich", "windows-1252", False),
        (b"\x93quoted\x94", ["8859/1"], "“quoted”", "windows-1252", False),
        # nothing is declared, or nothing known
        (LATIN, [], "Zürich", "windows-1252", False),
        (UTF8, ["code1", "code2"], "Zürich", "utf-8", False),
    ],
)
def test_byte_order_mark_then_declared_then_utf_8_then_fallback(
    data: bytes, declared: list[str], text: str, charset: str, is_as_declared: bool
) -> None:
    assert read_text(data, declared) == (text, charset, is_as_declared)


def test_the_fallback_can_be_chosen() -> None:
    assert read_text("Łódź".encode("iso-8859-2"), [], "iso-8859-2").text == "Łódź"


def test_bytes_that_are_no_text_are_rejected() -> None:
    with pytest.raises(RejectError, match="E_CHARSET"):
        read_text(b"\x81\x8d\xff", [])


@pytest.mark.parametrize("charset", sorted(CHARSETS))
def test_no_set_gives_half_a_surrogate_pair(charset: str) -> None:
    # codecs that map bytes to lone surrogates would break JSON; all one- and two-byte sequences are tried
    codecs.lookup(charset)
    for first in range(256):
        for rest in (b"", *(bytes([second]) for second in range(256)), b"\x30\x81\x30", b"\x36\xc7\x38"):
            try:
                text = (bytes([first]) + rest).decode(charset)
            except UnicodeDecodeError:
                continue
            text.encode()
