"""`python walled.py SOCKET PROGRAM ARGUMENT...`: go behind the wall that answers on SOCKET, then become PROGRAM."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.stack.wall.kernel import raise_wall


def main(path: str, *program: str) -> None:
    """Does not return."""
    raised: queue.Queue[int] = queue.Queue()

    def hand_over() -> None:
        # A filter is the thread's that set it: this one may still send what the other may not.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wall:
            wall.connect(path)
            socket.send_fds(wall, [b"w"], [raised.get()])
            wall.recv(1)

    thread = threading.Thread(target=hand_over)
    thread.start()
    raised.put(raise_wall())
    thread.join()
    os.execv(program[0], program)  # noqa: S606 - the test's own program, and no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
