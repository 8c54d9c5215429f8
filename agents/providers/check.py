"""The active health check: asks for the list of models, which costs nothing."""

import asyncio

import httpx


async def check(client: httpx.AsyncClient, endpoint: str, provider: str, api_key: str | None, timeout_s: float) -> bool:
    """Return whether a deployment's endpoint answers 2xx within `timeout_s`. A refused key is not healthy either.

    Raises nothing but `CancelledError`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            url = httpx.URL(endpoint)
            async with client.stream(
                "GET",
                url.copy_with(path=f"{url.path.rstrip('/')}/models"),
                headers=_headers_of(provider, api_key),
                follow_redirects=False,
            ) as response:
                return response.is_success  # the list itself is not read
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError):
        return False


def _headers_of(provider: str, api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if provider == "anthropic":
        return {"x-api-key": api_key, "anthropic-version": "2023-06-01"}
    return {"authorization": f"Bearer {api_key}"}
