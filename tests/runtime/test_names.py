"""Names that are not UTF-8: to text that everything takes, and back to the file."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cpcdr.runtime.names import readable, real_path


@given(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"\0\\/")))
def test_every_name_comes_back(name: bytes) -> None:
    text = readable(os.fsdecode(name))
    text.encode()
    assert os.fsencode(str(real_path(f"/none/{text}"))) == os.fsencode(
        str(Path("/none") / os.fsdecode(name))
    )


def test_a_file_that_is_really_named_so_is_meant(tmp_path: Path) -> None:
    literal = tmp_path / "br\\xfccke.mp4"
    literal.write_text("literally")
    assert real_path(str(literal)) == literal
    literal.unlink()
    assert os.fsencode(real_path(str(literal)).name) == b"br\xfccke.mp4"
