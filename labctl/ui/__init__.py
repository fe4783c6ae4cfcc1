"""Progress on stderr, answers on stdout, demos and their recordings. The only importer of rich, which is imported late."""

from labctl.ui.answers import (
    cache,
    confirm,
    demos,
    document,
    export,
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
from labctl.ui.trace import evidence_sentences, opened_page, trace

__all__ = [
    "Cast",
    "JsonWatcher",
    "Stage",
    "cache",
    "confirm",
    "demo_result",
    "demos",
    "document",
    "evidence_sentences",
    "export",
    "findings",
    "images",
    "indented",
    "lines",
    "opened_page",
    "rows",
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
