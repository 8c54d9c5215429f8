"""Rules across keys. They look at the plain tree, so that they also speak up where other keys are wrong."""

import difflib
from collections.abc import Iterator
from decimal import Decimal
from typing import TypeGuard

from schemas.configuration.endpoints import host_of, is_private_host
from schemas.configuration.mistakes import Path, quoted, written

Finding = tuple[Path, str]
"""Where, and what is wrong there."""

_DEFAULT_TIMEOUT_S = 30
_DEFAULT_MAX_TIMEOUT_S = 3600


def findings(tree: object) -> Iterator[Finding]:
    """Yield what is wrong across keys; whatever has the wrong type is passed over, others report it."""
    root = _mapping(tree)
    yield from _ids_are_unique(root)
    yield from _one_price(root)
    yield from _endpoints_are_public(root)
    yield from _timeout_fits(root)
    yield from _tenants(root)
    yield from _login(_mapping(_mapping(root.get("kafka")).get("security")))


def _ids_are_unique(root: dict[str, object]) -> Iterator[Finding]:
    first: dict[str, Path] = {}
    for index, model in _entries(root.get("models")):
        key = "name" if model.get("id") is None else "id"
        identifier, path = model.get(key), ("models", index, key)
        if not isinstance(identifier, str):
            continue
        if identifier in first:
            advice = "give each an `id`" if key == "name" else "ids are unique, and default to the name"
            yield path, f"repeats {written(first[identifier])}: {advice}"
        first.setdefault(identifier, path)


def _one_price(root: dict[str, object]) -> Iterator[Finding]:
    for index, model in _entries(root.get("models")):
        if model.get("price") is not None and model.get("cost_per_token") is not None:
            yield ("models", index, "price"), "stands beside cost_per_token: write one of them"


def _endpoints_are_public(root: dict[str, object]) -> Iterator[Finding]:
    if _mapping(root.get("network")).get("allow_private_endpoints") is not False:
        return
    for index, model in _entries(root.get("models")):
        endpoint = model.get("endpoint")
        if isinstance(endpoint, str) and is_private_host(host_of(endpoint)):
            yield ("models", index, "endpoint"), "a private address, and network.allow_private_endpoints is false"


def _timeout_fits(root: dict[str, object]) -> Iterator[Finding]:
    timeout = _mapping(root.get("orchestrator")).get("timeout")
    longest = _mapping(root.get("limits")).get("max_timeout_s")
    if timeout is not None:
        most = _DEFAULT_MAX_TIMEOUT_S if longest is None else longest
        if _is_number(timeout) and _is_number(most) and timeout > most:
            yield ("orchestrator", "timeout"), f"must be at most limits.max_timeout_s, which is {most}"
    elif _is_number(longest) and longest < _DEFAULT_TIMEOUT_S:
        yield ("limits", "max_timeout_s"), "must be at least orchestrator.timeout, which is 30"


def _tenants(root: dict[str, object]) -> Iterator[Finding]:
    known = [name for _, model in _entries(root.get("models")) if isinstance(name := model.get("name"), str)]
    first: dict[str, int] = {}
    for index, tenant in _entries(root.get("tenants")):
        name = tenant.get("name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield ("tenants", index, "name"), f"repeats tenants[{first[name]}].name: names are unique"
        yield from _one_budget_per_window(tenant, ("tenants", index, "budgets"))
        yield from _known_models(tenant, ("tenants", index, "models"), known)


def _one_budget_per_window(tenant: dict[str, object], path: Path) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, budget in _entries(tenant.get("budgets")):
        window = budget.get("window")
        if isinstance(window, str) and first.setdefault(window, index) != index:
            earlier = written((*path, first[window], "window"))
            yield (*path, index, "window"), f"repeats {earlier}: one budget for each kind of window"


def _known_models(tenant: dict[str, object], path: Path, known: list[str]) -> Iterator[Finding]:
    allowed = tenant.get("models")
    for index, name in enumerate(allowed if isinstance(allowed, list) else []):
        if isinstance(name, str) and name not in known:
            nearest = difflib.get_close_matches(name[:128], known, 1, 0)
            advice = f"the nearest known one is {quoted(nearest[0])}" if nearest else "none is configured"
            yield (*path, index), f"no such model; {advice}"


def _login(security: dict[str, object]) -> Iterator[Finding]:
    protocol = security.get("protocol")
    if not isinstance(protocol, str):
        return
    given = {key for key, value in security.items() if value is not None}
    at: Path = ("kafka", "security")
    if protocol.startswith("SASL_"):
        for key in ("sasl_mechanism", "username"):
            if key not in given:
                yield (*at, key), f"missing: a SASL protocol needs {key}"
        if not given & {"password", "password_env"}:
            yield (*at, "password_env"), "missing: a SASL protocol needs password_env or password"
    else:
        for key in sorted(given & {"sasl_mechanism", "username", "password", "password_env"}):
            yield (*at, key), "has no effect without a SASL protocol"
    if not protocol.endswith("SSL"):
        for key in sorted(given & {"ca_file", "cert_file", "key_file"}):
            yield (*at, key), "has no effect without SSL or SASL_SSL"
    if given >= {"password", "password_env"}:
        yield (*at, "password"), "stands beside password_env: write one of them"
    if len(given & {"cert_file", "key_file"}) == 1:
        absent = "key_file" if "cert_file" in given else "cert_file"
        yield (*at, absent), "missing: cert_file and key_file belong together"


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _entries(value: object) -> Iterator[tuple[int, dict[str, object]]]:
    items = value if isinstance(value, list) else []
    return ((index, item) for index, item in enumerate(items) if isinstance(item, dict))


def _is_number(value: object) -> TypeGuard[int | Decimal]:
    return type(value) is int or (isinstance(value, Decimal) and value.is_finite())
