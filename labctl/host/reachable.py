"""Whether servers answer, found out for all of them at once and within a bound that no resolver exceeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

SECONDS = 4.5


def silent(urls: Sequence[str], ask: Callable[[str], str], seconds: float = SECONDS) -> tuple[str, ...]:
    """Return why servers do not answer, one reason for each; none if all do. `ask` returns why one does not, or nothing.

    What has said nothing after `seconds` does not answer; it is not waited for, since a resolver cannot be interrupted.
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
