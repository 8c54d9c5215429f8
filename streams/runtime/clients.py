"""How clients of ours connect to Kafka: the `kafka` section as aiokafka's arguments, and waiting for the cluster."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from schemas.configuration import ConfigurationError, Kafka, KafkaSecurity, Mistake
from streams.runtime.embedded import is_embedded
from streams.runtime.redaction import hide

REACH_S: Final = 20.0
"""How long a command waits for a cluster before it gives up with 75."""
_ANSWER_S: Final = 10.0
_PAUSE_S: Final = 0.5


class NoClusterError(Exception):
    """No broker answered in time; `str()` is one line that names the addresses."""


def servers_of(kafka: Kafka) -> list[str]:
    """Return the addresses of `bootstrap_servers`, one each."""
    return [server.strip() for server in kafka.bootstrap_servers.split(",")]


def client_settings(kafka: Kafka, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what every aiokafka client takes: addresses and `security_settings`."""
    return {"bootstrap_servers": servers_of(kafka), **security_settings(kafka.security, environ)}


def security_settings(security: KafkaSecurity | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return aiokafka's arguments for TLS and SASL, none for a plain connection; the password is hidden in logs.

    Raises `ConfigurationError` where the variable of the password is not set or a file cannot be used.
    """
    if security is None:
        return {}
    settings: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol in ("SSL", "SASL_SSL"):
        settings["ssl_context"] = _tls(security)
    if security.protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        settings |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": _password(security, environ),
        }
    return settings


def _password(security: KafkaSecurity, environ: Mapping[str, str]) -> str:
    if security.password is not None:
        password = security.password.get_secret_value()
    else:
        variable = security.password_env or ""
        password = environ.get(variable, "")
        if not password:
            raise _mistake("password_env", f"the environment variable {variable} is not set")
    hide(password)
    return password


def _tls(security: KafkaSecurity) -> ssl.SSLContext:
    """Trust `ca_file` alone, or the system's authorities; host names are checked."""
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except ssl.SSLError as error:
        raise _mistake("ca_file", "cannot be used: no PEM certificate in it") from error
    except OSError as error:
        raise _mistake("ca_file", f"cannot be used: {error.strerror}") from error
    if security.cert_file is not None:
        try:
            context.load_cert_chain(security.cert_file, security.key_file, password=_no_passphrase)
        except (ssl.SSLError, ValueError) as error:
            problem = "and `key_file` are no matching pair of PEM files without passphrase"
            raise _mistake("cert_file", problem) from error
        except OSError as error:
            raise _mistake("cert_file", f"or `key_file` cannot be used: {error.strerror}") from error
    return context


def _no_passphrase() -> str:
    """Keep OpenSSL from asking the terminal."""
    raise ValueError("the key has a passphrase")


def _mistake(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError((Mistake(problem, f"kafka.security.{key}"),))


async def reach(settings: Mapping[str, Any], within_s: float = REACH_S) -> bool:
    """Return once a broker has answered: whether it is the embedded one, which knows no idempotent producers.

    Raises `NoClusterError` when none has within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0:
        client = AIOKafkaClient(**settings, request_timeout_ms=int(1000 * min(left, _ANSWER_S)))
        try:
            async with asyncio.timeout(left):
                await client.bootstrap()
                return await is_embedded(client)
        except (KafkaError, OSError, TimeoutError):
            await asyncio.sleep(min(_PAUSE_S, max(0.0, deadline - time.monotonic())))
        finally:
            await client.close()
    servers = ", ".join(settings["bootstrap_servers"])
    raise NoClusterError(f"no Kafka cluster answers at {servers}, tried for {within_s:.0f} s")
