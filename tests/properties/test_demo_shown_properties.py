"""A demo's recording, for any output at any time."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.ui.recording import Cast


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outputs=st.lists(st.tuples(st.text(), st.floats(0, 10), st.floats(0, 10))))
def test_a_recordings_times_never_decrease_and_its_text_is_complete(
    tmp_path: Path, outputs: list[tuple[str, float, float]]
) -> None:
    now = 50.0
    cast = Cast(tmp_path / "a.cast", "", lambda: now)
    for text, pause, waited in outputs:
        now += pause + waited
        cast.skip(waited)
        cast.write(text)
    cast.save("")

    events = [json.loads(line) for line in (tmp_path / "a.cast").read_text(encoding="utf-8").splitlines()[1:]]
    moments = [moment for moment, *_ in events]
    assert moments == sorted(moments)
    assert all(0 <= moment <= sum(pause for _, pause, _ in outputs) + 1e-5 for moment in moments)
    assert "".join(text for *_, text in events) == "".join(text for text, *_ in outputs).replace("\n", "\r\n")
