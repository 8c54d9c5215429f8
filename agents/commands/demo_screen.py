"""How a demo looks: a live table where there is a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agents.commands.demo_board import Board, Row
from agents.commands.demo_prompts import BUDGETS
from agents.commands.following import on_one_line
from agents.commands.watch import dollars

_COLOURS = {
    "sent": "dim",
    "running": "yellow",
    "answered": "green",
    "refused": "red",
    "failed": "red",
    "dead letter": "magenta",
}


class Screen:
    """Where a demo talks to people. On standard error when standard output belongs to a program."""

    def __init__(self, *, on_standard_error: bool) -> None:
        """Look at the terminal, if there is one."""
        self._console = Console(stderr=on_standard_error, highlight=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH

    def say(self, line: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(Text(line, style=style), soft_wrap=True)

    @contextmanager
    def following(self, board: Board) -> Iterator[None]:
        """Show the board while it changes."""
        if not self._console.is_terminal:
            yield
            return

        def table() -> Table:
            return requests(board, self._console.width)

        with Live(console=self._console, get_renderable=table, refresh_per_second=8, transient=True):
            yield
        self._console.print(table())

    def ended(self, row: Row) -> None:
        """Tell one outcome where there is no live table."""
        if not self._console.is_terminal:
            cells = zip(_cells(row), _WIDTHS, strict=True)
            self.say("  ".join(f"{on_one_line(cell, width):<{width}}" for cell, width in cells).rstrip())

    def end(self, board: Board) -> None:
        """Print the bill, what was not answered, and why."""
        self._console.print()
        self._console.print(bill(board))
        self._console.print()
        self.say("Not answered, and why", "bold")
        for row, why, message in board.refusals():
            self.say(f"  {row.tenant:<8} {row.request_id:<11} {why}: {on_one_line(message, 160)}")


_WIDTH = 120
_WIDTHS = (8, 11, 11, 21, 8, 9, 40)
_NAMES = ("tenant", "request", "state", "model", "latency", "cost", "prompt, then answer")
_LEAST_TEXT = 12


def _cells(row: Row) -> tuple[str, ...]:
    latency = "" if row.latency_s is None else f"{row.latency_s:.2f} s"
    state = f"running ({row.attempt})" if row.state == "running" and row.attempt > 1 else row.state
    text = row.text if row.outcome is None or row.state != "answered" else str(row.outcome["text"])
    cost = dollars(row.cost_nano_usd) if row.state in ("answered", "failed") else ""
    return (row.tenant, row.request_id, state, row.model, latency, cost, on_one_line(text, 200))


def requests(board: Board, width: int = _WIDTH) -> Table:
    """Return the table of requests; the text has what is left of `width`, or is left out."""
    table = Table(title=f"{board.ended} of {len(board.rows)} requests have ended", box=None, title_justify="left")
    rows = [_cells(row) for row in board.rows]
    taken = sum(2 + max(len(name), *(len(cells[n]) for cells in rows)) for n, name in enumerate(_NAMES[:-1]))
    shown = len(_NAMES) if width - taken >= _LEAST_TEXT else len(_NAMES) - 1
    for name in _NAMES[:shown]:
        table.add_column(name, no_wrap=True, justify="right" if name in ("latency", "cost") else "left")
    for row, cells in zip(board.rows, rows, strict=True):
        texts = [Text(cell) for cell in cells[:shown]]
        texts[2].stylize(_COLOURS[row.state])
        if shown == len(_NAMES):
            texts[-1].truncate(width - taken - 1, overflow="ellipsis")
        table.add_row(*texts)
    return table


def bill(board: Board) -> Table:
    """Return the bill per tenant."""
    shares = board.bill()
    table = Table(
        title="The bill, from the cost events", title_justify="left", title_style="bold", box=SIMPLE, show_footer=True
    )
    total = sum(share.cost_nano_usd for share in shares.values())
    table.add_column("tenant", footer="all", no_wrap=True)
    for name in ("answered", "refused", "failed", "in", "out"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cost", justify="right", footer=dollars(total), no_wrap=True)
    table.add_column("budget")
    for tenant, share in shares.items():
        counts = (share.answered, share.refused, share.failed, share.input_tokens, share.output_tokens)
        table.add_row(tenant, *map(str, counts), dollars(share.cost_nano_usd), BUDGETS.get(tenant, ""))
    return table
