"""Broken real labs: a table of rows, one module for each hop, and the trial that tests each row.

A row is a `BrokenLab`. It defines how the lab is broken; the hop, the cause and the state that `trace` reports; what
`up` does; and what fixes it. The modules `names`, `address`, `node`, `rule`, `pod` and `response` export `ROWS`,
`table` combines them, `breaking` has helpers for rows, and `trial` tests a row:

1. `breaks(lab)` is called.
2. `trace` is repeated until it shows the cause at the hop, and then run twice more: the result is the same three times.
   The hops before are ok; those after are "not reached" if the hop is broken, and ok otherwise. `others` lists the
   exceptions. Each trace takes less than 5 seconds. `also` asserts more.
3. `status` has the cause, or `up_id`, among its problems, and exits with 8 if the hop is broken, and with 0 otherwise.
4. `up` behaves as the row defines:
   "fixes": it exits with 0, and `trace` is ok at once. If the hop's commands are more than `labctl up`, the lab is then
   broken a second time.
   "reports": it exits with 6 (5 if Kubernetes refuses) within 45 seconds, and its error's id is the cause, or `up_id`.
   "fine": it exits with 0 and leaves the lab as it is.
5. The lab is fixed. "commands": every command that the hop printed is run literally, by `sh -c`, with labctl on the
   PATH; there is at least one. "undo": the hop printed no command, and `undo` fixes the lab; only for a cause in
   `table.WITHOUT_COMMANDS`. Then all six hops are ok.
6. `undo(lab)` removes what is left. It is called even after a failure, and also a second time, so it must not fail if
   there is nothing to undo.

A row waits for conditions (`breaking.wait_for_rollout`, `reallab.eventually`), never for a fixed time. It takes the lab's
name, hosts file and nodes from `lab`. Run one row with
`pytest -m e2e tests/e2e/test_3_trace.py -k "words of its name"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from e2e.reallab import RealLab

pytest.register_assert_rewrite("e2e.broken.names", "e2e.broken.response", "e2e.broken.trial")

Act = Callable[[RealLab], object]


def nothing(_lab: RealLab) -> None:
    """Undo nothing."""


@dataclass(frozen=True, slots=True)
class BrokenLab:
    """A way to break a lab, what labctl reports, and what fixes it."""

    name: str
    breaks: Act
    hop: str
    cause: str
    up: Literal["fixes", "reports", "fine"] = "fixes"
    state: Literal["broken", "warning", "unknown"] = "broken"
    fixed_by: Literal["commands", "undo"] = "commands"
    undo: Act = nothing
    others: Mapping[str, str] = field(default_factory=dict)
    """The states of hops that are not ok before this hop, or not the usual ones after it."""
    also: Callable[[RealLab, Any], object] = lambda _lab, _hop: None
    """Asserts more while the lab is broken, given the hop's JSON."""
    up_id: str = ""
    """The id of `up`'s error and of the problem in `status`, if it is more specific than the cause."""
