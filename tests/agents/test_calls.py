"""One attempt: which deployment is called, what is told of the choice, and when nobody is called."""

import asyncio

from schemas.progress import AttemptFailed, AttemptSucceeded
from schemas.routing import Considered, Routing
from streams.core.circuit import Circuit, evolve, health_of
from tests.agents.calling import Bench
from tests.core.build import NOW
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


LIMITED = Behaviour(status=429, headers={"retry-after": "2"})


async def test_deployments_of_one_quota_cool_down_together() -> None:
    async with FakeProvider(behaviour=LIMITED) as provider, FakeProvider() as other:
        models = {
            "a": {"endpoint": provider.endpoint, "quota": "shared"},
            "b": {"endpoint": provider.endpoint, "quota": "shared"},
            "c": {"endpoint": other.endpoint},
        }
        async with Bench(models) as bench:
            limited = await bench.call("r-0")
            answered = await bench.call("r-1")

    assert isinstance(limited, AttemptFailed)
    assert (limited.reason, limited.deployment, limited.retry_after_s) == ("rate_limit", "a", 2.0)
    assert (answered.deployment, len(provider.calls)) == ("c", 1)
    assert answered.routing is not None
    assert [c.reason for c in answered.routing.candidates] == ["cooldown", "cooldown", None]


async def test_where_all_cool_down_the_attempt_says_when_to_come_back() -> None:
    async with FakeProvider(behaviour=LIMITED) as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        await bench.call("r-0")
        bench.clock.ms += 500
        refused = await bench.call("r-1")
        provider.behaviour = Behaviour()
        bench.clock.ms += 1_500
        answered = await bench.call("r-1", attempt=2)

    assert isinstance(refused, AttemptFailed)
    assert (refused.code, refused.reason, refused.deployment) == ("MODEL_UNAVAILABLE", "cooldown", None)
    assert (refused.again, refused.elsewhere) == (True, False)
    assert refused.retry_after_s is not None
    assert 1.5 <= refused.retry_after_s <= 1.875
    assert isinstance(answered, AttemptSucceeded)


async def test_an_empty_account_is_left_alone_for_a_quarter_of_an_hour() -> None:
    error = {"type": "insufficient_quota", "message": "You exceeded your current quota"}
    behaviour = Behaviour(status=429, error=error)
    async with FakeProvider(behaviour=behaviour) as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        await bench.call("r-0")

        assert bench.health.cooldown_s("a") == 900.0


async def test_a_request_above_the_whole_limit_cools_nothing_down() -> None:
    error = {"type": "tokens", "message": "Request too large: Limit 1000, Requested 2000"}
    behaviour = Behaviour(status=429, error=error, headers={"retry-after": "7"})
    async with FakeProvider(behaviour=behaviour) as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        await bench.call("r-0")

        assert bench.health.why_out("a") is None


async def test_another_worker_hears_of_a_cooldown_through_health() -> None:
    async with FakeProvider(behaviour=LIMITED) as provider:
        models = {name: {"endpoint": provider.endpoint, "quota": "shared"} for name in "ab"}
        async with Bench(models) as one, Bench(models) as another:
            await one.call("r-0")
            (seen,) = one.health.take_observations()
            assert one.health.take_observations() == []
            circuit = evolve(Circuit("a"), seen, offset=0, max_failures=3)
            another.health.learn(health_of(circuit, partition=0, time_ms=NOW))
            refused = await another.call("r-1")

    assert (circuit.state, circuit.failures_in_a_row) == ("closed", 0)
    assert isinstance(refused, AttemptFailed)
    assert (refused.reason, len(provider.calls)) == ("cooldown", 1)


async def test_a_deployment_gets_three_retries_and_then_a_tenth_of_its_calls() -> None:
    async with FakeProvider() as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        for n in range(3):
            await bench.call(f"retried-{n}", tried="a", attempt=2)
        refused = await bench.call("refused", tried="a", attempt=2)
        for n in range(28):
            await bench.call(f"new-{n}")
        allowed = await bench.call("allowed", tried="a", attempt=2)
        again = await bench.call("again", tried="a", attempt=2)

    assert isinstance(refused, AttemptFailed)
    assert (refused.deployment, refused.again, refused.elsewhere) == (None, False, False)
    assert refused.routing is not None
    assert [c.reason for c in refused.routing.candidates] == ["retry_budget"]
    assert isinstance(allowed, AttemptSucceeded)
    assert isinstance(again, AttemptFailed)
    assert len(provider.calls) == 32


async def test_failing_over_takes_nothing_from_the_budget_of_retries() -> None:
    async with FakeProvider() as provider, Bench({name: {"endpoint": provider.endpoint} for name in "ab"}) as bench:
        went_to = {(await bench.call(f"r-{n}", tried="a", attempt=2)).deployment for n in range(20)}

    assert went_to == {"b"}


async def test_what_a_rate_limit_held_up_is_no_retry() -> None:
    async with FakeProvider() as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        outcomes = [await bench.call(f"r-{n}", tried="a", attempt=2, after="rate_limit") for n in range(20)]

    assert all(isinstance(outcome, AttemptSucceeded) for outcome in outcomes)


async def test_a_deployment_gets_no_more_calls_at_a_time_than_it_may() -> None:
    async with FakeProvider(behaviour=Behaviour(delay_s=0.05)) as provider:
        async with Bench({"a": {"endpoint": provider.endpoint, "max_concurrency": 3}}) as bench:
            outcomes = await asyncio.gather(*(bench.call(f"r-{n}") for n in range(12)))
        most = most_at_a_time(provider, 0.05)

    assert all(isinstance(outcome, AttemptSucceeded) for outcome in outcomes)
    assert most <= 3


async def test_one_that_has_room_is_called_before_one_that_has_none() -> None:
    async with FakeProvider(behaviour=Behaviour(delay_s=0.05)) as provider:
        models: dict[str, dict[str, object]] = {
            "a": {"endpoint": provider.endpoint, "max_concurrency": 1},
            "b": {"endpoint": provider.endpoint},
        }
        async with Bench(models) as bench:
            outcomes = await asyncio.gather(*(bench.call(f"r-{n}") for n in range(6)))

    assert [outcome.deployment for outcome in outcomes] == ["a", "b", "b", "b", "b", "b"]


async def test_too_many_that_wait_are_refused_from_the_lowest_priority_up() -> None:
    async with FakeProvider(behaviour=Behaviour(delay_s=0.05)) as provider:
        models = {"a": {"endpoint": provider.endpoint, "max_concurrency": 1}}
        async with Bench(models, most_waiting=1) as bench:
            outcomes = await asyncio.gather(
                bench.call("first"),
                bench.call("low", priority="low"),
                bench.call("high", priority="high"),
            )

    assert isinstance(outcomes[0], AttemptSucceeded)
    assert isinstance(outcomes[1], AttemptFailed)
    assert (outcomes[1].code, outcomes[1].reason) == ("SERVICE_UNAVAILABLE", "queue_full")
    assert (outcomes[1].again, outcomes[1].elsewhere) == (False, False)
    assert isinstance(outcomes[2], AttemptSucceeded)
    assert len(provider.calls) == 2


async def test_who_waited_at_a_deployment_that_went_out_goes_to_another() -> None:
    async with FakeProvider(behaviour=LIMITED) as provider, FakeProvider() as other:
        models: dict[str, dict[str, object]] = {
            "a": {"endpoint": provider.endpoint, "max_concurrency": 1},
            "b": {"endpoint": other.endpoint, "name": "other"},
        }
        async with Bench(models) as bench:
            outcomes = await asyncio.gather(*(bench.call(f"r-{n}", model=["m", "other"]) for n in range(5)))

    assert [outcome.deployment for outcome in outcomes] == ["a", "b", "b", "b", "b"]
    assert len(provider.calls) == 1


def most_at_a_time(provider: FakeProvider, each_s: float) -> int:
    """Return how many calls the provider had at a time, from when they came."""
    came = [call.at for call in provider.calls]
    return max(sum(at <= moment < at + each_s for at in came) for moment in came)


def half_open(bench: Bench, probe_by: str) -> None:
    """Let the bench's worker hear that the circuit of `a` is half-open."""
    circuit = Circuit("a", state="half_open", last_worker=probe_by)
    bench.health.learn(health_of(circuit, partition=0, time_ms=NOW))


async def test_only_the_worker_that_may_probe_calls_a_half_open_deployment() -> None:
    async with FakeProvider() as provider, Bench({"a": {"endpoint": provider.endpoint}}) as bench:
        half_open(bench, "w1")
        refused = await bench.call("r-1")
        half_open(bench, "w0")
        probed = await bench.call("r-2")

    assert isinstance(refused, AttemptFailed)
    assert refused.reason == "circuit_open"
    assert isinstance(probed, AttemptSucceeded)


async def test_one_call_at_a_time_probes_and_its_answer_lets_all_others_in() -> None:
    async with (
        FakeProvider(behaviour=Behaviour(delay_s=0.05)) as provider,
        Bench({"a": {"endpoint": provider.endpoint}}) as bench,
    ):
        half_open(bench, "w0")
        outcomes = await asyncio.gather(*(bench.call(f"r-{n}") for n in range(5)))
        after = await asyncio.gather(*(bench.call(f"after-{n}") for n in range(5)))

    assert [isinstance(outcome, AttemptSucceeded) for outcome in outcomes] == [True, False, False, False, False]
    assert all(isinstance(outcome, AttemptSucceeded) for outcome in after)


async def test_a_probe_that_fails_keeps_all_calls_away_again() -> None:
    async with (
        FakeProvider(behaviour=Behaviour(status=500)) as provider,
        Bench({"a": {"endpoint": provider.endpoint}}) as bench,
    ):
        half_open(bench, "w0")
        for n in range(5):
            await bench.call(f"r-{n}")

    assert len(provider.calls) == 1


async def test_a_half_open_circuit_ends_what_a_worker_suspected() -> None:
    async with (
        FakeProvider(behaviour=Behaviour(status=500)) as provider,
        Bench({"a": {"endpoint": provider.endpoint}}) as bench,
    ):
        for n in range(3):
            await bench.call(f"r-{n}")
        provider.behaviour = Behaviour()
        half_open(bench, "w0")
        probed = await bench.call("probe")

    assert isinstance(probed, AttemptSucceeded)
