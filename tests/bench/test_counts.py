"""What one request costs, in counts that no noise changes: who makes it dearer has to say so here."""

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from agents.providers.call import Call, Reply, exchange
from agents.providers.transport import client
from streams.core.case import Verdict
from streams.runtime.journal import MOST_RECORDS
from tests.bench.memory import TOPICS, Bench, request
from tests.bench.provider import Connection
from tests.core.build import ACME_PER_DAY, Desk, configuration, deployment, outputs, prompt, succeeded


def answered(requests: int) -> Bench:
    """Let a pipeline on memory answer so many requests of one tenant with one budget."""
    bench = Bench()
    asyncio.run(bench.answer([request(number) for number in range(requests)]))
    return bench


@pytest.fixture(scope="module")
def hundred() -> Bench:
    """A hundred requests that are at hand together."""
    return answered(100)


def test_a_request_publishes_one_outcome_one_response_one_cost_and_two_ledger_entries(hundred: Bench) -> None:
    produced = {topic: count for topic, count in hundred.log.produced.items() if topic != "accounts"}
    assert produced == {
        TOPICS.progress: 100,
        TOPICS.responses: 100,
        TOPICS.costs: 100,
        TOPICS.ledger: 200,
    }


def test_a_request_writes_four_rows_and_a_group_two_more(hundred: Bench) -> None:
    """The open request; its deletion, the done request and its index row. Account and home once per group."""
    assert hundred.log.produced["accounts"] == 4 * 100 + 2 * hundred.log.batches


def test_what_is_at_hand_together_is_stored_together(hundred: Bench) -> None:
    """One group of DECIDE, one of FINISH: each one batch of rows, one atomic write and one round of outputs."""
    assert (hundred.log.batches, hundred.store.writes, hundred.log.publishes) == (2, 2, 2)


def test_a_group_does_not_grow_without_end() -> None:
    bench = answered(MOST_RECORDS + 1)
    assert bench.log.batches == bench.store.writes == 4


async def test_calls_one_after_the_other_share_a_connection() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(0.0), "127.0.0.1", 0)
    before = Connection.made
    port = server.sockets[0].getsockname()[1]
    async with server, client(limit=100) as providers:
        call = Call(
            endpoint=f"http://127.0.0.1:{port}/v1",
            provider="custom",
            provider_model="m",
            api_key=None,
            request=prompt(),
            max_tokens=100,
            timeout_s=30,
            max_answer_bytes=1_000_000,
        )
        for _ in range(50):
            assert isinstance(await exchange(providers, call), Reply)
        assert Connection.made - before == 1


def instructions_of(work: Callable[[], Any]) -> int:
    """Count the bytecode instructions of Python that `work` executes: what C does for it is not seen."""
    count = 0

    def traced(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.fixture
def desk() -> Desk:
    """A tenant with a budget, after a first request: caches are warm."""
    desk = Desk(configuration(ACME_PER_DAY), (deployment(),))
    outputs(desk.ask(prompt(request_id="r-0")))
    event = succeeded(request_id="r-0")
    outputs(desk.must_hear(event), event)
    return desk


def test_a_request_is_let_in_within_so_many_instructions(desk: Desk) -> None:
    asked = prompt()
    verdicts: list[Verdict] = []
    assert instructions_of(lambda: verdicts.append(desk.ask(asked))) <= 3_100
    assert instructions_of(lambda: outputs(verdicts[0])) <= 630


def test_an_answer_is_booked_within_so_many_instructions(desk: Desk) -> None:
    desk.ask(prompt())
    event = succeeded()
    verdicts: list[Verdict] = []
    assert instructions_of(lambda: verdicts.append(desk.must_hear(event))) <= 1_950
    assert instructions_of(lambda: outputs(verdicts[0], event)) <= 1_950
