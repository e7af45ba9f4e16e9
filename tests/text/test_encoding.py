"""The encoding of pages, as browsers find it."""

from __future__ import annotations

import pytest

from genus.text.encoding import codec_of, decoded

THAI, EURO = "\u0e44\u0e17\u0e22", "\u20ac"
OLD = "<META http-equiv=Content-Type content='text/html; charset=iso-8859-1'>"


@pytest.mark.parametrize(
    ("data", "told", "text"),
    [
        (THAI.encode(), None, THAI),
        (b"\xef\xbb\xbf" + THAI.encode(), "windows-1252", THAI),  # its mark says more than the server
        ("\ufeff<p>a".encode("utf-16-le"), None, "<p>a"),
        ("\ufeff<p>a".encode("utf-16-be"), None, "<p>a"),
        (THAI.encode("tis-620"), "TIS-620", THAI),
        (b'<meta charset="windows-874">' + THAI.encode("tis-620"), None, f'<meta charset="windows-874">{THAI}'),
        (b"<meta charset=utf-8>\x80", "iso-8859-1", f"<meta charset=utf-8>{EURO}"),  # the server says more than it
        (OLD.encode() + b"\x80", None, OLD + EURO),
        (b"<meta charset=utf-16>a", None, "<meta charset=utf-16>a"),
        (b"caf\xe9 \x80", None, f"caf\xe9 {EURO}"),
        (b"caf\xe9.", "no such thing", "caf\xe9."),
        ("\u65e5\u672c".encode("cp932"), "Shift_JIS", "\u65e5\u672c"),
        ("\u4e2d\u56fd".encode("gb18030"), "gb2312", "\u4e2d\u56fd"),
    ],
)
def test_the_encoding_is_found(data: bytes, told: str | None, text: str) -> None:
    assert decoded(data, told) == (text, 0)


def test_what_is_no_character_is_counted() -> None:
    assert decoded(b"a\xffb\xfec", "utf-8") == ("a\ufffdb\ufffdc", 2)
    assert decoded(b"a\x81", "windows-1252") == ("a\ufffd", 1)
    whole = THAI.encode()
    assert decoded(whole[:-1]) == (f"{THAI[:-1]}\ufffd", 1)  # cut within a character, and no other encoding


def test_labels_of_no_text() -> None:
    assert codec_of("base64") is None
    assert codec_of("x\0y") is None
    assert codec_of(" 'UTF8' ") == "utf-8"
