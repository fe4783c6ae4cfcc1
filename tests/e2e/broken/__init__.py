"""Labs that are broken for real: a table of rows, one module for each hop, and the trial that every row goes through.

A row is a `BrokenLab`. It says how the lab is broken, at which hop `trace` finds it, under which cause, and in which
state; what `up` does with it; and what mends it. The modules `names`, `address`, `node`, `rule`, `pod` and `response`
export `ROWS`, `table` puts them together, `breaking` has what rows are made from, and `trial` tries a row:

1. `breaks(lab)`.
2. `trace` is asked until it shows the cause at the hop, and then twice more: the state is the same three times. The
   hops before are ok; those after are "not reached" where the hop is broken, and ok where it is not. `others` names
   each hop that differs. No trace takes 5 seconds.
   What `also` asserts is so.
3. `status` has the cause, or `up_id`, among its problems, and exits with 8 where the hop is broken, with 0 where it is not.
4. `up`, by the row's word:
   "mends": it exits with 0, and `trace` is well at once. Where the hop's commands are more than `labctl up`, the lab is
   then broken a second time.
   "names": it exits with 6 (5 where Kubernetes refuses) within 45 seconds, and its error's id is the cause, or `up_id`.
   "fine": it exits with 0 and leaves the lab as it is.
5. The lab is mended. "commands": every command that the hop printed is executed literally, by `sh -c`, with labctl on
   the PATH; there is at least one. "undo": the hop printed no command, and `undo` mends the lab; only for a cause in
   `table.WITHOUT_COMMANDS`. Then all six hops are ok.
6. `undo(lab)` takes away what is left. It is called whatever happened, also a second time: it must not fail where there
   is nothing to undo.

A row waits for conditions (`breaking.rolled_out`, `reallab.eventually`), never for time. It takes the lab's name,
hosts file and nodes from `lab`. Run one row with `pytest -m e2e tests/e2e/test_3_trace.py -k "words of its name"`.
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
    """There is nothing to undo."""


@dataclass(frozen=True, slots=True)
class BrokenLab:
    """How a lab is broken, what labctl says of it, and what mends it."""

    name: str
    breaks: Act
    hop: str
    cause: str
    up: Literal["mends", "names", "fine"] = "mends"
    state: Literal["broken", "warning", "unknown"] = "broken"
    mended_by: Literal["commands", "undo"] = "commands"
    undo: Act = nothing
    others: Mapping[str, str] = field(default_factory=dict)
    """The states of hops that are neither ok before this hop, nor what is usual after it."""
    also: Callable[[RealLab, Any], object] = lambda _lab, _hop: None
    """Asserts what else is so meanwhile, given the hop's JSON."""
    up_id: str = ""
    """The id of the error that `up` ends with, and of the problem in `status`, where it says more than the cause."""
