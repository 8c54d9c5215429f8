"""Commands end with the exit code of the contract, and say each mistake in one line on standard error."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.broker.kafka import free_port

ORCHESTRATOR = [sys.executable, "-c", "import sys; from agents.cli import main; sys.exit(main())"]
SEED = """
orchestrator: {host: localhost, port: 8000, workers: 4, timeout: 30, max_retries: 3}
models:
  - {name: gpt-4, endpoint: "https://api.openai.com/v1", max_tokens: 8192, cost_per_token: 0.00003}
cache: {enabled: true, ttl: 3600, max_size: 1000, strategy: lru}
tenants:
  - {name: acme, budgets: [{usd: "10", window: day}], models: [gpt-4]}
"""


def run(
    directory: Path, *arguments: str | bytes, environ: dict[str, str] | None = None, **given: Any
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [*ORCHESTRATOR, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=inherited | {"OPENAI_API_KEY": ""} | (environ or {}),
        **given,
    )


def wrong(directory: Path, *arguments: str | bytes, **given: Any) -> list[str]:
    """Run a command that has to end with 2 and without a word on standard output; return its mistakes."""
    ended = run(directory, *arguments, **given)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    return ended.stderr.splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a configuration that is right, and no broker."""
    (tmp_path / "orchestrator.yaml").write_text(SEED)
    return tmp_path


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ([], "Missing command"),
        (["frob"], "No such command 'frob'"),
        (["worker", "--idd", "x"], "No such option: --idd (Possible options: --id)"),
        (["topics"], "Missing command"),
        (["topics", "apply", "now"], "Got unexpected extra argument(s) (now)"),
        (["config", "check", "-c"], "Option '-c' requires an argument"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str], mistake: str, tmp_path: Path) -> None:
    assert wrong(tmp_path, *arguments) == [f"orchestrator: {mistake}; orchestrator --help tells more"]


@pytest.mark.parametrize("command", ["worker", "topics apply", "topics check", "submit", "config check"])
def test_help_shows_an_example(command: str, tmp_path: Path) -> None:
    ended = run(tmp_path, *command.split(), "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"orchestrator {command}" in ended.stdout.partition("Example: ")[2]


def test_help_does_not_load_what_only_commands_need() -> None:
    heavy = "{'faust', 'aiokafka', 'genai_prices', 'pydantic', 'aiohttp', 'rich'}"
    program = f"import sys; from agents.cli import main; main(['--help']); print(sorted({heavy} & {{*sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_version_is_that_of_the_project(tmp_path: Path) -> None:
    assert run(tmp_path, "version").stdout == "0.1.0\n"


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["config check", "topics apply", "topics check", "worker", "submit hello", "submit --wait hello"]
)
def test_every_command_refuses_a_missing_file(command: str, tmp_path: Path) -> None:
    assert wrong(tmp_path, *command.split(), "-c", "none.yaml") == [
        "none.yaml: cannot be read: No such file or directory"
    ]


def test_what_is_no_file_or_no_text_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kafka: {group: caf\xe9}")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    check = ["config", "check", "-c"]
    assert wrong(tmp_path, *check, ".") == [".: cannot be read: Is a directory"]
    assert wrong(tmp_path, *check, "latin.yaml") == ["latin.yaml: is not UTF-8: invalid continuation byte at byte 18"]
    assert wrong(tmp_path, *check, "huge.yaml") == ["huge.yaml: is larger than 1048576 bytes"]
    assert wrong(tmp_path, *check, "a\nb\x1b.yaml") == [r"a\nb\x1b.yaml: cannot be read: No such file or directory"]
    assert wrong(tmp_path, *check, b"\xff.yaml") == [r"\xff.yaml: cannot be read: No such file or directory"]


def test_each_mistake_of_a_configuration_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.yaml").write_text("kafka: {partitions: none}\nmodles: []\n")
    assert wrong(tmp_path, "config", "check", environ={"ORCHESTRATOR_ORCHESTRATOR__WORKERS": "0"}) == [
        'orchestrator.yaml: kafka.partitions (line 1): "none": must be an integer from 1 to 100000',
        "orchestrator.yaml: modles (line 2): unknown key; the nearest known one is models",
        "orchestrator.yaml: ORCHESTRATOR_ORCHESTRATOR__WORKERS (orchestrator.workers): 0:"
        " must be an integer from 1 to 1024",
    ]


def test_a_valid_configuration_is_summed_up_and_warned_about(place: Path) -> None:
    ended = run(
        place, "config", "check", environ={"ORCHESTRATOR_KAFKA__PARTITIONS": "24", "OPENAI_API_KEY": "sk-canary"}
    )
    assert ended.returncode == 0
    assert ended.stderr == "orchestrator.yaml: warning: cache has no effect yet\n"
    valid, version, *rest = ended.stdout.splitlines()
    assert valid == "orchestrator.yaml: valid"
    assert version.startswith("version: ")
    assert rest == [
        "kafka: localhost:9092, no login, 24 partitions, 1 copy",
        "group: orchestrator",
        "service: 4 workers, timeout 30 s, 3 retries",
        "model gpt-4: openai at https://api.openai.com/v1, 0.00003 USD per token, key in OPENAI_API_KEY (set)",
        "tenant acme: 10 USD per day, no rate limit, models gpt-4",
        "other tenants: allowed, no budget, no rate limit",
    ]


def test_a_terminal_gets_a_table(place: Path) -> None:
    ours, theirs = pty.openpty()
    ended = subprocess.run(
        [*ORCHESTRATOR, "config", "check"], cwd=place, stdout=theirs, stderr=subprocess.PIPE, check=False
    )
    os.close(theirs)
    seen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert ended.returncode == 0
    assert "orchestrator.yaml is valid" in seen
    assert "│" in seen


def test_the_schema_is_json(tmp_path: Path) -> None:
    schema = json.loads(run(tmp_path, "config", "schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "kafka" in schema["properties"]


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    command = [*ORCHESTRATOR, "config", "schema"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("security", "mistake"),
    [
        (
            "{protocol: SASL_PLAINTEXT, sasl_mechanism: PLAIN, username: u, password_env: KAFKA_PASSWORD}",
            "kafka.security.password_env: the environment variable KAFKA_PASSWORD is not set",
        ),
        ("{protocol: SSL, ca_file: none.pem}", "kafka.security.ca_file: cannot be used: No such file or directory"),
        (
            "{protocol: SSL, ca_file: orchestrator.yaml}",
            "kafka.security.ca_file: cannot be used: no PEM certificate in it",
        ),
    ],
)
@pytest.mark.parametrize("command", ["topics check", "submit hello"])
def test_what_a_login_lacks_is_a_mistake(security: str, mistake: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "orchestrator.yaml").write_text(f"kafka: {{security: {security}}}\n")
    assert wrong(tmp_path, *command.split()) == [f"orchestrator.yaml: {mistake}"]


# --- without a broker -------------------------------------------------------------------------------------------------


def test_without_a_cluster_a_command_gives_up_with_75_and_names_the_address(place: Path) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    environ = {"ORCHESTRATOR_KAFKA__BOOTSTRAP_SERVERS": bootstrap}
    commands = ["topics check", "topics apply", "submit hello", "submit --wait hello"]
    with ThreadPoolExecutor() as threads:  # each takes 20 s, nearly all of it waiting
        ends = list(threads.map(lambda command: run(place, *command.split(), environ=environ), commands))
    assert [(ended.returncode, ended.stdout) for ended in ends] == [(75, "")] * 4
    assert {ended.stderr for ended in ends} == {f"no Kafka cluster answers at {bootstrap}, tried for 20 s\n"}


def test_a_worker_without_a_cluster_ends_with_75_and_says_only_log_lines(place: Path) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    ended = run(place, "worker", environ={"ORCHESTRATOR_KAFKA__BOOTSTRAP_SERVERS": bootstrap})
    assert (ended.returncode, ended.stdout) == (75, "")
    first, *_, last = map(json.loads, ended.stderr.splitlines())
    assert (first["level"], first["message"]) == ("WARNING", "cache has no effect yet")
    assert first["details"] == {"file": "orchestrator.yaml"}
    assert last["level"] == "ERROR"
    assert bootstrap in last["message"]


def test_ctrl_c_ends_with_130_and_says_nothing(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        bootstrap = f"127.0.0.1:{silent.getsockname()[1]}"
        environ = os.environ | {"ORCHESTRATOR_KAFKA__BOOTSTRAP_SERVERS": bootstrap}
        command = [*ORCHESTRATOR, "submit", "--wait", "hello"]
        with subprocess.Popen(
            command, cwd=place, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            silent.accept()[0].close()
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 130


# --- what is submitted ----------------------------------------------------------------------------------------------


def test_nothing_to_submit_is_a_mistake(place: Path) -> None:
    (place / "empty.jsonl").write_text("\n \n")
    nothing = ["nothing to submit: give a TEXT, or --file with a prompt in it"]
    assert wrong(place, "submit") == nothing
    assert wrong(place, "submit", "--file", "empty.jsonl") == nothing
    assert wrong(place, "submit", "--file", "-", input="") == nothing
    assert wrong(place, "submit", "--file", "no.jsonl") == ["no.jsonl: cannot be read: No such file or directory"]


def test_each_wrong_prompt_is_named_by_line_and_field_before_anything_is_published(place: Path) -> None:
    lines = ['{"prompt": "x", "max_tokens": "5"}']
    lines += ["hello", '"right"', "", "[1]", '{"frob": 1}', '"\\ud800"', '"open']
    (place / "p.jsonl").write_text("\n".join(lines))
    told = wrong(place, "submit", "--file", "p.jsonl", "--tenant", "acme", b"caf\xe9")
    assert [line.split(": must")[0] for line in told][:2] == ["TEXT 1: is not UTF-8", "p.jsonl: line 1: max_tokens"]
    assert told[2].startswith("p.jsonl: line 2: must be a JSON object or a JSON string: The value is not RFC 8259 JSON")
    assert told[3] == "p.jsonl: line 5: must be a JSON object or a JSON string: The value is JSON but no object"
    assert told[4].startswith("p.jsonl: line 6: frob: is not known")
    assert told[5] == "p.jsonl: line 6: messages: is required, or `prompt`"
    assert told[6:] == [
        "p.jsonl: line 7: must be a JSON object or a JSON string: not a JSON string",
        "p.jsonl: line 8: must be a JSON object or a JSON string: not a JSON string",
    ]


def test_of_many_mistakes_the_first_are_told(place: Path) -> None:
    told = wrong(place, "submit", "--file", "-", input="{}\n" * 100)
    assert len(told) == 21
    assert told[0] == "standard input: line 1: messages: is required, or `prompt`"
    assert told[-1] == "80 more mistakes"


def test_a_wrong_tenant_option_is_a_mistake(place: Path) -> None:
    assert wrong(place, "submit", "--tenant", "a b", "hello") == [
        "TEXT 1: tenant: must be a string of 1 to 128 printable ASCII characters without spaces"
    ]
