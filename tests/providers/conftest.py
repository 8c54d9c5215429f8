"""What tests of providers may ask for."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from agents.providers.transport import client as provider_client
from tests.providers.fake import FakeProvider
from tests.providers.local_model import ModelMissingError, running_model


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider_client(limit=100) as opened:
        yield opened


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="session")
def local_model() -> Iterator[str]:
    """The endpoint of a real model, for the whole session."""
    try:
        with running_model() as endpoint:
            yield endpoint
    except ModelMissingError as missing:
        pytest.skip(f"NO REAL MODEL: {missing}")
