"""Sections about the service itself: processes, balancing, limits, state."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from schemas.configuration.kinds import SECONDS, Integer, Text
from schemas.configuration.section import Section

HOST_NAME = Text(r"[A-Za-z0-9._:-]{1,255}", "a host name or an IP address")
PORT = Integer(0, 65535)


class Orchestrator(Section):
    """The service: where it listens, how many processes it has, how long and how often it tries."""

    host: Annotated[str, HOST_NAME] = Field(
        default="localhost", description="Host name or address on which the gateway listens."
    )
    port: Annotated[int, PORT] = Field(
        default=8000, description="TCP port on which the gateway listens; 0 takes any free one."
    )
    workers: Annotated[int, Integer(1, 1024)] = Field(
        default=4, description="Worker processes that `orchestrator up` runs."
    )
    timeout: Annotated[float, SECONDS] = Field(
        default=30.0,
        description="Seconds from a request's broker timestamp to its outcome, where it names no `timeout_s`."
        " At most `limits.max_timeout_s`.",
    )
    max_retries: Annotated[int, Integer(0, 100)] = Field(default=3, description="Tries after the first one.")


class LoadBalancer(Section):
    """How a deployment is chosen and watched."""

    strategy: Literal["round-robin", "weighted", "least-busy", "latency", "cost", "priority"] = Field(
        default="round-robin", description="How to order the deployments that could serve a request."
    )
    health_check_interval: Annotated[float, SECONDS] = Field(
        default=30.0, description="Seconds between two health checks of a deployment."
    )
    max_failures: Annotated[int, Integer(1, 1_000_000)] = Field(
        default=3, description="Failures in a row that open a deployment's circuit."
    )
    timeout: Annotated[float, SECONDS] = Field(
        default=5.0, description="Seconds that a health check may take; a request's time is `orchestrator.timeout`."
    )


class Cache(Section):
    """The answer cache. It has no effect yet."""

    enabled: StrictBool = Field(default=True, description="Whether answers are cached.")
    ttl: Annotated[float, SECONDS] = Field(default=3600.0, description="Seconds that an answer is kept.")
    max_size: Annotated[int, Integer(1)] = Field(default=1000, description="Answers kept at most.")
    strategy: Literal["lru"] = Field(default="lru", description="What goes first when the cache is full.")


class State(Section):
    """Where workers keep their tables."""

    directory: Annotated[str, Text(r"[^\x00-\x1f\x7f]{1,1024}", "the path of a directory")] = Field(
        default="state",
        description="Directory of the tables, relative to the working directory;"
        " a worker uses `<directory>/<prefix><group>/<id>`.",
    )


class Health(Section):
    """Liveness and readiness."""

    port: Annotated[int, PORT] = Field(
        default=0,
        description="TCP port of liveness, readiness and metrics over HTTP, on `orchestrator.host`; 0 is off.",
    )


class Network(Section):
    """Where the service may connect to."""

    allow_private_endpoints: StrictBool = Field(
        default=True,
        description="Whether endpoints and redirects may lead to private, loopback and link-local addresses.",
    )


MOST_EVENT_BYTES = 1_572_864
"""What is read must fit an event again, and an event its topic, which takes 2 MiB."""


class Limits(Section):
    """Bounds on what is accepted."""

    max_request_bytes: Annotated[int, Integer(1, MOST_EVENT_BYTES)] = Field(
        default=524_288, description="Bytes of the largest request; a larger one becomes a dead letter."
    )
    max_answer_bytes: Annotated[int, Integer(1, MOST_EVENT_BYTES)] = Field(
        default=524_288, description="Decoded bytes of the largest answer that is read from a provider."
    )
    default_max_tokens: Annotated[int, Integer(1)] = Field(
        default=1024, description="Output tokens asked for where a request names no `max_tokens`."
    )
    max_timeout_s: Annotated[float, SECONDS] = Field(
        default=3600.0, description="Seconds: the longest `timeout_s` that a request may ask for."
    )


class Idempotency(Section):
    """How long a request id is remembered."""

    horizon: Annotated[float, SECONDS] = Field(
        default=86_400.0, description="Seconds of event time for which a finished request is remembered."
    )
