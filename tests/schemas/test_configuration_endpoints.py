"""Which endpoints a configuration may name (SECURITY S7)."""

import pytest

from schemas.configuration import ConfigurationError, is_private_host, parse


def accepts(endpoint: str, *, allow_private: bool = True) -> bool:
    """Whether a configuration with this endpoint loads."""
    models = f"models: [{{name: m, endpoint: {endpoint!r}}}]"
    try:
        parse(f"{models}\nnetwork: {{allow_private_endpoints: {str(allow_private).lower()}}}\n")
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize(
    "endpoint",
    ["https://api.openai.com/v1", "http://localhost:8080", "http://[::1]:80/v1", "HTTPS://H.example", "http://a_b/"],
)
def test_an_http_url_with_a_host_is_an_endpoint(endpoint: str) -> None:
    assert accepts(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "api.openai.com/v1",
        "ftp://h/v1",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://h:port/v1",
        "http://h:99999/v1",
        "http://user@h/v1",
        "http://user:pw@h/v1",
        "http://h/v1?",
        "http://h/v1?key=1",
        "http://h/v1#",
        "http://h/a b",
        "http://h\\@evil/v1",
        "http://１２７.0.0.1/v1",
        "http://[::1",
        "http://[zz]/",
        "http://a..b/",
    ],
)
def test_anything_else_is_no_endpoint(endpoint: str) -> None:
    assert not accepts(endpoint)


PRIVATE = [
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "2852039166",
    "100.64.0.1",
    "224.0.0.1",
    "[::]",
    "[::1]",
    "[fe80::1]",
    "[fc00::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::7f00:1]",
    "[64:ff9b::a00:1]",
    "[2002:a00:1::]",
]
PUBLIC = [
    "api.openai.com",
    "localhost.example.com",
    "8.8.8.8",
    "134744072",
    "[2001:4860:4860::8888]",
    "[::ffff:8.8.8.8]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_refused_in_every_spelling(host: str) -> None:
    assert is_private_host(host)
    assert accepts(f"http://{host}:8080/v1")
    assert not accepts(f"http://{host}:8080/v1", allow_private=False)


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_is_allowed_where_private_ones_are_not(host: str) -> None:
    assert not is_private_host(host)
    assert accepts(f"http://{host}:8080/v1", allow_private=False)


def test_a_numeric_name_that_is_no_address_is_not_private() -> None:
    assert not is_private_host("1.2.3.999")
    assert not is_private_host("09.1")
