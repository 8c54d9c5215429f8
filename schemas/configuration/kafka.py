"""The `kafka` section: the cluster, the names on it, and how to log in."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from schemas.configuration.kinds import Integer, Number, Text
from schemas.configuration.section import Section

VARIABLE_NAME = Text(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable")
_FILE = Text(r"[^\x00-\x1f\x7f]{1,1024}", "the path of a file")
_SERVER = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"


class KafkaSecurity(Section):
    """How to log in to the cluster. Values of this section are never shown."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        description="Security protocol of the brokers' listener."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="SASL mechanism; needed with a SASL protocol, and only there."
    )
    username: Annotated[str, Text(r"[^\x00-\x1f\x7f]{1,255}", "a user name")] | None = Field(
        default=None, description="SASL user name; needed with a SASL protocol, and only there."
    )
    password: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        default=None, description="SASL password. Better not in a file: use `password_env`."
    )
    password_env: Annotated[str, VARIABLE_NAME] | None = Field(
        default=None, description="Environment variable that holds the SASL password; this or `password`."
    )
    ca_file: Annotated[str, _FILE] | None = Field(
        default=None, description="File of the certificate authorities (PEM) to trust, instead of the system's."
    )
    cert_file: Annotated[str, _FILE] | None = Field(
        default=None, description="File of the client's certificate (PEM); together with `key_file`."
    )
    key_file: Annotated[str, _FILE] | None = Field(
        default=None, description="File of the client's private key (PEM); together with `cert_file`."
    )


class Kafka(Section):
    """The cluster and the names on it."""

    bootstrap_servers: Annotated[
        str, Text(rf"{_SERVER}(?:,\s?{_SERVER})*", "host:port, or several separated by commas")
    ] = Field(default="localhost:9092", description="Brokers to ask first: `host:port`, separated by commas.")
    partitions: Annotated[int, Integer(1, 100_000)] = Field(
        default=12, description="Partitions of every consumed topic and table. Never changes afterwards."
    )
    replication_factor: Annotated[int, Integer(1, 32_767)] = Field(
        default=1, description="Copies of every topic that the cluster keeps."
    )
    topic_prefix: Annotated[
        str, Text(r"[A-Za-z0-9._-]{0,128}", "letters, digits, dots, underscores and hyphens, at most 128")
    ] = Field(default="", description="Text put verbatim before the name of every topic and of the group.")
    group: Annotated[
        str,
        Text(
            r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{1,64}",
            "letters, digits, dots, underscores and hyphens, 1 to 64, with a letter or digit among them",
        ),
    ] = Field(default="orchestrator", description="Consumer group, without the prefix.")
    session_timeout: Annotated[float, Number(1800, "a number of seconds", least=2)] = Field(
        default=10.0, description="Seconds of silence after which the group gives a worker's partitions away."
    )
    security: KafkaSecurity | None = Field(
        default=None, description="How to log in. Default: none, a plain connection without a login."
    )
