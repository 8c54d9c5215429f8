"""What a wrong configuration file is told: every mistake, one line each."""

import re

import pytest

from schemas.configuration import ConfigurationError, parse


def lines(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong with a configuration, line by line."""
    with pytest.raises(ConfigurationError) as raised:
        parse(text, environ or {})
    assert str(raised.value).split("\n") == [str(mistake) for mistake in raised.value.mistakes]
    assert raised.value.__context__ is raised.value.__cause__ is None  # they would quote the input
    return str(raised.value).split("\n")


MODEL = "models:\n- name: m\n  endpoint: http://h\n"
URL = "must be an http or https URL with a host, and without user, query or fragment"
RATES = "input_usd_per_million: 1, output_usd_per_million: 1"
RATE = "must be US dollars per million tokens from 0 to 1000000, with at most 12 decimals"
PER_TOKEN = "must be US dollars per token from 0 to 1, with at most 18 decimals"
IDENTIFIER = "must be printable ASCII without spaces, 1 to 128 characters"
STRATEGIES = "must be round-robin, weighted, least-busy, latency, cost or priority"

WRONG_VALUES = [
    ("orchestrator: {port: 65536}", "orchestrator.port (line 1): 65536: must be an integer from 0 to 65535"),
    ("orchestrator: {port: '80'}", 'orchestrator.port (line 1): "80": must be an integer from 0 to 65535'),
    ("orchestrator: {port: 8e1}", "orchestrator.port (line 1): 8e1: must be an integer from 0 to 65535"),
    ("orchestrator:\n  workers: 0", "orchestrator.workers (line 2): 0: must be an integer from 1 to 1024"),
    ("orchestrator: {max_retries: true}", "orchestrator.max_retries (line 1): true: must be an integer from 0 to 100"),
    (
        "orchestrator: {timeout: 0}",
        "orchestrator.timeout (line 1): 0: must be a number of seconds above 0 and at most 1000000000",
    ),
    (
        "orchestrator: {timeout: .nan}",
        "orchestrator.timeout (line 1): .nan: must be a number of seconds above 0 and at most 1000000000",
    ),
    ("orchestrator: {timeout: 1e999999999999}", "orchestrator.timeout (line 1): a number out of all bounds"),
    ("orchestrator: {host: 'a b'}", 'orchestrator.host (line 1): "a b": must be a host name or an IP address'),
    ("orchestrator: 5", "orchestrator (line 1): 5: must be a mapping"),
    ("models: {name: m}", "models (line 1): a mapping: must be a list"),
    ("models: [m]", 'models[0] (line 1): "m": must be a mapping'),
    ("models: [{endpoint: 'http://h'}]", f"models[0].name (line 1): missing; {IDENTIFIER}; `auto` is reserved"),
    ("models:\n- name: m", f"models[0].endpoint (line 2): missing; {URL}"),
    (
        "models: [{name: auto, endpoint: 'http://h'}]",
        f'models[0].name (line 1): "auto": {IDENTIFIER}; `auto` is reserved',
    ),
    (
        'models: [{name: "a\\n", endpoint: "http://h"}]',
        f'models[0].name (line 1): "a\\n": {IDENTIFIER}; `auto` is reserved',
    ),
    (MODEL + "  cost_per_token: -0.1", f"models[0].cost_per_token (line 4): -0.1: {PER_TOKEN}"),
    (MODEL + "  cost_per_token: 1.01", f"models[0].cost_per_token (line 4): 1.01: {PER_TOKEN}"),
    (MODEL + "  cost_per_token: .inf", f"models[0].cost_per_token (line 4): .inf: {PER_TOKEN}"),
    (MODEL + "  cost_per_token: true", f"models[0].cost_per_token (line 4): true: {PER_TOKEN}"),
    (MODEL + "  cost_per_token: [1]", f"models[0].cost_per_token (line 4): a list: {PER_TOKEN}"),
    (MODEL + "  price: cheap", 'models[0].price (line 4): "cheap": must be a mapping of rates, or `free`'),
    (
        MODEL + "  price: {input_usd_per_million: 1}",
        f"models[0].price.output_usd_per_million (line 4): missing; {RATE}",
    ),
    (
        MODEL + "  price: {input_usd_per_million: 1, output_usd_per_million: 1000001}",
        f"models[0].price.output_usd_per_million (line 4): 1000001: {RATE}",
    ),
    (
        MODEL + "  price: {input_usd_per_million: -1, output_usd_per_million: 1}",
        f"models[0].price.input_usd_per_million (line 4): -1: {RATE}",
    ),
    (
        MODEL + "  price: {input_usd_per_million: 1, output_usd_per_million: 1, per_request_usd: 1001}",
        "models[0].price.per_request_usd (line 4): 1001: must be US dollars per request from 0 to 1000, with at most"
        " 12 decimals",
    ),
    (
        MODEL
        + f"  price: {{{RATES}, tiers: [{{above_input_tokens: 2, {RATES}}}, {{above_input_tokens: 2, {RATES}}}]}}",
        "models[0].price (line 4): a mapping: must have `tiers` with ascending `above_input_tokens`",
    ),
    (
        MODEL + f"  price: {{{RATES}, tiers: [{{above_input_tokens: 0, {RATES}}}]}}",
        "models[0].price.tiers[0].above_input_tokens (line 4): 0: must be an integer of at least 1",
    ),
    (MODEL + "  image_tokens: 0", "models[0].image_tokens (line 4): 0: must be an integer of at least 1"),
    (
        MODEL + "  tokenizer: o300k",
        'models[0].tokenizer (line 4): "o300k": must be cl100k_base or o200k_base',
    ),
    (
        MODEL + "  price: free\n  cost_per_token: 0",
        'models[0].price (line 4): "free": stands beside cost_per_token: write one of them',
    ),
    (MODEL + "  max_tokens: 0", "models[0].max_tokens (line 4): 0: must be an integer of at least 1"),
    (MODEL + "  weight: 0", "models[0].weight (line 4): 0: must be a number above 0 and at most 1000000"),
    (MODEL + "  paid_health_checks: 1", "models[0].paid_health_checks (line 4): 1: must be true or false"),
    (MODEL + "  capabilities: x", 'models[0].capabilities (line 4): "x": must be a list'),
    (MODEL + "  capabilities: [5]", f"models[0].capabilities[0] (line 4): 5: {IDENTIFIER}"),
    (MODEL + "  api_key_env: sk-1", "models[0].api_key_env (line 4): ***: must be the name of an environment variable"),
    (
        MODEL + "- name: m\n  endpoint: http://i",
        'models[1].name (line 4): "m": repeats models[0].name: give each an `id`',
    ),
    (
        MODEL + "- {name: n, id: m, endpoint: 'http://i'}",
        'models[1].id (line 4): "m": repeats models[0].name: ids are unique, and default to the name',
    ),
    ("load_balancer: {strategy: random}", f'load_balancer.strategy (line 1): "random": {STRATEGIES}'),
    ("cache: {strategy: fifo}", 'cache.strategy (line 1): "fifo": must be lru'),
    ("cache: {enabled: yes}", 'cache.enabled (line 1): "yes": must be true or false'),
    (
        "rate_limit: {burst_size: 0}",
        "rate_limit.burst_size (line 1): 0: must be an integer from 1 to 1000000000",
    ),
    ("rate_limit: {mode: drop}", 'rate_limit.mode (line 1): "drop": must be refuse or wait'),
    ("kafka: {partitions: 0}", "kafka.partitions (line 1): 0: must be an integer from 1 to 100000"),
    (
        "kafka: {topic_prefix: 'a/'}",
        'kafka.topic_prefix (line 1): "a/": must be letters, digits, dots, underscores and hyphens, at most 128',
    ),
    (
        "kafka: {session_timeout: 1.9}",
        "kafka.session_timeout (line 1): 1.9: must be a number of seconds from 2 to 1800",
    ),
    (
        "kafka: {security: {protocol: TLS}}",
        "kafka.security.protocol (line 1): ***: must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    ),
    ("kafka: {security: {protocol: SSL, password: 5}}", "kafka.security.password (line 1): ***: must be a string"),
    (
        "limits: {max_timeout_s: 29}",
        "limits.max_timeout_s (line 1): 29: must be at least orchestrator.timeout, which is 30",
    ),
    (
        "orchestrator: {timeout: 3601}",
        "orchestrator.timeout (line 1): 3601: must be at most limits.max_timeout_s, which is 3600",
    ),
    ("unknown_tenants: ignore", 'unknown_tenants (line 1): "ignore": must be allow or refuse'),
    ("tenants: [{name: 'a b'}]", f'tenants[0].name (line 1): "a b": {IDENTIFIER}'),
    (
        "tenants: [{name: a}, {name: a}]",
        'tenants[1].name (line 1): "a": repeats tenants[0].name: names are unique',
    ),
    (
        "tenants: [{name: a, budgets: [{usd: 0.0000000001, window: day}]}]",
        "tenants[0].budgets[0].usd (line 1): 0.0000000001: must be US dollars from 0 to 9000000000,"
        " with at most 9 decimals",
    ),
    (
        "tenants: [{name: a, budgets: [{usd: 1}]}]",
        "tenants[0].budgets[0].window (line 1): missing; must be minute, hour, day, month or total",
    ),
    (
        "tenants: [{name: a, budgets: [{usd: 1, window: day}, {usd: 2, window: day}]}]",
        'tenants[0].budgets[1].window (line 1): "day": repeats tenants[0].budgets[0].window:'
        " one budget for each kind of window",
    ),
    (
        MODEL + "tenants: [{name: a, models: [n]}]",
        'tenants[0].models[0] (line 4): "n": no such model; the nearest known one is "m"',
    ),
    (
        "tenants: [{name: a, models: [n]}]",
        'tenants[0].models[0] (line 1): "n": no such model; none is configured',
    ),
]


@pytest.mark.parametrize(("text", "line"), WRONG_VALUES)
def test_a_wrong_value_is_told_where_what_and_what_would_be_right(text: str, line: str) -> None:
    assert line in lines(text)


UNKNOWN_KEYS = [
    ("modles: []", "modles (line 1): unknown key; the nearest known one is models"),
    ("load-balancer: {}", "load-balancer (line 1): unknown key; the nearest known one is load_balancer"),
    ("orchestrator:\n  wrokers: 3", "orchestrator.wrokers (line 2): unknown key; the nearest known one is workers"),
    (MODEL + "  cost: 1", "models[0].cost (line 4): unknown key; the nearest known one is cost_per_token"),
    (MODEL + "  id:\n  usd: ~", "models[0].usd (line 5): unknown key; the nearest known one is id"),
    (
        "tenants: [{name: a, budgets: [{usd: 1, window: day, windows: x}]}]",
        "tenants[0].budgets[0].windows (line 1): unknown key; the nearest known one is window",
    ),
    ('"a\\n\\e[31m.b": 1', '["a\\n\\u001b[31m.b"] (line 1): unknown key; the nearest known one is rate_limit'),
    ("warnings: []", "warnings (line 1): unknown key; the nearest known one is tenants"),
]


@pytest.mark.parametrize(("text", "line"), UNKNOWN_KEYS)
def test_an_unknown_key_is_told_the_nearest_known_one(text: str, line: str) -> None:
    assert lines(text) == [line]


NO_DOCUMENTS = [
    ("", "the file is empty: `{}` stands for all defaults"),
    ("# nothing\n---\n", "the file is empty: `{}` stands for all defaults"),
    ("- a\n", "must be a mapping of sections, not a list"),
    ("hello", "must be a mapping of sections, not a single value"),
    ("cache: {}\n\tttl: 5\n", "line 2, column 1: not YAML: a tab where YAML wants spaces"),
    ("cache: [1, 2", "line 1, column 13: not YAML: expected ',' or ']', but got '<stream end>'"),
    ("cache: a: b", "line 1, column 9: not YAML: mapping values are not allowed here"),
    ("cache:\n  x: \x07", "line 2, column 6: not YAML: the character U+0007 is not allowed"),
    ("cache: \ud800", "line 1, column 8: not YAML: the character U+D800 is not allowed"),
    ("cache: {}\n---\ncache: {}\n", "line 2: a second YAML document: a configuration is one document"),
    ("cache: " + "[" * 50_000, "line 1: nested deeper than 32"),
    ("#" + "x" * (1 << 20), "the file is larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "line"), NO_DOCUMENTS, ids=range(len(NO_DOCUMENTS)))
def test_what_is_no_usable_document_is_one_mistake(text: str, line: str) -> None:
    assert lines(text) == [line]


def test_a_file_of_exactly_one_mebibyte_loads() -> None:
    parse("cache: {}\n#" + "x" * ((1 << 20) - 11))


def test_a_duplicate_key_names_both_lines() -> None:
    text = "cache: {ttl: 5}\nhealth:\n  port: 1\n  port: 2\ncache: {}\n"
    assert lines(text) == [
        "health.port (line 4): a duplicate key: it is already on line 3",
        "cache (line 5): a duplicate key: it is already on line 1",
    ]


def test_anchors_aliases_tags_and_odd_keys_are_refused() -> None:
    text = "cache: &a {}\nhealth: *a\nstate: !!python/object/apply:os.system [x]\n? [k]\n: 1\n"
    assert lines(text) == [
        "cache (line 1): an anchor: anchors and aliases are not allowed",
        "health (line 2): an alias: write the value itself",
        "state (line 3): a YAML tag: tags are not allowed",
        "line 4: a key that is no plain text",
    ]


def test_an_alias_bomb_is_refused_without_being_expanded() -> None:
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 10))
    assert "k9[8] (line 10): an alias: write the value itself" in lines(f"k0: &k0 x\n{levels}")


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
orchestrator: {port: x, workers: 0}
models:
  - {name: m, endpoint: ftp://h}
  - {name: m, endpoint: "http://h", price: free, cost_per_token: -1}
cash: {}
tenants: [{name: a, models: [q]}]
"""
    assert lines(text) == [
        'orchestrator.port (line 1): "x": must be an integer from 0 to 65535',
        "orchestrator.workers (line 1): 0: must be an integer from 1 to 1024",
        f'models[0].endpoint (line 3): "ftp://h": {URL}',
        f"models[1].cost_per_token (line 4): -1: {PER_TOKEN}",
        'models[1].name (line 4): "m": repeats models[0].name: give each an `id`',
        'models[1].price (line 4): "free": stands beside cost_per_token: write one of them',
        "cash (line 5): unknown key; the nearest known one is cache",
        'tenants[0].models[0] (line 6): "q": no such model; the nearest known one is "m"',
    ]


LOGINS = [
    ("protocol: SASL_SSL", "sasl_mechanism (line 1): missing: a SASL protocol needs sasl_mechanism"),
    ("protocol: SASL_SSL", "username (line 1): missing: a SASL protocol needs username"),
    ("protocol: SASL_SSL", "password_env (line 1): missing: a SASL protocol needs password_env or password"),
    ("protocol: SSL, username: u", "username (line 1): ***: has no effect without a SASL protocol"),
    ("protocol: PLAINTEXT, ca_file: f", "ca_file (line 1): ***: has no effect without SSL or SASL_SSL"),
    ("protocol: SSL, cert_file: f", "key_file (line 1): missing: cert_file and key_file belong together"),
    (
        "protocol: SASL_SSL, password: p, password_env: P",
        "password (line 1): ***: stands beside password_env: write one of them",
    ),
    ("username: u", "protocol (line 1): missing; must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
]


@pytest.mark.parametrize(("security", "line"), LOGINS)
def test_a_login_that_cannot_work_is_told(security: str, line: str) -> None:
    assert f"kafka.security.{line}" in lines(f"kafka: {{security: {{{security}}}}}")


def test_a_wrong_setting_of_the_environment_names_its_variable() -> None:
    environ = {
        "ORCHESTRATOR_KAFKA__PARTITIONS": "many",
        "orchestrator_kafka__partitons": "3",
        "ORCHESTRATOR_MODELS__0__NAME": "m",
        "ORCHESTRATOR_TENANTS__1__NAME": "t",
        "ORCHESTRATOR_HEALTH__PORT": "[",
        "ORCHESTRATOR_STATE__DIRECTORY": "*x",
    }
    assert sorted(lines("kafka: {partitions: 3}\ntenants: []\n", environ)) == [
        "ORCHESTRATOR_HEALTH__PORT (health.port): not YAML: expected the node content, but found '<stream end>'",
        'ORCHESTRATOR_KAFKA__PARTITIONS (kafka.partitions): "many": must be an integer from 1 to 100000',
        f"ORCHESTRATOR_MODELS__0__NAME (models[0].endpoint): missing; {URL}",
        "ORCHESTRATOR_STATE__DIRECTORY (state.directory): an alias: write the value itself",
        "ORCHESTRATOR_TENANTS__1__NAME (tenants[1].name): tenants has no such place:"
        " list items are numbered from 0 without gaps",
        "orchestrator_kafka__partitons (kafka.partitons): unknown key; the nearest known one is partitions",
    ]


def test_one_setting_under_two_spellings_is_a_mistake() -> None:
    environ = {"ORCHESTRATOR_CACHE__TTL": "5", "orchestrator_cache__ttl": "6"}
    assert lines("{}", environ) == ["orchestrator_cache__ttl (cache.ttl): the same setting as ORCHESTRATOR_CACHE__TTL"]


SECRETS = [
    "models: [{name: m, endpoint: 'https://user:canary@h/v1'}]",
    "models: [{name: m, endpoint: 'https://h/v1?key=canary'}]",
    "models: [{name: m, endpoint: 'https://h/v1#canary'}]",
    "models: [{name: m, endpoint: 'http://h', api_key: canary}]",
    "models: [{name: m, endpoint: 'http://h', api_key_env: canary-1}]",
    "models: [{name: m, endpoint: 'http://h', provider: {token: canary}}]",
    "kafka: {bootstrap_servers: 'user:canary@h:1'}",
    "kafka: {security: canary}",
    "kafka: {security: [canary]}",
    "kafka: {security: {protocol: canary, username: {canary: 1}}}",
    "kafka: {security: {protocol: SASL_SSL, sasl_mechanism: canary, ca_file: '', password: [canary]}}",
    "kafka: {sasl_password: canary}",
    "kafka: {security: {password: canary, x: 'y}}",
    "kafka: {security: {password: *canary}}",
    "kafka: {security: {password: !canary x}}",
    "kafka: {security: {password: !canary!x y}}",
    "secret: canary: x",
    "'https://user:canary@h': 1",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_mistake_never_shows_a_secret(text: str) -> None:
    shown = "\n".join(lines(text)).replace('["canary"]', "")  # a key is no secret
    assert "canary" not in shown


def test_a_long_value_is_cut_and_a_wild_one_escaped() -> None:
    value = "\\u202e\\e]0;x\\a" + "z" * 100
    assert lines(f'unknown_tenants: "{value}"') == [
        'unknown_tenants (line 1): "\\u202e\\u001b]0;x\\u0007' + "z" * 53 + '...": must be allow or refuse'
    ]


def test_what_looks_like_a_key_is_masked_wherever_it_stands() -> None:
    (line,) = lines("unknown_tenants: sk-proj-0123456789abcdefghij")
    assert line == 'unknown_tenants (line 1): "***": must be allow or refuse'


def test_a_mistake_is_one_line_of_printable_ascii() -> None:
    for line in lines('"\\x85é\\u2028": "\\n"\nunknown_tenants: "\\n\\u2028"\ncache: {"a\\r": 1}\n'):
        assert re.fullmatch(r"[ -~]+", line)


def test_a_strange_variable_or_parser_message_is_escaped_too() -> None:
    environ = {"ORCHESTRATOR_A__\nB": "1", "ORCHESTRATOR_CACHE__TTL": "&\u00a1", "ORCHESTRATOR_C__" + "x" * 300: "1"}
    assert sorted(lines("{}", environ)) == [
        '"ORCHESTRATOR_C__' + "x" * 44 + '..." (c): unknown key; the nearest known one is cache',
        "ORCHESTRATOR_A__\\nB (a): unknown key; the nearest known one is state",
        "ORCHESTRATOR_CACHE__TTL (cache.ttl): not YAML: expected alphabetic or numeric character, but found '\\u00a1'",
    ]
