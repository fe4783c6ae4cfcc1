"""The choice of a free pool, for any addresses in use."""

from __future__ import annotations

from dataclasses import replace

from fakes import lab
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.config import from_values
from labctl.config.saved_lab import values
from labctl.model import pools
from labctl.model.errors import MissingError
from labctl.model.lab import AddressPool


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 40)), max_size=8),
    st.integers(0, 20),
)
@settings(max_examples=40)
def test_a_chosen_pool_is_free_and_inside_the_network(blocks: list[tuple[int, int]], workers: int) -> None:
    wanted = lab(pool="auto", workers=workers)
    start = wanted.network.network_address
    in_use = {AddressPool(start + first, start + min(first + length, 255)): "x" for first, length in blocks}
    try:
        chosen, _ = pools.plan(wanted, in_use)
    except MissingError:
        return
    assert pools.conflicts(chosen, {**pools.reserved(wanted, wanted.nodes), **in_use}) == []
    assert from_values(values(replace(wanted, pool=chosen))).pool == chosen
