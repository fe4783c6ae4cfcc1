"""Check whether servers answer: all at once, within a time limit that even a slow resolver cannot exceed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

SECONDS = 4.5


def unreachable_reasons(urls: Sequence[str], ask: Callable[[str], str], seconds: float = SECONDS) -> tuple[str, ...]:
    """Return the reasons why servers do not answer, each once; none if all answer.

    `ask` returns the reason for one server; empty if it answers. A server without a result after `seconds` does not
    answer, and its thread is abandoned, since a lookup cannot be interrupted.
    """
    answers: dict[str, str] = {}

    def note(url: str) -> None:
        answers[url] = ask(url)

    threads = [threading.Thread(target=note, args=(url,), daemon=True) for url in urls]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    reasons = (answers.get(url, f"{url} does not answer within {seconds:g} s") for url in urls)
    return tuple(dict.fromkeys(filter(None, reasons)))
