"""MSH-1, MSH-2 and the escapes that stand for them."""

import pytest

from loaders.hl7.delimiters import make_unescape, read_delimiters
from loaders.hl7.rejects import RejectError


@pytest.mark.parametrize(
    ("header", "expected", "is_regular"),
    [
        ("MSH|^~\\&|X", "| ^ ~ \\ & -", True),
        ("MSH|^~\\&", "| ^ ~ \\ & -", True),
        ("MSH|^~\\&#|X", "| ^ ~ \\ & #", True),
        ("MSH#*:?@#X", "# * : ? @ -", True),
        ("MSH|^~`&|X", "| ^ ~ ` & -", True),
        ("FHS|^~\\&|X", "| ^ ~ \\ & -", True),
        # short: the usual characters keep their usual meaning, others count by position
        ("MSH|^~&|X", "| ^ ~ - & -", False),
        ("MSH|^\\&|X", "| ^ - \\ & -", False),
        ("MSH|^~\\|X", "| ^ ~ \\ - -", False),
        ("MSH|^|X", "| ^ - - - -", False),
        ("MSH|*:?|X", "| * : ? - -", False),
        # a backslash that a source has doubled
        ("MSH|^~\\\\&|X", "| ^ ~ \\ & -", False),
    ],
)
def test_each_character_of_msh_2_has_its_role(header: str, expected: str, is_regular: bool) -> None:
    *characters, _, regular = read_delimiters(header)
    assert [c or "-" for c in characters] == expected.split()
    assert regular is is_regular


@pytest.mark.parametrize(
    "header",
    [
        "MSH",
        "MSH|",
        "MSH||X",
        "MSH|&&&&|X",
        "MSH|^~\\^|X",
        "MSH|^~\\&#%|X",
        "MSH|ABCD|X",
        "MSH ^~\\& X",
        "MSHA^~\\&A",
        "MSH|^~ &|X",
    ],
)
def test_missing_repeated_or_unfit_delimiters_are_rejected(header: str) -> None:
    with pytest.raises(RejectError, match="E_DELIMITERS"):
        read_delimiters(header)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("\\F\\", "|"),
        ("\\S\\", "^"),
        ("\\T\\", "&"),
        ("\\R\\", "~"),
        ("\\E\\", "\\"),
        ("\\P\\", "#"),
        ("a\\T\\b\\T\\c", "a&b&c"),
        ("\\E\\F\\E\\", "\\F\\"),
        ("\\X41\\", "A"),
        ("\\X414243\\", "ABC"),
        ("\\X0D0A\\", "\r\n"),
        ("caf\\XC3A9\\", "café"),
        ("caf\\XC3\\\\XA9\\", "café"),
        ("\\Xc3a9\\", "é"),
        # these stay: formatting, sets, local ones, hex that is no text, control characters, lone marks
        ("\\H\\bold\\N\\", "\\H\\bold\\N\\"),
        ("one\\.br\\two", "one\\.br\\two"),
        ("\\C2842\\", "\\C2842\\"),
        ("\\Z1\\", "\\Z1\\"),
        ("\\XC3\\", "\\XC3\\"),
        ("\\X4\\", "\\X4\\"),
        ("\\X\\", "\\X\\"),
        ("\\X00\\", "\\X00\\"),
        ("\\X41001B\\", "\\X41001B\\"),
        ("C:\\temp", "C:\\temp"),
        ("\\", "\\"),
        ("\\\\", "\\\\"),
        ("\\f\\", "\\f\\"),
    ],
)
def test_escapes(sent: str, meant: str) -> None:
    assert make_unescape(read_delimiters("MSH|^~\\&#|"), "utf-8")(sent) == meant


def test_hex_is_in_the_character_set_of_the_message() -> None:
    delimiters = read_delimiters("MSH|^~\\&|")
    assert make_unescape(delimiters, "iso-8859-1")("\\XE9\\") == "é"
    assert make_unescape(delimiters, "ascii")("\\XE9\\") == "\\XE9\\"


def test_escapes_are_in_the_delimiters_of_the_message() -> None:
    unescape = make_unescape(read_delimiters("MSH#*:?@#"), "utf-8")
    assert unescape("?F??S??T??R??E?\\F\\") == "#*@:?\\F\\"


def test_an_escape_for_a_delimiter_the_message_has_not_stays() -> None:
    assert make_unescape(read_delimiters("MSH|^~\\&|"), "utf-8")("\\P\\") == "\\P\\"
    assert make_unescape(read_delimiters("MSH|^~&|"), "utf-8")("\\F\\") == "\\F\\"
