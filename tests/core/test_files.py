"""Files written whole or not at all, whatever a string holds."""

import json
from pathlib import Path

import pytest

from llmlib.core.files import atomic_write, read_json


@pytest.mark.parametrize("text", ["\ud83d", "a \\ \udc00 é", '"\ud800"'])
def test_a_lone_surrogate_is_written_as_the_escape_that_json_reads(tmp_path: Path, text: str):
    value = {"é": text, text: [text]}
    atomic_write(tmp_path / "a.json", json.dumps(value, ensure_ascii=False))
    assert read_json(tmp_path / "a.json") == value
    assert "é".encode() in (tmp_path / "a.json").read_bytes()


def test_text_is_utf_8_and_bytes_are_as_they_are(tmp_path: Path):
    atomic_write(tmp_path / "a", "Schön\r\n")
    assert (tmp_path / "a").read_bytes() == "Schön\r\n".encode()
    atomic_write(tmp_path / "a", b"\xff\0")
    assert (tmp_path / "a").read_bytes() == b"\xff\0"
