"""What the files of deploy/ promise, as far as it shows without an engine that runs them."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.configuration import parse
from streams.runtime.topics import Topics, definitions

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
MANIFEST: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
IMAGE = f"prompt-orchestrator:{PROJECT['version']}"
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "kafka"}
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for document in MANIFEST
    if "template" in document["spec"]
}


def entries(lock: Path) -> dict[str, str]:
    """Return the entry of each package of a lock file, with its hashes."""
    found = re.split(r"\n(?=\S)", lock.read_text().strip())
    return {entry.partition("==")[0]: entry for entry in found}


def instructions(name: str) -> list[str]:
    """Return the arguments of each such instruction of the Dockerfile, in order, lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


# --- the image


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (.*)$", last_stage, re.MULTILINE)
    assert user == "10001:10001"


def test_the_base_of_the_image_is_a_version_that_the_project_supports() -> None:
    (base,) = [argument.removeprefix("BASE=") for argument in instructions("ARG") if argument.startswith("BASE=")]
    assert re.fullmatch(r"python:3\.(1[1-9]|[2-9]\d)\.\d+-slim-\w+", base)
    assert {line.split()[0] for line in instructions("FROM")} == {"${BASE}"}


def test_everything_that_the_image_installs_is_pinned_by_hash() -> None:
    installs = [command for line in instructions("RUN") for command in line.split("&&") if "pip install" in command]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "-r deploy/requirements.lock" in installs[0]
    assert "--no-index --no-deps" in installs[1], "the project itself needs nothing from anywhere"


def test_the_image_copies_named_folders_only() -> None:
    copied = {source for line in instructions("COPY") for source in line.split()[:-1] if not source.startswith("--")}
    assert copied == {
        "deploy/requirements.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "schemas",
        "streams",
        "agents",
        "/venv",
        "/app",
    }
    assert {path for path in copied if not path.startswith("/") and not (ROOT / path).exists()} == set()


def test_no_secret_and_no_address_is_built_in() -> None:
    assert not re.search(r"(?i)(api_key|password|secret|token)\w*\s*=", DOCKERFILE)
    assert set(re.findall(r"\w+://([^:/]+)", DOCKERFILE)) == {"127.0.0.1"}


def test_the_lock_of_the_image_is_the_running_part_of_the_lock_of_the_project() -> None:
    part, whole = entries(DEPLOY / "requirements.lock"), entries(ROOT / "requirements.lock")
    refresh = (
        "run: echo hatchling | uv pip compile --universal --python-version 3.11 --generate-hashes --no-header"
        " --no-annotate -c requirements.lock pyproject.toml - -o deploy/requirements.lock"
    )
    assert {name: entry for name, entry in part.items() if whole.get(name) != entry} == {}, refresh
    wanted = {re.split(r"[\[<>=~! ]", needed)[0].lower() for needed in PROJECT["dependencies"]}
    assert wanted <= {name.lower() for name in part}, refresh
    assert not {"pytest", "mypy", "ruff", "testcontainers"} & set(part)


# --- compose


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_may_do_nothing_but_its_work(name: str) -> None:
    service = OURS[name]
    assert service["image"] == IMAGE
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service


def test_two_workers_have_names_and_volumes_of_their_own_and_wait_for_the_topics() -> None:
    workers = {name: service for name, service in OURS.items() if name.startswith("worker-")}
    assert len(workers) == 2
    assert {service["command"][-1] for service in workers.values()} == set(workers)
    state = [
        volume.partition(":")[0]
        for service in workers.values()
        for volume in service["volumes"]
        if volume.endswith(":/state")
    ]
    assert len(set(state)) == 2
    assert set(state) <= set(COMPOSE["volumes"])
    for service in workers.values():
        assert service["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
        assert service["environment"] == {"OPENAI_API_KEY": None}, "keys are passed on, never written"


def test_kafka_is_reachable_from_this_machine_only() -> None:
    kafka = COMPOSE["services"]["kafka"]
    assert kafka["ports"] == ["127.0.0.1:29092:29092"]
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_no_image_floats() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += [container["image"] for pod in PODS.values() for container in pod["containers"]]
    for image in images:
        assert re.search(r":[0-9][^:@/]*$", image), f"{image} names no version"


# --- Kubernetes


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_unprivileged(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a service called orchestrator would set ORCHESTRATOR_ variables"
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {mount["name"] for mount in container["volumeMounts"]} >= {volume["name"] for volume in pod["volumes"]}


def stateful_set() -> dict[str, Any]:
    (found,) = [document for document in MANIFEST if document["kind"] == "StatefulSet"]
    return found


def test_workers_keep_their_state_and_their_names() -> None:
    spec = stateful_set()["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["state"]
    assert {"name": "state", "mountPath": "/state"} in container["volumeMounts"]
    assert container["args"][-2:] == ["--id", "$(POD_NAME)"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 10, "a worker may take 10 s to stop"
    assert spec["replicas"] <= parse((DEPLOY / "orchestrator.yaml").read_text()).kafka.partitions


def test_probes_ask_the_port_that_the_worker_is_told_to_open() -> None:
    (container,) = stateful_set()["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    port = str(told["ORCHESTRATOR_HEALTH__PORT"])
    assert told["ORCHESTRATOR_ORCHESTRATOR__HOST"] == "0.0.0.0", "probes come from outside of the pod"
    assert container["ports"] == [{"name": "health", "containerPort": int(port)}]
    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "health"},
        "livenessProbe": {"path": "/livez", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
    }


def test_selectors_find_the_workers() -> None:
    labels = stateful_set()["spec"]["template"]["metadata"]["labels"]
    selectors = [d["spec"]["selector"] for d in MANIFEST if "selector" in d["spec"]]
    assert len(selectors) == 3
    assert all(selector.get("matchLabels", selector) == labels for selector in selectors)


# --- the rest


def test_the_configuration_is_valid_and_holds_no_secret() -> None:
    text = (DEPLOY / "orchestrator.yaml").read_text()
    made = parse(text)
    assert made.warnings == ()
    assert "password:" not in text
    assert made.kafka.bootstrap_servers == "kafka:9092"


def test_alerts_ask_for_metrics_that_exist_and_name_what_to_read() -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert [job["job_name"] for job in scrapes["scrape_configs"]] == ["orchestrator"]
    assert scrapes["rule_files"] == ["prometheus-rules.yml"]
    (group,) = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"]
    known = set(re.findall(r"^\| `(orchestrator_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    sections = set(re.findall(r"^## (.*)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE))
    for rule in group["rules"]:
        assert set(re.findall(r"orchestrator_\w+", rule["expr"])) <= known
        assert rule["annotations"]["read"] in sections


def test_the_image_is_checked_where_its_worker_answers() -> None:
    (environment,) = [line for line in instructions("ENV") if "PYTHONUNBUFFERED" in line]
    assert "ORCHESTRATOR_HEALTH__PORT=8081" in environment
    (check,) = instructions("HEALTHCHECK")
    assert "http://127.0.0.1:8081/livez" in check


def acls(**environ: str) -> list[str]:
    """Return the commands that the script prints."""
    run = ["bash", str(DEPLOY / "kafka" / "acls.sh")]
    path = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(run, env=path | environ, capture_output=True, text=True, check=True).stdout.splitlines()


def test_who_asks_may_write_requests_and_nothing_else() -> None:
    of_producers = [line for line in acls(PREFIX="prod.") if "User:asks" in line]
    assert [line for line in of_producers if "--topic" in line] == [
        "kafka-acls.sh --bootstrap-server localhost:9092 --add --allow-principal User:asks --operation Write"
        " --operation Describe --topic prod.prompt.requests"
    ]


def test_nobody_but_workers_may_write_an_outcome_or_a_table() -> None:
    writers = {
        (line.split("--allow-principal ")[1].split()[0], line.rpartition(" ")[2])
        for line in acls()
        if "--operation Write" in line
    }
    assert {who for who, topic in writers if topic != "prompt.requests"} == {"User:orchestrator"}


def test_workers_may_use_every_topic_that_there_is() -> None:
    lines = acls(PREFIX="prod.", GROUP="g")
    allowed = {line.rpartition(" ")[2] for line in lines if "User:orchestrator" in line and "--topic" in line}
    assert allowed == {topic.name for topic in definitions(Topics("prod.", "g"), 3)}
