"""What the user sees: progress on stderr, answers on stdout. The only importer of rich, which is imported late."""

from labctl.ui.answers import confirm, document, hosts_lines, rows, show_error, show_error_json, status, table, values
from labctl.ui.findings import findings
from labctl.ui.progress import Result, Watcher, watcher
from labctl.ui.screen import Output
from labctl.ui.trace import trace

__all__ = [
    "Output",
    "Result",
    "Watcher",
    "confirm",
    "document",
    "findings",
    "hosts_lines",
    "rows",
    "show_error",
    "show_error_json",
    "status",
    "table",
    "trace",
    "values",
    "watcher",
]
