"""Whatever a test leaves connected is closed behind it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.reflector.clients import Client


@pytest_asyncio.fixture(autouse=True)
async def nobody_stays() -> AsyncIterator[None]:
    yield
    while Client.everybody:
        await Client.everybody.pop().close()
