"""The command line `orchestrator` (CONTRACT §4): its grammar, and how every command ends.

Exit codes: 0; 1 a check failed, or starting again will not help; 2 bad usage or configuration, one line per mistake on
standard error; 75 try again; 130 interrupted. What a command needs is imported when it runs: `--help` answers at once.
"""
# ruff: noqa: PLC0415 - see above

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from agents.commands.exits import FAILED, INTERRUPTED, WRONG, CommandError

PROGRAM = "orchestrator"
Result = TypeVar("Result")

app = typer.Typer(
    name=PROGRAM,
    help="An event-sourced orchestrator for LLM prompts, on Kafka and Faust.",
    epilog="A first look: orchestrator demo. A first run: orchestrator config check, topics apply, up; then submit.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="Create the topics, or compare them with what they have to be.")
config_app = typer.Typer(help="Check the configuration file, or print its JSON Schema.")
deadletters_app = typer.Typer(help="Look at records that could not be processed, and publish them again.")
app.add_typer(topics_app, name="topics")
app.add_typer(deadletters_app, name="deadletters")
app.add_typer(config_app, name="config")
budgets_app = typer.Typer(help="Let a tenant go on whose budget an overrun has stopped.")
app.add_typer(budgets_app, name="budgets")


class Level(StrEnum):
    """From which level on log lines are written."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


ConfigurationFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.")]
DEFAULT_FILE = Path("orchestrator.yaml")
_WIDEST = 400
"""Columns that a table may take where no terminal folds it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are those of the process unless given."""
    try:
        result = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except CommandError as error:
        _tell_mistakes(error.lines)
        return error.code
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_standard_output()
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends as a line and a code
        return _refused(error)
    return result if isinstance(result, int) else 0


@app.callback()
def common(
    context: typer.Context,
    log_level: Annotated[
        Level, typer.Option(case_sensitive=False, help="Log lines of this level and above, on standard error.")
    ] = Level.INFO,
) -> None:
    """Ask models through Kafka: every prompt is an event, and so is every answer, error and cost."""
    from streams.runtime import logs

    # Commands for people tell themselves what went wrong; their libraries need not tell it first.
    tells_itself = context.invoked_subcommand != "worker" and log_level is not Level.DEBUG
    logs.configure(log_level, quiet="CRITICAL" if tells_itself else "WARNING")


@app.command()
def demo(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="Use this file's cluster and models. Default: embedded ones."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C, for submit and watch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with a summary as one JSON object.")] = False,
) -> int:
    """Answer two dozen prompts of three tenants with a real model, and print the bill.

    Without a file nothing is needed: an embedded broker (memory only), a small local model and two workers run on
    this machine, and end with the command.

    Example: orchestrator demo

    Example: orchestrator demo -c orchestrator.yaml --keep
    """
    from agents.commands.demo import Wishes
    from agents.commands.demo import demo as show

    return _run(config or DEFAULT_FILE, show(Wishes(config, keep, _print_line if as_json else None), os.environ))


@app.command()
def worker(
    config: ConfigurationFile = DEFAULT_FILE,
    worker_id: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="The worker's name. Default: the first free slot.")
    ] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", hidden=True, help="Stop once standard input ends.")
    ] = False,
) -> int:
    """Run one worker process until SIGTERM.

    Exit 75: start it again. Exit 1: starting again will not help. Exit 2: the id is in use, or a mistake.

    Example: orchestrator worker -c orchestrator.yaml --id w1
    """
    from agents.commands.loading import load, shown

    if supervised:
        from streams.runtime import children

        children.end_with_parent()
    configuration = load(config, os.environ)
    import structlog

    for warning in configuration.warnings:
        structlog.get_logger().warning(warning, file=shown(config))
    from agents.worker import run

    with _mistakes_of(config):
        return run(configuration, os.environ, worker_id)


@app.command()
def up(config: ConfigurationFile = DEFAULT_FILE) -> int:
    """Run `orchestrator.workers` worker processes and start those again that end, with growing pauses.

    One log on standard error: the workers' lines, and why each ended. SIGTERM or Ctrl-C stops all within 10 seconds.

    Example: orchestrator up -c orchestrator.yaml
    """
    from agents.commands.loading import load
    from agents.commands.up import supervise

    return asyncio.run(supervise(config, load(config, os.environ).orchestrator.workers))


@topics_app.command("apply")
def topics_apply(config: ConfigurationFile = DEFAULT_FILE) -> None:
    """Create missing topics and mend settings; may be repeated.

    Refuses where partitions or replicas differ (exit 1): stop the workers and decide.

    Example: orchestrator topics apply -c orchestrator.yaml
    """
    from agents.commands import topics
    from agents.commands.loading import load

    done = _run(config, topics.apply(load(config, os.environ), os.environ))
    _print_lines(done or ["all topics are as they have to be"])


@topics_app.command("check")
def topics_check(config: ConfigurationFile = DEFAULT_FILE) -> int:
    """Compare every topic with its definition; print what differs (exit 1) and change nothing.

    Example: orchestrator topics check -c orchestrator.yaml
    """
    from agents.commands import topics
    from agents.commands.loading import load

    differences = _run(config, topics.check(load(config, os.environ), os.environ))
    _print_lines(differences or ["all topics are as they have to be"])
    return FAILED if differences else 0


@app.command()
def submit(  # noqa: PLR0917 - typer calls by name
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Each is one prompt.")] = None,
    config: ConfigurationFile = DEFAULT_FILE,
    file: Annotated[
        Path | None,
        typer.Option(metavar="F.jsonl", help="One JSON string or request object per line; - is standard input."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="For requests that name no tenant.")] = None,
    model: Annotated[str | None, typer.Option(help="For requests that name no model.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Print each outcome as a line of JSON; exit 1 if any failed.")
    ] = False,
) -> None:
    """Publish prompts, print their request ids, or wait for what becomes of them.

    Everything is checked first: one mistake and nothing is published (exit 2). To submit the same file again repeats
    its requests and pays for none twice.

    Example: orchestrator submit --tenant acme --wait "Say hello." "Say goodbye."

    Example: orchestrator submit --file prompts.jsonl --model gpt-4
    """
    from uuid import uuid4

    from agents.commands import prompts
    from agents.commands.loading import load
    from schemas.requests import Limits

    configuration = load(config, os.environ)
    limits = Limits(configuration.limits.max_request_bytes, configuration.limits.max_timeout_s)
    filling = prompts.Filling(tenant, model)
    understood = prompts.understood(text or (), _lines_of(file), filling, limits, lambda: uuid4().hex)
    from agents.commands import submit as submitting

    with _progress(wait) as advance:
        errand = submitting.Errand(configuration, os.environ, understood, _print_line, advance)
        _run(config, submitting.publish_and_wait(errand) if wait else submitting.publish(errand))


@app.command()
def watch(
    config: ConfigurationFile = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="One event per line, as it is in its topic.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Show this tenant only.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the oldest events that are kept. Default: from now on.")
    ] = False,
) -> None:
    """Follow answers, errors, dead letters and costs until Ctrl-C; each event once, with totals.

    Example: orchestrator watch -c orchestrator.yaml --tenant acme

    Example: orchestrator watch --json --from-beginning | jq .cost_usd
    """
    from agents.commands import watch as watching
    from agents.commands.loading import load

    work = watching.watch(
        load(config, os.environ),
        os.environ,
        tenant=tenant,
        from_beginning=from_beginning,
        for_people=None if as_json else _print_watched(),
        for_programs=_print_line,
    )
    _run(config, work)


@app.command()
def verify(
    config: ConfigurationFile = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> int:
    """Recompute every account from the topics; compare with tables, ledger and cost events (exit 1 if they differ).

    Works with workers running or stopped, and changes nothing.

    Example: orchestrator verify -c orchestrator.yaml
    """
    from agents.commands import verify as verifying
    from agents.commands.loading import load

    with _reading_progress() as advance:
        findings = _run(config, verifying.verify(load(config, os.environ), os.environ, advance))
    if as_json:
        _print_line(findings.to_json())
        return FAILED if findings.differences else 0
    _print_columns(verifying.COLUMNS, verifying.table(findings.lines))
    _print_lines(findings.notes())
    if not findings.differences:
        _print_lines(["all accounts are right"])
        return 0
    _print_lines([f"{len(findings.differences):,} differences; the first: {findings.differences[0]}"])
    _print_lines(f"  {difference}" for difference in findings.differences[1:])
    return FAILED


@app.command()
def bill(  # noqa: PLR0917 - typer calls by name
    config: ConfigurationFile = DEFAULT_FILE,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="What was booked, or corrected, in this month (UTC).")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="model|day|metadata.KEY", help="A row for each.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Print what was booked, exact, from the topic of cost events.

    Uncertain amounts (calls that a crash or a broken connection hid) are part of the cost, and shown apart.

    Example: orchestrator bill --month 2026-11 --by model
    """
    from agents.commands import bill as billing
    from agents.commands.loading import load

    if as_csv and as_json:
        raise CommandError(WRONG, ["--csv and --json: choose one"])
    selection = billing.selection(tenant, month, by)
    with _reading_progress() as advance:
        statement = _run(config, billing.bill(load(config, os.environ), os.environ, selection, advance))
    if statement.aged:
        _tell_mistakes(["warning: the oldest cost events are not kept any more; the bill starts after them"])
    if as_json:
        _print_line(statement.to_json())
    elif as_csv:
        _print_lines([statement.to_csv()])
    else:
        _print_columns(*statement.table())


@budgets_app.command("lift")
def budgets_lift(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whom a provider's overrun has stopped.")],
    config: ConfigurationFile = DEFAULT_FILE,
) -> None:
    """Let a tenant go on although a provider has billed more than a hold; what is booked stays booked.

    Its ledger tells it as budget.set with the limit unchanged. To lift again changes nothing.

    Example: orchestrator budgets lift acme -c orchestrator.yaml
    """
    from agents.commands import budgets
    from agents.commands.loading import load

    _print_lines([_run(config, budgets.lift(load(config, os.environ), os.environ, tenant))])


@app.command()
def prices(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A model or deployment. Default: all.")] = None,
    config: ConfigurationFile = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """Print which price a call would have today (UTC) on each deployment, and why. USD per million tokens.

    Example: orchestrator prices gpt-4
    """
    from datetime import UTC, datetime

    from agents.commands import prices as pricing
    from agents.commands.loading import load

    now = datetime.now(UTC)
    found = pricing.prices(load(config, os.environ), model, int(now.timestamp() * 1000), now.date())
    if as_json:
        _print_line(pricing.to_json(found))
    else:
        _print_columns(pricing.COLUMNS, pricing.table(found))


@app.command()
def explain(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A request id.")],
    config: ConfigurationFile = DEFAULT_FILE,
    tenant: Annotated[str | None, typer.Option(help="Whose request. Default: whoever has one with this id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    content: Annotated[bool, typer.Option("--content", help="Show prompt and answer as well.")] = False,
) -> None:
    """Tell the whole life of one request, from the topics: records, holds, attempts, costs, outcome, dead letters.

    Exit 1 where no record that is still kept tells of it.

    Example: orchestrator explain r-1 --tenant acme
    """
    from agents.commands import explain as explaining
    from agents.commands.loading import load

    with _reading_progress() as advance:
        work = explaining.explain(load(config, os.environ), os.environ, request, tenant, advance)
        explained = _run(config, work)
    if as_json:
        _print_line(explained.to_json(content=content))
        return
    _print_columns(*explained.table())
    _print_lines([explained.summary(), *(explained.contents() if content else ())])


@app.command()
def models(
    config: ConfigurationFile = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Again whenever something changes, until Ctrl-C.")] = False,
) -> None:
    """Show how every deployment does: status, circuit, what it answered and how it failed, and its price.

    Example: orchestrator models --live
    """
    from agents.commands import models as showing
    from agents.commands.loading import load

    configuration = load(config, os.environ)
    if not live:
        with _reading_progress() as advance:
            states = _run(config, showing.models(configuration, os.environ, advance))
        if as_json:
            _print_line(showing.to_json(states))
        else:
            _print_columns(showing.COLUMNS, showing.table(states))
        return

    async def follow() -> None:
        with _redrawn() as draw:
            async for states in showing.live(configuration, os.environ):
                if as_json:
                    _print_line(showing.to_json(states))
                else:
                    draw(showing.COLUMNS, showing.table(states))

    _run(config, follow())


TopicOption = Annotated[str | None, typer.Option("--topic", help="Records of this topic only.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="For this reason only, such as not_json.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Since then: 2h, 2026-11-23 or 2026-11-23T02:00:00Z.")
]


@deadletters_app.command("list")
def deadletters_list(  # noqa: PLR0917 - typer calls by name
    config: ConfigurationFile = DEFAULT_FILE,
    topic: TopicOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="The newest so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List dead letters by time, without what is in them.

    Example: orchestrator deadletters list --reason not_json --since 2h
    """
    from agents.commands import deadletters
    from agents.commands.loading import load

    selected = deadletters.selection(topic, reason, since, limit)
    with _reading_progress() as advance:
        letters = _run(config, deadletters.listed(load(config, os.environ), os.environ, selected, advance))
    if as_json:
        _print_line(deadletters.to_json(letters))
    else:
        _print_columns(deadletters.COLUMNS, deadletters.table(letters))


@deadletters_app.command("show")
def deadletters_show(
    where: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="Of the record or its dead letter.")],
    config: ConfigurationFile = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Show one dead letter and the whole record, which is read back from its coordinates if it is still there.

    Example: orchestrator deadletters show prompt.requests/3/17
    """
    from agents.commands import deadletters
    from agents.commands.loading import load

    with _reading_progress() as advance:
        shown = _run(config, deadletters.show(load(config, os.environ), os.environ, where, advance))
    if as_json:
        _print_line(shown.to_json())
    else:
        _print_lines(f"{name}: {value}" for name, value in shown.rows())


@deadletters_app.command("redrive")
def deadletters_redrive(  # noqa: PLR0917 - typer calls by name
    config: ConfigurationFile = DEFAULT_FILE,
    topic: TopicOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="The oldest so many that can be redriven.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="N/s", help="At most so many per second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven before.")] = False,
    kept_copies: Annotated[
        bool,
        typer.Option("--kept-copies", help="Where the record is gone, take the dead letter's copy if it is whole."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
) -> int:
    """Publish the records of dead letters again, oldest first, each where it came from; tell what became of each.

    A request keeps the id that was derived from its first coordinates. Exit 1 if any had to be refused: the record is
    gone, and the dead letter holds only its beginning.

    Example: orchestrator deadletters redrive --reason internal_error --dry-run

    Example: orchestrator deadletters redrive --reason internal_error --rate 10/s --yes
    """
    from agents.commands import deadletters, redrive
    from agents.commands.loading import load

    selected = deadletters.selection(topic, reason, since, limit)
    errand = redrive.Errand(selected, dry_run, redrive.rate(rate), kept_copies, again)

    def confirm(ready: int, others: int) -> bool:
        apart = f" ({others} are refused or skipped)" if others else ""
        return yes or _agreed(f"Publish {ready} records again{apart}?")

    def tell(done: redrive.Redriven) -> None:
        _print_line(done.to_json() if as_json else done.line().encode("utf-8", "backslashreplace"))

    configuration = load(config, os.environ)
    with _reading_progress() as advance:
        work = redrive.redrive(configuration, os.environ, errand, confirm=confirm, tell=tell, advance=advance)
        refused = _run(config, work)
    return FAILED if refused else 0


@config_app.command("check")
def config_check(config: ConfigurationFile = DEFAULT_FILE) -> None:
    """Check the file and the settings of the environment; print what counts.

    Example: ORCHESTRATOR_KAFKA__PARTITIONS=24 orchestrator config check -c orchestrator.yaml
    """
    from agents.commands import summary
    from agents.commands.loading import load, shown

    configuration = load(config, os.environ)
    _warn(config, configuration.warnings)
    rows = summary.rows(configuration, os.environ)
    if sys.stdout.isatty():
        _print_table(f"{shown(config)} is valid", rows)
    else:
        _print_lines([f"{shown(config)}: valid", *(f"{what}: {details}" for what, details in rows)])


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    Example: orchestrator config schema > orchestrator.schema.json
    """
    import json

    from schemas.configuration import json_schema

    _print_lines([json.dumps(json_schema(), indent=2)])


@app.command()
def version() -> None:
    """Print the version.

    Example: orchestrator version
    """
    from importlib.metadata import version as version_of

    _print_lines([version_of("prompt-orchestrator")])


# --- how commands run, and talk -------------------------------------------------------------------------------------


def _run(config: Path, work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command that talks to Kafka."""
    with _mistakes_of(config):
        return asyncio.run(work)


@contextmanager
def _mistakes_of(config: Path) -> Iterator[None]:
    """Tell what turns out to be wrong when it is used (a password's variable, a certificate) as what `load` finds."""
    from agents.commands.loading import wrong
    from schemas.configuration import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        raise wrong(config, error) from error


def _lines_of(file: Path | None) -> tuple[str, bytes] | None:
    from agents.commands.loading import shown

    if file is None:
        return None
    if str(file) == "-":
        return "standard input", sys.stdin.buffer.read()
    try:
        return shown(file), file.read_bytes()
    except (OSError, ValueError) as error:
        raise CommandError(
            WRONG, [f"{shown(file)}: cannot be read: {getattr(error, 'strerror', None) or error}"]
        ) from error


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how many of how many have ended: a bar where somebody looks, else nothing."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda _ended, _all: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("waiting", total=None)
        yield lambda ended, expected: progress.update(bar, completed=ended, total=expected)


@contextmanager
def _reading_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows how far which topic is read: bars where somebody looks, else a line for each topic."""
    if not sys.stderr.isatty():

        def tell(topic: str, read: int, count: int) -> None:
            if read == count:
                _tell_mistakes([f"{topic}: {read:,} records read"])

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def advance(topic: str, read: int, count: int) -> None:
            if topic not in bars:
                bars[topic] = progress.add_task(topic, total=count)
            progress.update(bars[topic], completed=read, total=count)

        yield advance


def _agreed(question: str) -> bool:
    """Ask on standard error, so that standard output holds results alone; whoever does not answer does not agree."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise CommandError(WRONG, ["", "nobody answers: --yes publishes without asking"])
    return answer.strip().lower() in {"y", "yes"}


def _print_columns(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that a terminal folds; a file or a pipe gets whole lines."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=_WIDEST)
    console.print(_table_of(columns, rows))


def _table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


@contextmanager
def _redrawn() -> Iterator[Callable[[Sequence[str], Iterable[Sequence[str]]], None]]:
    """Give a function that draws a table in the place of the one before; not in a terminal: one below the other."""
    if not sys.stdout.isatty():
        yield _print_columns
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda columns, rows: live.update(_table_of(columns, rows), refresh=True)


def _print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False)
    for what, details in rows:
        table.add_row(Text(what), Text(details))
    Console().print(table)


def _print_watched() -> Callable[[Any], None]:
    """Give a function that prints one coloured line, cut at the edge of a terminal."""
    from rich.console import Console
    from rich.text import Text

    colours = {"answered": "green", "failed": "red", "dead letter": "magenta", "cost": "dim"}
    console = Console(highlight=False)
    cut = console.is_terminal
    return lambda line: console.print(
        Text(line.text, style=colours[line.state]), no_wrap=cut, overflow="ellipsis" if cut else None, soft_wrap=not cut
    )


def _print_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        _print_line(line.encode("utf-8", "backslashreplace"))


def _warn(config: Path, warnings: Iterable[str]) -> None:
    from agents.commands.loading import shown

    _tell_mistakes(f"{shown(config)}: warning: {warning}" for warning in warnings)


def _tell_mistakes(lines: Iterable[str]) -> None:
    for line in lines:
        text = line if line.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stderr.flush()


def _refused(error: Exception) -> int:
    """Tell a mistake in the arguments as one line (2); an exception that nobody expected as a log line (1)."""
    if isinstance(error, typer.TyperException):
        message = " ".join(error.format_message().split()).rstrip(".")
        _tell_mistakes([f"{PROGRAM}: {message}; {PROGRAM} --help tells more"])
        return WRONG
    import structlog

    structlog.get_logger().error("the command has failed", exc_info=error)
    return FAILED


def _forget_standard_output() -> None:
    """Keep the interpreter from writing to a closed pipe again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
