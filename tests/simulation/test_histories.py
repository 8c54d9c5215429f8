"""Every seeded history keeps what the design promises.

`SIM_SEEDS=20000` runs more of them, `SIM_SEED=17` one alone; a failure prints its seed, what was promised and not kept,
and the history line by line.
"""

import os
import time
from collections.abc import Iterator

import pytest

from tests.simulation.history import plan_of, rendered, run
from tests.simulation.oracle import broken

CHUNK = 25
ONE = os.environ.get("SIM_SEED")
SEEDS = [int(ONE)] if ONE else list(range(int(os.environ.get("SIM_SEEDS", "1000"))))
CHUNKS = [SEEDS[at : at + CHUNK] for at in range(0, len(SEEDS), CHUNK)]


@pytest.fixture(scope="module", autouse=True)
def _pace(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tell how many histories a second were run."""
    before, began = request.session.testsfailed, time.perf_counter()
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and request.session.testsfailed == before:
        reporter.write_line(f" {len(SEEDS) / (time.perf_counter() - began):.0f} histories a second")


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_no_history_breaks_a_promise(seeds: list[int]) -> None:
    for seed in seeds:
        observed = run(plan_of(seed))
        if promises := broken(observed):
            told = "\n".join(promises)
            pytest.fail(f"SIM_SEED={seed}\n{rendered(observed)}\n\n{told}\nSIM_SEED={seed}", pytrace=False)


def test_one_seed_is_one_history() -> None:
    first, second = run(plan_of(3)), run(plan_of(3))
    assert rendered(first) == rendered(second)
    assert first.world.log == second.world.log
    assert first.world.changelog == second.world.changelog
