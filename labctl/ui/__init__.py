"""Progress on stderr, answers on stdout, demos and their recordings. The only importer of rich, which is imported late."""

from labctl.ui.answers import (
    cache,
    confirm,
    demos,
    document,
    exported,
    images,
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
from labctl.ui.demo import Stage, demo_result, stage
from labctl.ui.findings import findings
from labctl.ui.progress import JsonWatcher, watcher, watching
from labctl.ui.recording import Cast
from labctl.ui.trace import opened, seen, trace

__all__ = [
    "Cast",
    "JsonWatcher",
    "Stage",
    "cache",
    "confirm",
    "demo_result",
    "demos",
    "document",
    "exported",
    "findings",
    "images",
    "indented",
    "lines",
    "opened",
    "rows",
    "seen",
    "show_error",
    "show_error_json",
    "stage",
    "status",
    "table",
    "text",
    "trace",
    "values",
    "watcher",
    "watching",
]
