"""How rows are written: keys are length-prefixed parts, values are JSON arrays.

| key | row |
|---|---|
| `home` | the partition's ledger sequence and event-time clock |
| `account/<tenant>` | the tenant's account |
| `open/<tenant>/<id>` | a request that is not done |
| `request/<tenant>/<id>` | a request that is done |
| `lift/<tenant>/<id>` | an operator's lift of an overrun; these are few, and stay |
| `deployment/<id>` | in the table `health`: a deployment's circuit; all others are in `accounts` |

A request moves from `open/` to `request/` with its terminal decision, so that a new owner finds what is open without
reading all that is done.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import orjson

from streams.core import facts as f
from streams.core.account import Account, Window
from streams.core.circuit import Circuit
from streams.core.request import Intake, Request, after

HOME_KEY = b"home"
OPEN_PREFIX = b"open/"
DONE_PREFIX = b"request/"
ACCOUNT_PREFIX = b"account/"
LIFT_PREFIX = b"lift/"


@dataclass(frozen=True, slots=True)
class Home:
    """One home partition: `seq` is the last ledger entry's, `clock_ms` its event time.

    `partitions`: P when the row was written. P decides where everything lives, so it never changes. `requests_to` and
    `progress_to`: the last offsets that were decided on.
    """

    seq: int = 0
    clock_ms: int = 0
    partitions: int = 0
    requests_to: int = -1
    progress_to: int = -1


def account_key(tenant: str) -> bytes:
    """Return the key of a tenant's account."""
    return ACCOUNT_PREFIX + _part(tenant)


def open_key(tenant: str, request_id: str) -> bytes:
    """Return the key of a request that is not done."""
    return OPEN_PREFIX + _part(tenant) + _part(request_id)


def done_key(tenant: str, request_id: str) -> bytes:
    """Return the key of a request that is done."""
    return DONE_PREFIX + _part(tenant) + _part(request_id)


def lift_key(tenant: str, lift_id: str) -> bytes:
    """Return the key of an operator's lift of an overrun."""
    return LIFT_PREFIX + _part(tenant) + _part(lift_id)


def deployment_key(deployment: str) -> bytes:
    """Return the key of a deployment's circuit in the table `health`."""
    return b"deployment/" + _part(deployment)


def encode_circuit(circuit: Circuit) -> bytes:
    """Write a circuit."""
    return orjson.dumps([getattr(circuit, name) for name in _CIRCUIT])


def decode_circuit(value: bytes) -> Circuit:
    """Read a circuit."""
    return Circuit(*orjson.loads(value))


def _part(text: str) -> bytes:
    raw = text.encode("ascii")
    return bytes((len(raw),)) + raw


def encode_home(home: Home) -> bytes:
    """Write a home partition's row."""
    return orjson.dumps([home.seq, home.clock_ms, home.partitions, home.requests_to, home.progress_to])


def decode_home(value: bytes) -> Home:
    """Read a home partition's row."""
    return Home(*orjson.loads(value))


def encode_account(account: Account) -> bytes:
    """Write an account."""
    windows = [[w.id, w.limit, w.spent, w.reserved, w.uncertain, w.overrun, w.holds] for w in account.windows]
    return orjson.dumps([account.tenant, account.clock_ms, account.tat_ns, windows, account.tokens_tat_ns])


def decode_account(value: bytes) -> Account:
    """Read an account."""
    tenant, clock_ms, tat_ns, windows, tokens_tat_ns = orjson.loads(value)
    return Account(tenant, clock_ms, tat_ns, tokens_tat_ns, tuple(Window(*w) for w in windows))


_TAGS: dict[type[f.Fact], str] = {
    f.HoldPlaced: "placed",
    f.HoldSettled: "settled",
    f.HoldReleased: "released",
    f.HoldRefused: "refused",
    f.BookingAdjusted: "adjusted",
    f.BudgetSet: "budget",
    f.Charged: "charged",
    f.AttemptStarted: "started",
    f.AttemptWaits: "waits",
    f.AttemptEnded: "ended",
    f.Answered: "answered",
    f.Failed: "failed",
}
_KINDS: dict[str, Callable[..., f.Fact]] = {tag: kind for kind, tag in _TAGS.items()}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _TAGS}
_WITH_LINES = frozenset(tag for kind, tag in _TAGS.items() if _FIELDS[kind][-1] == "lines")


def _encode_fact(fact: f.Fact) -> list[Any]:
    kind = type(fact)
    values = [getattr(fact, name) for name in _FIELDS[kind]]
    if _FIELDS[kind][-1] == "lines":
        values[-1] = [[line.window, line.spent, line.reserved, line.limit, line.seq] for line in values[-1]]
    return [_TAGS[kind], *values]


def _decode_fact(raw: list[Any]) -> f.Fact:
    tag, *values = raw
    if tag in _WITH_LINES:
        values[-1] = tuple(f.LedgerLine(*line) for line in values[-1])
    return _KINDS[tag](*values)


_CIRCUIT = tuple(field.name for field in fields(Circuit))
_INTAKE = tuple(field.name for field in fields(Intake))


def encode_request(request: Request) -> bytes:
    """Write a request: what never changes, then its decisions."""
    intake = [getattr(request.intake, name) for name in _INTAKE]
    decisions = [
        [d.topic, d.offset, d.time_ms, d.now_ms, [_encode_fact(fact) for fact in d.facts]] for d in request.decisions
    ]
    return orjson.dumps([intake, decisions])


def decode_request(value: bytes) -> Request:
    """Read a request by folding its decisions."""
    intake, decisions = orjson.loads(value)
    intake[-1] = tuple(intake[-1])
    request = Request(Intake(*intake))
    for topic, offset, time_ms, now_ms, raw in decisions:
        request = after(request, f.Decision(topic, offset, time_ms, now_ms, tuple(_decode_fact(r) for r in raw)))
    return request
