"""What the tables say about money, what they have decided and not yet published, and how both compare with the fold."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from streams.core import rows
from streams.core.account import Account, Window, window_id
from streams.core.cost_join import CostJoin
from streams.core.ledger_fold import Balance, Difference, LedgerFold
from streams.core.publish import outputs_of
from streams.core.request import Request


@dataclass(slots=True)
class Tables:
    """The accounts and home rows of all partitions, folded from the changelog. Memory: one account per row."""

    accounts: dict[tuple[int, str], Account] = field(default_factory=dict)
    homes: dict[int, rows.Home] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def add(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take one changelog record; rows of requests are left aside."""
        if key != rows.HOME_KEY and not key.startswith(rows.ACCOUNT_PREFIX):
            return
        try:
            if key == rows.HOME_KEY:
                self.homes[partition] = rows.Home() if value is None else rows.decode_home(value)
            else:
                self._set_account(partition, key, value)
        except (TypeError, ValueError) as error:
            where = f"row {key!r} of partition {partition}"
            self.differences.append(Difference("account", where, f"cannot be read: {error}"))

    def _set_account(self, partition: int, key: bytes, value: bytes | None) -> None:
        tenant = key[len(rows.ACCOUNT_PREFIX) + 1 :].decode("ascii")
        if value is None:
            self.accounts.pop((partition, tenant), None)
            return
        account = rows.decode_account(value)
        if account.tenant != tenant:
            raise ValueError(f"it is the account of {account.tenant}")
        self.accounts[partition, tenant] = account

    def target(self, partition: int) -> int:
        """Return the last ledger entry that the rows of a partition contain."""
        home = self.homes.get(partition)
        return 0 if home is None else home.seq


@dataclass(frozen=True, slots=True)
class Decided:
    """An event that a row says was decided, and the record that it was decided on."""

    value: bytes
    topic: str
    offset: int


@dataclass(slots=True)
class Unpublished:
    """Finds, in the rows of requests, the events that the topics lack: a worker that died had no time for them.

    `after`: per partition the last ledger entry that was read. `requests`: (tenant, request id) of bookings that lack a
    cost event. What is found is kept per home partition; cost events found here lack what only their progress record
    tells, so they may only stand in for missing ones.
    """

    after: Mapping[int, int]
    requests: frozenset[tuple[str, str]]
    entries: dict[int, dict[int, Decided]] = field(default_factory=dict)
    costs: dict[int, dict[bytes, Decided]] = field(default_factory=dict)

    def add(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take one changelog record."""
        if value is None or not key.startswith((rows.OPEN_PREFIX, rows.DONE_PREFIX, rows.LIFT_PREFIX)):
            return
        request = rows.decode_request(value)
        intake = request.intake
        missing = {}
        if partition in self.after:
            missing = {seq: made for seq, made in _outputs(request, "ledger") if seq > self.after[partition]}
            self.entries.setdefault(partition, {}).update(missing)
        if missing or (intake.tenant, intake.request_id) in self.requests:
            for _, made in _outputs(request, "costs"):
                self.costs.setdefault(partition, {})[made.value] = made


def _outputs(request: Request, channel: str) -> Iterator[tuple[int, Decided]]:
    for decision in request.decisions:
        for output in outputs_of(request, decision, None):
            if output.channel == channel:
                yield output.seq, Decided(output.value, decision.topic, decision.offset)


@dataclass(frozen=True, slots=True)
class Line:
    """One tenant and window over all partitions, in nano-USD: by the ledger, by cost events, by account rows.

    `aged`: booked, and its cost events are older than their topic keeps. Row amounts are None where no row has the
    window any more.
    """

    tenant: str
    window: str
    spent: int
    reserved: int
    limit: int | None
    costs: int
    aged: int
    row_spent: int | None
    row_reserved: int | None
    ok: bool


def compare_accounts(
    tables: Tables, ledgers: Mapping[int, LedgerFold], budgets: Mapping[str, frozenset[str]]
) -> Iterator[Difference]:
    """Yield where account rows differ from the fold of the ledger up to the same sequence number.

    `budgets`: the kinds of window that a tenant has now. A window that is over is in no row once it has no hold.
    """
    for (partition, tenant), account in tables.accounts.items():
        ledger = ledgers.get(partition)
        for window in account.windows:
            balance = None if ledger is None else ledger.balances.get((tenant, window.id))
            yield from _compare_window(partition, tenant, window, balance)
    for partition, ledger in ledgers.items():
        for (tenant, name), balance in ledger.balances.items():
            account_or_none = tables.accounts.get((partition, tenant))
            where = f"account {tenant} of partition {partition}"
            if account_or_none is None:
                yield Difference("account", where, f"there is no row; the ledger has {name}", tenant, name)
            elif account_or_none.window(name) is None and (
                balance.reserved or _is_current(account_or_none, name, budgets.get(tenant, frozenset({"none"})))
            ):
                problem = f"its row lacks the window {name}: spent {balance.spent}, reserved {balance.reserved}"
                yield Difference("account", where, problem, tenant, name)


def _is_current(account: Account, name: str, kinds: frozenset[str]) -> bool:
    kind = name.partition(":")[0]
    return kind in kinds and window_id(kind, account.clock_ms) == name


def _compare_window(partition: int, tenant: str, window: Window, balance: Balance | None) -> Iterator[Difference]:
    folded = Balance(limit=window.limit) if balance is None else balance
    for what, row, fold in (
        ("spent", window.spent, folded.spent),
        ("reserved", window.reserved, folded.reserved),
        ("limit", window.limit, folded.limit),
    ):
        if row != fold:
            where = f"account {tenant} of partition {partition}, window {window.id}"
            yield Difference(
                "account", where, f"{what} is {row} in its row and {fold} in the ledger", tenant, window.id
            )


def report(
    tables: Tables, ledgers: Mapping[int, LedgerFold], joins: Iterable[CostJoin], differences: Iterable[Difference]
) -> list[Line]:
    """Return a line per tenant and window, in the order of their names."""
    joined = list(joins)
    costs, aged = _sums(join.spent for join in joined), _sums(join.aged for join in joined)
    told = list(differences)
    wrong = {(d.tenant, d.window) for d in told}
    balances: dict[tuple[str, str], list[Balance]] = {}
    for ledger in ledgers.values():
        for key, balance in ledger.balances.items():
            balances.setdefault(key, []).append(balance)
    rows_: dict[tuple[str, str], list[Window]] = {}
    for (_, tenant), account in tables.accounts.items():
        for window in account.windows:
            rows_.setdefault((tenant, window.id), []).append(window)
    lines = []
    for key in sorted(balances.keys() | rows_.keys()):
        held, kept = balances.get(key, []), rows_.get(key, [])
        spent = sum(b.spent for b in held)
        booked = costs.get(key, 0) + aged.get(key, 0)
        limits = [limit for limit in (*(b.limit for b in held), *(w.limit for w in kept)) if limit is not None]
        lines.append(
            Line(
                tenant=key[0],
                window=key[1],
                spent=spent,
                reserved=sum(b.reserved for b in held),
                limit=limits[0] if limits else None,
                costs=costs.get(key, 0),
                aged=aged.get(key, 0),
                row_spent=sum(w.spent for w in kept) if kept else None,
                row_reserved=sum(w.reserved for w in kept) if kept else None,
                ok=booked == spent and wrong.isdisjoint({key, (key[0], None), (None, None)}),
            )
        )
    return lines


def _sums(many: Iterable[Mapping[tuple[str, str], int]]) -> dict[tuple[str, str], int]:
    total: dict[tuple[str, str], int] = {}
    for sums in many:
        for key, amount in sums.items():
            total[key] = total.get(key, 0) + amount
    return total
