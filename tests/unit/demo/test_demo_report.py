"""The report of a demo in Markdown."""

from __future__ import annotations

from datetime import UTC, datetime

from golden_files import Golden

from labctl import __version__
from labctl.context import Context
from labctl.demo.report import markdown
from labctl.model.demo_reports import DemoReport

REPORT: DemoReport = {
    "version": 1,
    "demo": "tour",
    "lab": "demo",
    "ok": False,
    "seconds": 42.0,
    "scenes": [
        {
            "title": "The | site",
            "say": "It is there,\nand so are we.\n\nA second paragraph.\n",
            "ok": True,
            "seconds": 10.0,
            "commands": [{"command": "kubectl get nodes", "code": 0, "seconds": 0.5}],
            "expectations": [{"text": "it answers 200", "ok": True, "measured": "HTTP 200", "seconds": 0.25}],
            "load": {
                "hostname": "my-app.local",
                "seconds": 4.5,
                "answers": 35,
                "failures": 2,
                "gap": 1.2,
                "per_second": [10, 0, 10, 10, 5],
                "first_command": 1.1,
            },
        },
        {
            "title": "Later",
            "say": None,
            "ok": False,
            "seconds": 32.0,
            "commands": [{"command": "labctl halt", "code": None, "seconds": 1.0}],
            "expectations": [{"text": "it | answers", "ok": False, "measured": "HTTP 503", "seconds": 30.0}],
            "load": None,
        },
    ],
    "cleanup": [{"command": "labctl up", "code": 0, "seconds": 9.0}],
    "error": {"id": "demo-failed", "message": "it\nbroke", "hint": "", "details": []},
}


def test_the_report_has_every_number_and_version(context: Context, golden: Golden) -> None:
    page = markdown("The tour", REPORT, context, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert f"- versions: labctl {__version__}, Kubernetes 1.37.2, MetalLB 0.15.2, traefik 3.7.15\n" in page
    golden(page.replace(f"labctl {__version__}", "labctl 1.0"))


def test_a_report_omits_empty_sections(context: Context, golden: Golden) -> None:
    report: DemoReport = {**REPORT, "ok": True, "seconds": 1.0, "scenes": [], "cleanup": [], "error": None}

    page = markdown("x", report, context, datetime(2026, 1, 1, tzinfo=UTC))

    golden(page.replace(f"labctl {__version__}", "labctl 1.0"))
