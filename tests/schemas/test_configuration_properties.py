"""Whatever becomes of a configuration file, it ends in a configuration or in clear mistakes, and keeps its secrets."""

import re

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.configuration import Configuration, ConfigurationError, parse

CANARY = "canary-Zx81"
TEXT = f"""\
orchestrator: {{host: localhost, port: 8000, workers: 4, timeout: 30, max_retries: 3}}
models:
  - {{name: m, endpoint: "http://h/v1", capabilities: [a, b], cost_per_token: 0.00003, weight: 2.5, priority: -1}}
  - {{name: m, id: n, endpoint: "https://api.openai.com/v1", price: {{input_usd_per_million: "1",
     output_usd_per_million: 2}}, quota: q, timeout: 5}}
  - {{name: o, endpoint: "https://h", price: free, api_key_env: O_KEY}}
load_balancer: {{strategy: latency}}
rate_limit: {{requests_per_minute: 5, mode: wait}}
kafka:
  partitions: 4
  security: {{protocol: SASL_SSL, sasl_mechanism: PLAIN, username: u, password: {CANARY}}}
network: {{allow_private_endpoints: false}}
tenants:
  - {{name: a, budgets: [{{usd: "1.5", window: day}}], models: [m, o]}}
unknown_tenants: refuse
"""

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["free", "auto", "m", "http://127.1", f"http://u:{CANARY}@h", f"https://h/?key={CANARY}", "1e9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["name", "id", "price", "cost_per_token", "models", "kafka", "timeout", "<<", "", "usd", "x y"])
secret_names = st.sampled_from(["password", "api_key", "secret", "access_token", "KEY", "sasl_Password"])


def mutate(draw: st.DrawFn, node: object, depth: int) -> object:
    """Return `node` with something in or at it changed; a secret only ever goes where secrets are."""
    if depth == 0 or not isinstance(node, dict | list) or not node:
        return draw(values)
    if isinstance(node, list):
        index = draw(st.integers(0, len(node) - 1))
        changed = [*node[:index], mutate(draw, node[index], depth - 1), *node[index + 1 :]]
        return changed + [node[index]] * draw(st.integers(0, 1))
    key = draw(st.sampled_from(sorted(node)))
    match draw(st.sampled_from(["change", "change", "change", "remove", "add", "secret"])):
        case "remove":
            return {name: value for name, value in node.items() if name != key}
        case "add":
            return node | {draw(keys): draw(values)}
        case "secret":
            return node | {draw(secret_names): CANARY}
        case _:
            return node | {key: mutate(draw, node[key], depth - 1)}


@st.composite
def mutated_documents(draw: st.DrawFn) -> str:
    """Draw YAML that was a valid configuration before one to three changes."""
    document: object = yaml.safe_load(TEXT)
    for _ in range(draw(st.integers(1, 3))):
        document = mutate(draw, document, draw(st.integers(1, 5)))
    return str(yaml.dump(document, allow_unicode=draw(st.booleans())))


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """Draw the valid text with a piece cut out and another put in, outside of the secret."""
    start = draw(st.integers(0, len(TEXT)))
    piece = draw(
        st.text(max_size=5) | st.sampled_from([*list("{}[]:,&*!|>'\"%@`#?-\t\n\x00"), "<<: ", "---\n", ": ", "- "])
    )
    end = min(len(TEXT), start + draw(st.integers(0, 8)))
    secret = TEXT.index(CANARY)
    if start < secret + len(CANARY) and end > secret:
        end = start
    return TEXT[:start] + piece + TEXT[end:]


def outcome(text: str, environ: dict[str, str]) -> Configuration | ConfigurationError:
    """Parse; anything else that is raised fails the test."""
    try:
        return parse(text, environ)
    except ConfigurationError as error:
        return error


def shown_by(result: Configuration | ConfigurationError) -> str:
    """Return all that a configuration or its mistakes ever show; mistakes are lines of bounded printable ASCII."""
    if isinstance(result, Configuration):
        assert result.version()
        assert result.home_digest()
        return f"{result}{result!r}{result.model_dump()}{result.model_dump_json()}"
    assert result.mistakes
    assert all(re.fullmatch(r"[ -~]{1,1000}", str(mistake)) for mistake in result.mistakes)
    assert result.__context__ is result.__cause__ is None
    return f"{result}{result!r}{result.mistakes!r}"


def test_the_unmutated_file_is_valid() -> None:
    assert parse(TEXT).kafka.partitions == 4


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(mutated_documents())
def test_a_changed_configuration_is_told_or_loaded_and_keeps_its_secrets(text: str) -> None:
    assert CANARY not in shown_by(outcome(text, {}))


@settings(deadline=None, max_examples=150)
@given(mutated_texts())
def test_a_damaged_text_is_told_or_loaded(text: str) -> None:
    assert shown_by(outcome(text, {}))


names = st.lists(
    st.sampled_from(["kafka", "models", "0", "1", "9", "name", "price", "security", "partitions", "", "x", "tenants"]),
    min_size=2,
    max_size=4,
).map(lambda parts: "ORCHESTRATOR_" + "__".join(parts).upper())


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(names, st.text(max_size=12) | values.map(lambda value: str(yaml.dump(value)))))
def test_any_environment_is_told_or_loaded_and_keeps_the_secrets(environ: dict[str, str]) -> None:
    secret = {"ORCHESTRATOR_KAFKA__SECURITY__PASSWORD": CANARY}
    assert CANARY not in shown_by(outcome(TEXT, environ | secret))
