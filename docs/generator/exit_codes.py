"""Every exit code, and the error ids that end a command with it."""

from __future__ import annotations

from generator import errors, markdown
from labctl.cli.man import EXIT_CODES


def page() -> str:
    """Return the page."""
    raised = sorted(errors.raised())
    ids = {code: dict.fromkeys(error.id for error in raised if error.code == code) for code in EXIT_CODES}
    return markdown.page(
        "Exit codes",
        "Every command ends with one of these. `labctl exec` and `labctl ssh` end with the exit code of the command that"
        " they ran.",
        markdown.table(
            ("Exit code", "Meaning"),
            ((markdown.code(str(int(code))), text) for code, text in EXIT_CODES.items()),
        ),
        "## Errors with each exit code",
        *(
            f"Exit code {int(code)}: {', '.join(f'[{name}](errors.md#{name})' for name in names)}."
            for code, names in ids.items()
            if names
        ),
    )
