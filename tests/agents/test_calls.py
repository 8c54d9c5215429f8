"""One attempt: which deployment is called, what is told of the choice, and when nobody is called."""

from schemas.progress import AttemptFailed, AttemptSucceeded
from schemas.routing import Considered, Routing
from tests.agents.calling import Bench
from tests.providers.fake import Behaviour, FakeProvider


async def test_an_answer_tells_how_its_deployment_was_chosen() -> None:
    async with (
        FakeProvider() as provider,
        Bench({"a": {"endpoint": provider.endpoint}, "b": {"endpoint": provider.endpoint}}) as bench,
    ):
        await bench.call("r-1")
        second = await bench.call("r-2")

    assert isinstance(second, AttemptSucceeded)
    assert second.deployment == "b"
    assert second.routing == Routing(
        strategy="round-robin",
        chosen="b",
        candidates=(
            Considered(deployment="a", verdict="considered", score=1),
            Considered(deployment="b", verdict="considered", score=0),
        ),
    )


async def test_a_failure_tells_it_too_and_what_failed_before_is_left_out() -> None:
    async with (
        FakeProvider(behaviour=Behaviour(status=500)) as provider,
        Bench({"a": {"endpoint": provider.endpoint}, "b": {"endpoint": provider.endpoint}}) as bench,
    ):
        failed = await bench.call(tried="a", attempt=2)

    assert isinstance(failed, AttemptFailed)
    assert failed.routing == Routing(
        strategy="round-robin",
        chosen="b",
        candidates=(
            Considered(deployment="a", verdict="excluded", reason="tried"),
            Considered(deployment="b", verdict="considered", score=0),
        ),
    )


async def test_three_failures_in_a_row_leave_nobody_to_call() -> None:
    async with (
        FakeProvider(behaviour=Behaviour(status=500)) as provider,
        Bench({"a": {"endpoint": provider.endpoint}}) as bench,
    ):
        for n in range(3):
            await bench.call(f"r-{n}")
        refused = await bench.call("r-3")

    assert len(provider.calls) == 3
    assert isinstance(refused, AttemptFailed)
    assert (refused.code, refused.reason, refused.deployment) == ("MODEL_UNAVAILABLE", "circuit_open", None)
    assert refused.routing is not None
    assert refused.routing.candidates == (Considered(deployment="a", verdict="excluded", reason="circuit_open"),)


async def test_the_cheaper_one_is_called_where_cost_decides() -> None:
    async with FakeProvider() as provider:
        models = {
            "dear": {"endpoint": provider.endpoint, "cost_per_token": 0.00003},
            "cheap": {"endpoint": provider.endpoint, "cost_per_token": 0.00001},
        }
        async with Bench(models, {"strategy": "cost"}) as bench:
            answered = await bench.call()

    # [{"role":"user","content":"Hi"}] has 32 bytes; 8 for the message, 64 for the template, 8 out: 112 tokens
    assert answered.deployment == "cheap"
    assert answered.routing is not None
    assert [c.score for c in answered.routing.candidates] == [3_360_000, 1_120_000]


async def test_the_price_compared_is_that_of_the_same_tokens() -> None:
    async with FakeProvider() as provider:
        models = {
            "counts-bytes": {"endpoint": provider.endpoint, "cost_per_token": 0.00001},
            "bounds-closer": {"endpoint": provider.endpoint, "cost_per_token": 0.000011, "template_tokens": 1},
        }
        async with Bench(models, {"strategy": "cost"}) as bench:
            answered = await bench.call()

    assert answered.deployment == "counts-bytes"
