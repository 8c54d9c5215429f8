"""Where a model is reached: what a safe endpoint looks like, and whose host it is (SECURITY S7)."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from schemas.configuration.kinds import Kind

PROVIDER_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}
USUAL_KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY"}

_URL_CHARACTERS = re.compile(r"[!-~]{1,2048}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_NUMERIC_PARTS = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+)){0,3}\.?")
_NAT64_PREFIX = 0x0064_FF9B << 96


@dataclass(frozen=True, slots=True)
class Endpoint(Kind):
    """The base URL of a provider's API, kept without a trailing slash."""

    @property
    def allowed(self) -> str:
        return "must be an http or https URL with a host, and without user, query or fragment"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uri", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^/@?#\s]+(/[^@?#\s]*)?$"}

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not _URL_CHARACTERS.fullmatch(value) or re.search(r"[@?#\\]", value):
            raise ValueError(self.allowed)
        if not _has_web_host(value):
            raise ValueError(self.allowed)
        return value.rstrip("/")


def host_of(endpoint: str) -> str:
    """Return the host of a URL in lower case, without brackets or a trailing dot; empty where there is none."""
    try:
        return (urlsplit(endpoint).hostname or "").rstrip(".")
    except ValueError:
        return ""


def provider_of(endpoint: str) -> str:
    """Return who serves an endpoint: `openai`, `anthropic`, `google`; unknown hosts speak OpenAI's API."""
    return PROVIDER_HOSTS.get(host_of(endpoint), "openai")


def usual_key_variable(endpoint: str) -> str | None:
    """Return the provider's usual key variable, for that provider's own host over https only; else None."""
    provider = PROVIDER_HOSTS.get(host_of(endpoint))
    return USUAL_KEY_VARIABLES[provider] if provider and urlsplit(endpoint).scheme == "https" else None


def is_private_host(host: str) -> bool:
    """Whether a host, taken literally, is private, loopback or link-local; other names are not resolved here.

    Understands what resolvers do: `127.1`, `2130706433`, `0x7f.0.0.1`, `0177.0.0.1`, IPv4 inside IPv6, zones.
    """
    host = host.strip("[]").split("%")[0].rstrip(".").lower()
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return is_private_address(ip_address(host))
    except ValueError:
        address = _loose_ipv4(host) if _NUMERIC_PARTS.fullmatch(host) else None
        return address is not None and is_private_address(address)


def is_private_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is anything but public unicast; IPv4 inside IPv6 counts as that IPv4 address."""
    if isinstance(address, IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_private_address(inner)
    return not address.is_global or address.is_multicast or address.is_reserved


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    low = int(address) & 0xFFFF_FFFF
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    compatible = int(address) >> 32 == 0 and low > 1  # ::a.b.c.d, but not :: and ::1
    return IPv4Address(low) if compatible or int(address) - low == _NAT64_PREFIX else None


def _loose_ipv4(host: str) -> IPv4Address | None:
    """Read a numeric host as `inet_aton` does: one to four parts, decimal, octal or hexadecimal."""
    try:
        *leading, last = [_part(part) for part in host.split(".")]
    except ValueError:
        return None
    if any(part > 255 for part in leading) or last >= 256 ** (4 - len(leading)):
        return None
    return IPv4Address(sum(part << 8 * (3 - place) for place, part in enumerate(leading)) + last)


def _part(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") else int(text)


def _has_web_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return ":" in parts.hostname or _HOST_NAME.fullmatch(parts.hostname) is not None
