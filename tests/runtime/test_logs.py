"""Whatever is logged is one line of JSON in the seed's shape, and shows neither prompts nor keys."""

import base64
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from streams.runtime import logs
from streams.runtime.logs import line_of

CANARY = 'c4nary"secret\\with/Ünicode+and=signs'
LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, [*root.handlers], sys.excepthook, logging.getLogger("aiokafka").level)
    logs.configure("INFO")
    logs.hide(CANARY)
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    sys.excepthook = before[2]
    logging.getLogger("aiokafka").setLevel(before[3])


def only_line(captured: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line on standard error; fails where there is another, or anything that is not printable ASCII."""
    written = captured.readouterr().err
    assert written.endswith("\n")
    assert re.fullmatch(r"[ -~]+\n", written), written
    assert len(written) <= 16 * 1024 + 1
    line: dict[str, Any] = json.loads(written)
    return line


def handled(message: str, *arguments: object) -> None:
    """Log through our handler alone: pytest's own refuse wrong calls, and xdist the texts that they capture."""
    (ours,) = [each for each in logging.getLogger().handlers if type(each).__module__ == logs.__name__]
    ours.handle(logging.LogRecord("faust", logging.WARNING, "agent.py", 7, message, arguments, None))


def test_a_line_has_the_shape_of_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("Request processed", model="gpt-4", duration=0.5)
    line = only_line(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "INFO",
        "service": "orchestrator",
        "message": "Request processed",
        "details": {"model": "gpt-4", "duration": 0.5},
    }


def test_the_standard_library_logs_in_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("aiohttp.client").warning("lost %d of %s", 3, "many")
    line = only_line(capsys)
    assert list(line) == ["timestamp", "level", "service", "message", "details"]
    assert (line["level"], line["message"]) == ("WARNING", "lost 3 of many")
    assert line["details"] == {"logger": "aiohttp.client"}


@pytest.mark.parametrize("library", ["aiokafka.consumer", "faust.app.base", "mode"])
def test_chatty_libraries_are_heard_from_warnings_on(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(library).info("starting")
    logging.getLogger(library).warning("lagging")
    assert only_line(capsys)["message"] == "lagging"


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    LOG.info("unheard")
    logging.getLogger("asyncio").info("unheard")
    LOG.warning("heard")
    assert only_line(capsys)["message"] == "heard"


def test_details_may_be_named_like_the_parts_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("shadowed", level=3, timestamp=4, service=5, details=6)
    line = only_line(capsys)
    assert (line["level"], line["service"]) == ("INFO", "orchestrator")
    assert line["details"] == {"level": 3, "timestamp": 4, "service": 5, "details": 6}


@pytest.mark.parametrize(
    "hostile",
    [
        "one\r\ntwo\n{}",
        "\x1b[2J\x1b[31mred\x07\x9b1m",
        "${jndi:ldap://example.invalid/a}",
        "\u2028\u2029\u202e\ufeff\x00\x7f",
        "\ud800 alone",
        "x" * 1_000_000,
        "😀" * 300_000,
        '"},{"level":"CRITICAL',
    ],
    ids=["newlines", "ansi", "jndi", "unicode", "surrogate", "1 MB", "1 MB of emoji", "quotes"],
)
def test_hostile_text_is_one_line_wherever_it_stands(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("message", detail=hostile)
    assert only_line(capsys)["message"] == "message"
    LOG.error(hostile)
    assert only_line(capsys)["level"] == "ERROR"
    LOG.info("message", **{hostile: hostile}, nested={hostile: [hostile] * 50})
    only_line(capsys)
    handled("%s", hostile)
    only_line(capsys)
    try:
        raise ValueError(hostile)
    except ValueError:
        LOG.exception("failed")
    assert only_line(capsys)["details"]["exception"].startswith("ValueError: ")


def test_text_that_fits_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("told", detail="two\nlines, ümlauts and 😀")
    assert only_line(capsys)["details"] == {"detail": "two\nlines, ümlauts and 😀"}


def test_a_long_text_says_how_long_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("told", detail="x" * 20_000)
    assert only_line(capsys)["details"]["detail"] == "x" * 8_000 + "… (20000 characters)"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
    )
)
def test_any_detail_is_one_line(detail: Any) -> None:
    line = line_of("INFO", "any", {"detail": detail})
    assert re.fullmatch(r"[ -~]+", line)
    assert len(line) <= 16 * 1024
    assert json.loads(line, parse_constant=pytest.fail)["message"] == "any"


def test_a_detail_that_holds_itself_or_is_huge_ends(capsys: pytest.CaptureFixture[str]) -> None:
    loop: list[Any] = []
    loop.append(loop)
    LOG.info("told", loop=loop, huge=10**6_000, nan=float("nan"), wide=list(range(100_000)))
    details = only_line(capsys)["details"]
    assert (details["huge"], details["nan"]) == ("<integer of 19932 bits>", "nan")
    assert details["wide"][-1] == "… 99800 more"


# --- what must not be seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("password", "sasl_plain_password", "api_key", "key", "X-Api-Key", "secret", "client_secret", "Authorization"),
        *("token", "messages", "prompt", "text", "value", "content", "body", "payload", "tool_calls"),
    ],
)
def test_a_detail_named_like_a_secret_or_content_is_masked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("told", **{name: "innocent"}, nested=[{name: {"deep": "innocent"}}])
    assert only_line(capsys)["details"] == {name: "***", "nested": [{name: "***"}]}


def test_counts_and_names_of_topics_are_not_masked(capsys: pytest.CaptureFixture[str]) -> None:
    details = {"prompt_tokens": 9, "max_tokens": 256, "prompt.requests": 5, "context": "x", "key_file": "a.pem"}
    LOG.info("told", **details)
    assert only_line(capsys)["details"] == details


@dataclass(frozen=True)
class Asked:
    messages: tuple[str, ...]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int


def test_an_object_shows_its_type_and_bytes_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info("told", asked=Asked((CANARY,)), raw=b"a prompt", price=Decimal("0.10"))
    assert only_line(capsys)["details"] == {"asked": "<Asked>", "raw": "<8 bytes>", "price": "0.10"}
    logging.getLogger("faust").error("crashed: %r %r", Asked(("a prompt",)), b"a prompt")
    assert only_line(capsys)["message"] == "crashed: '<Asked>' '<8 bytes>'"


def test_a_failed_validation_does_not_quote_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"number": "a prompt", "other": "a prompt"}
    try:
        Model.model_validate(asked)
    except ValidationError as error:
        LOG.warning("wrong", error=error)
        assert only_line(capsys)["details"] == {"error": "ValidationError: number: int_parsing; other: extra_forbidden"}
        LOG.exception("wrong")
        assert "a prompt" not in str(only_line(capsys))
        logging.getLogger("mode").error("crashed: %r", error, exc_info=True)
        assert "a prompt" not in str(only_line(capsys))


SPELLINGS = {
    "raw": CANARY,
    "repr": repr(CANARY),
    "repr of bytes": repr(CANARY.encode()),
    "json": json.dumps(CANARY),
    "url": quote(CANARY, safe=""),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "inside": f"https://example.invalid/v1?key={CANARY}&x=1",
    "where a long text is cut": "x" * 7_990 + CANARY * 50,
    "repeated": "x" * 900 + CANARY * 10,
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_registered_secret_is_masked_wherever_it_occurs(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    def check() -> None:
        written = capsys.readouterr().err
        for leak in ("c4nary", "secret", "nicode", base64.b64encode(b"c4nary").decode()[:8]):
            assert leak not in written.replace("secret_", "")

    LOG.info(f"see {spelling}")
    check()
    LOG.info("see", detail=spelling, nested={"a": [{"b": (spelling,)}]}, **{spelling: 1})
    check()
    logging.getLogger("aiokafka").error("see %s", spelling)
    check()
    try:
        try:
            raise KeyError(spelling)
        except KeyError as cause:
            raise ExceptionGroup(spelling, [RuntimeError(spelling)]) from cause
    except ExceptionGroup as error:
        LOG.error("see", exc_info=error)
        check()
        logging.getLogger("asyncio").error(f"see\n{spelling}", exc_info=error)
        check()


def test_a_numeric_secret_is_masked_as_a_number_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.hide("8675309")
    LOG.info("see", pin=8675309)
    assert only_line(capsys)["details"] == {"pin": "***"}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("Incorrect API key provided: sk-abcdefghijklmnop1234.", "Incorrect API key provided: ***."),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("proxy http://user:pass@example.invalid/", "proxy http://***@example.invalid/"),
    ],
)
def test_what_looks_like_a_key_is_masked_unregistered(
    told: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    LOG.info(told)
    assert only_line(capsys)["message"] == shown


# --- lines for what goes wrong ----------------------------------------------------------------------------------------


def test_a_traceback_names_causes_files_and_functions(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise KeyError("inner")

    try:
        try:
            fails()
        except KeyError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError:
        LOG.exception("failed", request_id="r-1")
    line = only_line(capsys)
    assert (line["level"], line["details"]["request_id"]) == ("ERROR", "r-1")
    assert line["details"]["exception"] == "RuntimeError: outer"
    inner, outer = line["details"]["traceback"].split("\nled to\n")
    assert "test_logs.py" in inner
    assert "in fails" in inner
    assert inner.endswith("KeyError: 'inner'")
    assert outer.endswith("RuntimeError: outer")


def test_a_wrong_log_call_is_told_and_shows_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    handled("%d apples", "a prompt")
    line = only_line(capsys)
    assert line["message"] == "a log call is wrong"
    assert line["details"] == {"logger": "faust", "at": "agent.py:7", "problem": "TypeError"}


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_exception_without_a_text_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.error("broken", exc_info=Broken())
    assert only_line(capsys)["details"]["exception"] == "Broken: (no text: RuntimeError)"


PROGRAM = """
import asyncio, threading, warnings
from streams.runtime import logs
logs.configure(); logs.configure(); logs.hide("c4nary")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
warnings.warn("old: c4nary")
async def main():
    asyncio.get_running_loop().call_soon(lambda: [][0])
    await asyncio.sleep(0)
asyncio.run(main())
raise SystemError("c4nary")
"""


def test_what_nobody_caught_is_a_line_each() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["level"], line["details"].get("exception")) for line in lines] == [
        ("CRITICAL", "ZeroDivisionError: division by zero"),
        ("WARNING", None),
        ("ERROR", "IndexError: list index out of range"),
        ("CRITICAL", "SystemError: ***"),
    ]
    assert "c4nary" not in ended.stderr


def test_nobody_listening_stops_nobody() -> None:
    program = "import os, structlog\nfrom streams.runtime import logs\nlogs.configure()\nos.close(2)\n"
    program += "structlog.get_logger().info('lost')\nprint('went on')"
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert ended.stdout == "went on\n"
