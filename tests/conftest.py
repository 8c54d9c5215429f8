"""What every test may ask for, and the rules of a test session."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.broker.kafka import Kafka, KafkaBroker, KafkaUnavailableError, any_kafka

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
KAFKA_SUMMARY = pytest.StashKey[str]()

settings.register_profile("here", deadline=None)
settings.register_profile("in-ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("in-ci" if IN_CI else "here")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One real broker for the whole session. Use it under `topic_prefix`; crash only a `crashable_kafka`."""
    try:
        with any_kafka(tmp_path_factory.mktemp("kafka")) as found:
            _tell(request.config, found.origin)
            yield found
    except KafkaUnavailableError as unavailable:
        _tell(request.config, f"NONE ({unavailable})")
        pytest.skip(f"no Kafka: {unavailable}")


@pytest.fixture
def crashable_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A running broker of this test's own, to `kill()` and `start()` again. Always from jars."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
    except KafkaUnavailableError as unavailable:
        pytest.skip(f"no Kafka to crash: {unavailable}")
    yield broker
    broker.stop()


@pytest.fixture
def topic_prefix() -> str:
    """A topic prefix that no other test has: tests on one broker do not see each other."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests with a broker on one xdist worker, so that they share it (`--dist loadgroup`)."""
    for item in items:
        if item.get_closest_marker("broker"):
            item.add_marker(pytest.mark.xdist_group("broker"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what an xdist worker has told about Kafka."""
    if summary := getattr(node, "workeroutput", {}).get("kafka"):
        node.config.stash[KAFKA_SUMMARY] = summary


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in CI that skipped what needs a broker: green has to mean tested."""
    if IN_CI and _skipped_with_broker(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which broker was used, and what was left out."""
    skipped = terminalreporter.stats.get("skipped", [])
    with_broker = _skipped_with_broker(config)
    line = f"Kafka: {config.stash.get(KAFKA_SUMMARY, 'not asked for')} · skipped: {len(skipped)} tests"
    if with_broker:
        verdict = "which CI does not accept" if IN_CI else "so the guarantees were NOT tested"
        line += f", {len(with_broker)} of them for want of a broker, {verdict}"
    terminalreporter.write_sep("=", line, red=bool(with_broker), green=not skipped, yellow=bool(skipped), bold=True)


def _tell(config: pytest.Config, summary: str) -> None:
    config.stash[KAFKA_SUMMARY] = summary
    if hasattr(config, "workeroutput"):
        config.workeroutput["kafka"] = summary


def _skipped_with_broker(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [report for report in reporter.stats.get("skipped", []) if "broker" in report.keywords] if reporter else []
