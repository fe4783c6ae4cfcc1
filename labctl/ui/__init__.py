"""What the user sees: progress on stderr, answers on stdout. The only importer of rich, which is imported late."""

from labctl.ui.answers import (
    confirm,
    document,
    error_document,
    exported,
    indented,
    lines,
    rows,
    show_error,
    show_error_json,
    status,
    table,
    text,
    values,
)
from labctl.ui.demo import (
    COLOUR,
    RECORDED_HEIGHT,
    RECORDED_TERMINAL,
    RECORDED_WIDTH,
    Recording,
    Stage,
    chart,
    demo_result,
    load_text,
)
from labctl.ui.findings import findings
from labctl.ui.progress import JsonWatcher, Result, Watcher, watcher
from labctl.ui.screen import Output
from labctl.ui.trace import opened, trace

__all__ = [
    "COLOUR",
    "RECORDED_HEIGHT",
    "RECORDED_TERMINAL",
    "RECORDED_WIDTH",
    "JsonWatcher",
    "Output",
    "Recording",
    "Result",
    "Stage",
    "Watcher",
    "chart",
    "confirm",
    "demo_result",
    "document",
    "error_document",
    "exported",
    "findings",
    "indented",
    "lines",
    "load_text",
    "opened",
    "rows",
    "show_error",
    "show_error_json",
    "status",
    "table",
    "text",
    "trace",
    "values",
    "watcher",
]
