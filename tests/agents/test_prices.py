"""`orchestrator prices` tells what a call would be priced at, and why; `bill` checks its arguments first."""

import json
from datetime import date
from pathlib import Path

import pytest

from agents.cli import main
from agents.commands.bill import Statement, selection
from agents.commands.exits import CommandError
from agents.commands.prices import Priced, prices, table
from schemas.configuration import parse
from streams.core.bills import Row, Selection

MODELS = """
models:
  - {name: seed, endpoint: "http://localhost:1/v1", cost_per_token: 0.00003}
  - {name: gpt-4, id: eu, endpoint: "http://localhost:1/v1",
     price: {input_usd_per_million: "30", output_usd_per_million: "60", cache_read_usd_per_million: "15"}}
  - {name: gpt-4, id: us, endpoint: "http://localhost:1/v1", price: free}
  - {name: gpt-4o, endpoint: "https://api.openai.com/v1"}
  - {name: unheard-of, endpoint: "https://api.openai.com/v1"}
"""
NOW = 1_795_399_200_000
DAY = date(2026, 11, 23)


def priced(model: str | None) -> list[Priced]:
    return prices(parse(MODELS), model, NOW, DAY)


def test_the_rates_say_where_they_come_from() -> None:
    found = {p.deployment: p.as_dict() for p in priced(None)}
    assert {name: (told["source"], told["rates"]) for name, told in found.items() if name != "gpt-4o"} == {
        "seed": ("configuration", {"input": "30", "output": "30"}),
        "eu": ("configuration", {"input": "30", "cache_read": "15", "output": "60"}),
        "us": ("configuration", {"input": "0", "output": "0"}),
        "unheard-of": (None, None),
    }
    assert found["seed"]["why"] == "cost_per_token of the configuration: input and output at one rate"
    assert found["gpt-4o"]["source"] == "genai-prices"
    assert found["gpt-4o"]["date"] == "2026-11-23"
    assert "genai-prices has no price of openai unheard-of" in str(found["unheard-of"]["why"])


@pytest.mark.parametrize(("asked", "deployments"), [("gpt-4", ["eu", "us"]), ("us", ["us"]), ("seed", ["seed"])])
def test_a_model_or_a_deployment_may_be_named(asked: str, deployments: list[str]) -> None:
    assert [p.deployment for p in priced(asked)] == deployments


def test_an_unknown_model_is_a_mistake_that_names_the_known_ones() -> None:
    with pytest.raises(CommandError) as raised:
        priced("gpt-9")
    assert (raised.value.code, raised.value.lines) == (
        2,
        ("gpt-9: no such model in the configuration; known: gpt-4, gpt-4o, seed, unheard-of",),
    )


def test_people_are_told_that_requests_without_a_price_are_refused() -> None:
    assert table(priced("unheard-of"))[0][3] == "none: requests are refused with no_price"


def test_the_command_prints_json(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = tmp_path / "orchestrator.yaml"
    file.write_text(MODELS)
    assert main(["prices", "eu", "--json", "-c", str(file)]) == 0
    (told,) = json.loads(capfdbinary.readouterr().out)
    assert (told["deployment"], told["rates"]["output"]) == ("eu", "60")


@pytest.mark.parametrize(
    ("month", "by", "lines"),
    [
        ("2026-13", None, ("--month: '2026-13' is no month; write 2026-11",)),
        ("2026-1", "hour", ("--month: '2026-1' is no month; write 2026-11", "--by: 'hour' is none of model, day,")),
        (None, "metadata.", ("--by: 'metadata.' is none of model, day, metadata.KEY",)),
    ],
)
def test_a_bill_for_no_month_or_group_is_a_mistake(month: str | None, by: str | None, lines: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as raised:
        selection(None, month, by)
    assert raised.value.code == 2
    assert all(said.startswith(line) for said, line in zip(raised.value.lines, lines, strict=True))


def test_a_bill_is_exact_in_every_form() -> None:
    row = Row(2, 18, 6, cost=12_345_678_901, uncertain=1, saved=2)
    statement = Statement(Selection(by="model"), {("acme", "gpt-4, eu"): row}, row, aged=False)
    assert statement.to_csv() == (
        "tenant,model,calls,input_tokens,output_tokens,cost_nano_usd,uncertain_nano_usd,saved_nano_usd,cost_usd\n"
        'acme,"gpt-4, eu",2,18,6,12345678901,1,2,12.345678901'
    )
    assert json.loads(statement.to_json())["total"]["cost_usd"] == "12.345678901"
    assert statement.table()[1][-1] == ("total", "", "2", "18", "6", "12.345678901", "0.000000001", "0.000000002")
