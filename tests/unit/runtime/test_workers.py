"""Worker processes: what they are handed and answer, and that whatever happens in one ends with it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from countersign.runtime.workers import WorkerError, Workers

ROOT = Path(__file__).parents[3]
WORK = "tests.fakes.work"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'operator'}")
    monkeypatch.setenv("COUNTERSIGN_SECRET", "x")


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(1)
    yield workers
    await workers.close()


def soon(seconds: float = 60) -> float:
    return asyncio.get_running_loop().time() + seconds


async def run(workers: Workers, function: str, *parts: bytes, seconds: float = 60) -> bytes:
    return await workers.run(f"{WORK}:{function}", *parts, deadline=soon(seconds))


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def running(pid: int) -> bool:
    """Whether it takes any more time: whoever adopts orphans here may leave a dead one unreaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_bytes_go_in_and_come_out(workers: Workers) -> None:
    assert await run(workers, "reversed_parts", b"abc", b"", bytes(range(10))) == b"cba||" + bytes(range(9, -1, -1))
    assert await run(workers, "reversed_parts") == b""


async def test_large_parts_arrive_whole(workers: Workers) -> None:
    part = os.urandom(3 * MIB + 17)
    assert await run(workers, "reversed_parts", part) == part[::-1]


async def test_one_process_does_one_work_after_the_other(workers: Workers) -> None:
    assert len({await run(workers, "pid") for _ in range(3)}) == 1


async def test_a_large_service_keeps_its_worker() -> None:
    ballast = bytes(bytearray(os.urandom(1) * (80 * MIB)))
    workers = Workers(1, memory_bytes=150 * MIB)
    try:
        assert len({await run(workers, "pid") for _ in range(3)}) == 1
    finally:
        await workers.close()
    assert len(ballast) == 80 * MIB


async def test_no_process_is_started_before_there_is_work(workers: Workers) -> None:
    assert workers.pids == ()


async def test_as_many_works_run_at_once_as_there_are_workers(tmp_path: Path) -> None:
    workers = Workers(2)
    go = tmp_path / "go"
    first = asyncio.create_task(run(workers, "wait_for", bytes(go)))
    try:
        for _ in range(3):
            await run(workers, "pid")
        waits = asyncio.create_task(run(workers, "wait_for", bytes(go)))
        third = asyncio.create_task(run(workers, "pid"))
        await asyncio.sleep(0)
        assert not third.done()
        go.touch()
        assert len({await first, await waits}) == 2
        await third
    finally:
        await workers.close()


async def test_work_that_never_ends_is_killed_at_its_deadline(workers: Workers, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.touch()
    pid = int(await run(workers, "pid"))
    with pytest.raises(WorkerError) as caught:
        await run(workers, "for_ever", bytes(note), seconds=0.5)
    assert caught.value.problem == "Timeout"
    await until(lambda: gone(pid))
    assert await run(workers, "reversed_parts", b"ab") == b"ba"


async def test_work_whose_caller_goes_away_is_killed_with_all_that_it_started(workers: Workers, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.touch()
    pid = int(await run(workers, "pid"))
    work = asyncio.create_task(run(workers, "for_ever", bytes(note)))
    await until(lambda: any(tmp_path.glob("note.*")))
    (link,) = tmp_path.glob("note.*")
    child = int(link.suffix[1:])
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: gone(pid) and not running(child))
    assert int(await run(workers, "pid")) != pid


async def test_work_cancelled_while_its_process_starts_leaves_none_behind(workers: Workers) -> None:
    work = asyncio.create_task(run(workers, "pid"))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await workers.close()
    assert workers.pids == ()


async def test_a_wait_for_a_worker_ends_at_the_deadline_and_harms_nobody(workers: Workers, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = asyncio.create_task(run(workers, "wait_for", bytes(go)))
    await asyncio.sleep(0)
    with pytest.raises(WorkerError) as caught:
        await run(workers, "pid", seconds=0.05)
    assert caught.value.problem == "Timeout"
    go.touch()
    await first


async def test_no_more_waits_than_may(tmp_path: Path) -> None:
    workers = Workers(1, max_waiting=1)
    go = tmp_path / "go"
    first = asyncio.create_task(run(workers, "wait_for", bytes(go)))
    await asyncio.sleep(0)
    second = asyncio.create_task(run(workers, "pid"))
    await asyncio.sleep(0)
    with pytest.raises(WorkerError) as caught:
        await run(workers, "pid")
    assert caught.value.problem == "Busy"
    go.touch()
    assert await first == await second
    await workers.close()


async def test_an_error_is_told_and_the_process_goes_on(workers: Workers) -> None:
    pid = await run(workers, "pid")
    with pytest.raises(WorkerError, match="ValueError: too bad") as caught:
        await run(workers, "fails", b"too bad")
    assert caught.value.problem == "Failed"
    with pytest.raises(WorkerError, match="ModuleNotFoundError"):
        await workers.run("nothing.there:at_all", deadline=soon())
    assert await run(workers, "pid") == pid


async def test_memory_is_bounded_and_the_next_work_has_a_new_process() -> None:
    workers = Workers(1, memory_bytes=256 * MIB)
    pid = await run(workers, "pid")
    assert await run(workers, "eats", b"%d" % MIB) == b"%d" % MIB
    with pytest.raises(WorkerError, match="more memory than it may") as caught:
        await run(workers, "eats", b"%d" % (300 * MIB))
    assert caught.value.problem == "Failed"
    assert await run(workers, "pid") != pid
    await workers.close()


async def test_a_process_that_has_grown_large_is_not_kept() -> None:
    workers = Workers(1, memory_bytes=256 * MIB)
    pid = await run(workers, "grows", b"%d" % (140 * MIB))
    assert workers.pids == ()
    assert await run(workers, "pid") != pid
    await workers.close()


async def test_a_process_that_ends_over_its_work_is_told_and_replaced(workers: Workers) -> None:
    with pytest.raises(WorkerError) as caught:
        await run(workers, "dies")
    assert caught.value.problem == "Ended"
    assert await run(workers, "reversed_parts", b"ab") == b"ba"


async def test_a_process_that_was_killed_while_idle_is_replaced(workers: Workers) -> None:
    pid = int(await run(workers, "pid"))
    os.kill(pid, 9)
    await until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None)
    assert int(await run(workers, "pid")) != pid


async def test_a_process_that_cannot_be_started_is_told_and_holds_no_place(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nothing/here")
        for _ in range(2):
            with pytest.raises(WorkerError, match="can be started") as caught:
                await run(workers, "pid")
            assert caught.value.problem == "Ended"
    assert await run(workers, "reversed_parts", b"ab") == b"ba"


async def test_a_worker_may_take_so_much_memory_and_write_no_file() -> None:
    workers = Workers(1, memory_bytes=300 * MIB)
    assert (await run(workers, "limits")).decode() == f"{300 * MIB} 0 0"
    await workers.close()


async def test_a_result_that_is_too_large_is_no_result(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="larger than"):
        await run(workers, "large")


async def test_an_idle_process_ends_after_a_while() -> None:
    workers = Workers(1, idle_seconds=0.05)
    pid = int(await run(workers, "pid"))
    await until(lambda: gone(pid))
    assert workers.pids == ()
    assert int(await run(workers, "pid")) != pid
    await workers.close()


async def test_a_closed_pool_has_no_process_and_starts_none(workers: Workers) -> None:
    pid = int(await run(workers, "pid"))
    await workers.close()
    assert gone(pid)
    with pytest.raises(WorkerError):
        await run(workers, "pid")


async def test_a_worker_gets_no_secret_and_no_open_file_of_its_service(workers: Workers, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        names = (await run(workers, "environment")).decode().split()
        assert "COUNTERSIGN_SECRET" not in names
        assert "PYTHONPATH" in names
        # 0, which is the connection, to 2, and the folder that is listed.
        assert len((await run(workers, "descriptors")).split()) == 4


async def test_a_worker_ends_with_its_service(tmp_path: Path) -> None:
    """As the kernel does for a service that is killed: the connection closes."""
    workers = Workers(1)
    pid = int(await run(workers, "pid"))
    ((worker, timer),) = workers._idle
    timer.cancel()
    worker._connection.close()
    await asyncio.to_thread(worker.reap)
    assert gone(pid)
