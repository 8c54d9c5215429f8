"""What the demo asks, of whom, and the configuration that it runs with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.runtime import embedded, local_model

TEXTS: Final = (
    "Name three rivers in Europe.",
    "Translate to French: the train leaves at noon.",
    "What is 17 times 23?",
    "Write one sentence about a lighthouse.",
    "List the planets, nearest to the sun first.",
    "Explain in two sentences what a ledger is.",
    "Correct the grammar: he go to school every days.",
    "Give a title for a story about a lost key.",
    "Which is heavier, a kilogram of feathers or of lead?",
    "Rewrite politely: send me the file now.",
    "Summarise in one sentence: Kafka keeps records in partitions, in order, for as long as it is told to. Whoever"
    " reads remembers how far it has come, so that many may read the same records, each at its own pace.",
    "Write a Python function that adds two numbers.",
    "What do bees make?",
    "Name a synonym of quick.",
    "Continue the sequence: 2, 4, 8, 16,",
    "Is the following positive or negative? The soup was cold and the waiter rude.",
    "Write a haiku about rain.",
    "What is the capital of Portugal?",
    "Extract the year: founded in 1998 in a garage.",
    "Say hello in four languages.",
    "Why is the sky blue? One sentence.",
    "Turn into a question: The shop opens at nine.",
    "Give an example of a prime number above fifty.",
    "What is the opposite of brave?",
)
"""Two dozen, written for this project; varied in task and length."""

MALFORMED: Final = b'{"request_id": "demo-broken", "tenant": "acme", "prompt": "This JSON has no end'
_ANSWER_TOKENS: Final = (24, 16, 12, 32, 48, 48)
SMALL: Final = "initech"
TENANTS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "acme", "budgets": [{"usd": "1", "window": "day"}, {"usd": "10", "window": "month"}]},
    {"name": "globex"},
    {"name": SMALL, "budgets": [{"usd": "0.004", "window": "total"}]},
)
BUDGETS: Final = {"acme": "$1 a day, $10 a month", "globex": "none", SMALL: "$0.004 in total"}
PARTITIONS: Final = 4
WORKERS: Final = 2
TIMEOUT_S: Final = 100
INPUT_USD_PER_MILLION: Final = "3"
OUTPUT_USD_PER_MILLION: Final = "15"
"""Made up: the model runs on this machine and costs nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of the demo; the malformed one has no tenant that could be read from it."""

    request_id: str
    tenant: str
    text: str
    max_tokens: int


def questions() -> list[Asked]:
    """Return two dozen prompts: of four, two are acme's, one globex's, one initech's."""
    tenants = ("acme", "globex", "acme", SMALL)
    return [
        Asked(f"demo-{number:02}", tenants[number % 4], text, _ANSWER_TOKENS[number % 6])
        for number, text in enumerate(TEXTS)
    ]


def own_configuration(directory: Path, broker_port: int, model_port: int) -> dict[str, Any]:
    """Return the configuration of a demo with the embedded broker and the local model."""
    return {
        "orchestrator": {"workers": WORKERS, "timeout": TIMEOUT_S},
        "models": [
            {
                "name": local_model.MODEL,
                "endpoint": local_model.endpoint(model_port),
                "max_tokens": local_model.CONTEXT,
                "template_tokens": local_model.TEMPLATE_TOKENS,
                "price": {
                    "input_usd_per_million": INPUT_USD_PER_MILLION,
                    "output_usd_per_million": OUTPUT_USD_PER_MILLION,
                },
            }
        ],
        "kafka": {
            "bootstrap_servers": f"127.0.0.1:{broker_port}",
            "partitions": PARTITIONS,
            "session_timeout": embedded.SESSION_TIMEOUT_S,
        },
        "load_balancer": {"max_failures": 1000},  # a model that shares the processor is slow, not ill
        "limits": {"default_max_tokens": 64},
        "state": {"directory": str(directory / "state")},
        "tenants": [dict(tenant) for tenant in TENANTS],
    }


def configuration_on(tree: dict[str, Any], directory: Path, prefix: str) -> dict[str, Any]:
    """Return a user's configuration with the demo's tenants, and topics and state of its own."""
    kafka = tree.get("kafka") or {}
    changed = {
        "kafka": {**kafka, "topic_prefix": prefix},
        "state": {"directory": str(directory / "state")},
        "tenants": [dict(tenant) for tenant in TENANTS],
        "unknown_tenants": "allow",
        "rate_limit": {"enabled": False},
        "orchestrator": {**(tree.get("orchestrator") or {}), "workers": WORKERS, "timeout": TIMEOUT_S},
    }
    return {**tree, **changed}
