"""Labs in which the request reaches a pod, or should, and the answer is not what a browser wants."""

from __future__ import annotations

from typing import Any

from e2e.reallab import RealLab

from . import BrokenLab
from .breaking import run_as_ever, run_instead

FAILING = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http { access_log /dev/stdout; server { listen 80; location / { return 500; } } }
"""


def _is_shown_with_its_code(lab: RealLab, hop: Any) -> None:  # noqa: ANN401 - JSON
    assert {each["status"] for each in hop["evidence"]["pods"]} == {500}
    assert [app["http"] for app in lab.status()["apps"]] == [500]


ROWS = (
    BrokenLab(
        "an app that answers 500 from every pod",
        lambda lab: run_instead(lab, "nginx", "-c", "/cfg/nginx.conf", config=FAILING),
        "response",
        "app-answers-error",
        up="fine",
        state="warning",
        undo=run_as_ever,
        also=_is_shown_with_its_code,
    ),
)
