"""The active health check: asks for the list of models, which costs nothing."""

import asyncio

import httpx

from agents.providers.call import DIALECTS


async def check(client: httpx.AsyncClient, endpoint: str, dialect: str, api_key: str | None, timeout_s: float) -> bool:
    """Return whether a deployment's endpoint answers 2xx within `timeout_s`. A refused key is not healthy either.

    All dialects list their models at `{endpoint}/models`. Raises nothing but `CancelledError`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            url = httpx.URL(endpoint)
            async with client.stream(
                "GET",
                url.copy_with(path=f"{url.path.rstrip('/')}/models"),
                headers={} if api_key is None else DIALECTS[dialect].headers_of(api_key),
                follow_redirects=False,
            ) as response:
                return response.is_success  # the list itself is not read
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError):
        return False
