"""Standard output that takes nothing: full, or read by nobody, whether Python buffers it or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

FULL = Path("/dev/full")
ANSWERS = {"longer than any buffer": ("schema",), "short": ("-o", "json", "list"), "of a run": ("-o", "json", "halt")}


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize(("stdout", "code"), [("full", 3), ("gone", 141)])
def test_an_answer_that_cannot_be_written_ends_with_one_message_at_most(
    stdout: str, code: int, arguments: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "PYTHONUNBUFFERED": unbuffered}
    line = [sys.executable, "-m", "labctl", *arguments]

    with _stream(stdout) as out:
        ended = subprocess.run(
            line, env=environment, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert len([text for text in ended.stderr.splitlines() if text.startswith("error: ")]) == (code != 141)


def _stream(kind: str) -> IO[bytes]:
    if kind == "full":
        return FULL.open("wb")
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")
