"""Whether servers answer, found out for all of them at once and within a bound that no resolver exceeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

SECONDS = 4.5


def first_silent(urls: Sequence[str], ask: Callable[[str], str], seconds: float = SECONDS) -> str:
    """Return the host that does not answer, and why; empty if all do. `ask` returns why one does not, or nothing.

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
    reasons = {url: answers.get(url, f"no answer within {seconds:.0f} s") for url in urls}
    return next((f"{urlsplit(url).hostname}: {reason}" for url, reason in reasons.items() if reason), "")
