"""What the definition of the topics says, without a broker."""

from pathlib import Path

import pytest

from streams.runtime.topics import Difference, Topics, definitions, documentation


def test_changelogs_are_named_as_faust_names_them() -> None:
    topics = Topics("blue.", "shop")
    assert topics.app_id == "blue.shop"
    assert topics.accounts_changelog == "blue.shop-accounts-changelog"
    assert topics.health_changelog == "blue.shop-health-changelog"


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_replica_of_three_may_be_down_without_losing_an_acknowledged_write(replicas: int, in_sync: str) -> None:
    assert {topic.config["min.insync.replicas"] for topic in definitions(Topics("", "g"), replicas)} == {in_sync}


def test_a_difference_reads_as_one_line() -> None:
    assert str(Difference("prompt.costs", "topic", "there", None)) == "prompt.costs: missing"
    assert str(Difference("prompt.costs", "partitions", "12", "3")) == "prompt.costs: partitions is 3, not 12"


def test_the_page_about_topics_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "topics.md"
    assert page.read_text() == documentation(), "run: python -m streams.runtime.topics > docs/topics.md"
