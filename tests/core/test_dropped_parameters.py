"""What a dialect had no words for is told with the answer."""

from schemas.progress import AttemptSucceeded, progress_of
from streams.core.publish import outputs_of
from tests.core.build import Desk, succeeded, told


def answered(event: AttemptSucceeded) -> dict[str, object]:
    desk = Desk()
    desk.ask()
    verdict = desk.must_hear(event)
    (answer,) = [o for o in outputs_of(verdict.request, verdict.decision, event) if o.channel == "responses"]
    return told(answer)


def test_an_answer_names_what_was_dropped() -> None:
    assert answered(succeeded(dropped_parameters=("seed", "user")))["dropped_parameters"] == ["seed", "user"]


def test_an_answer_to_all_that_was_asked_does_not_speak_of_it() -> None:
    assert "dropped_parameters" not in answered(succeeded())


def test_a_fact_recorded_before_anything_could_be_dropped_is_read() -> None:
    recorded = succeeded().model_dump_json(exclude={"dropped_parameters"}).encode()
    read = progress_of(recorded)
    assert isinstance(read, AttemptSucceeded)
    assert read.dropped_parameters == ()
