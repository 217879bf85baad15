"""Several waits at once, all or nothing: after the first error the rest is cancelled and has ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def together(*work: Coroutine[Any, Any, A]) -> list[A]:
    """All results, in order. Raises the first error."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Two results of different kinds. Raises the first error."""
    one, other = await together(_any(first), _any(second))
    return one, other


async def _any(work: Coroutine[Any, Any, Any]) -> Any:
    return await work
