"""What a kubelet does for the services of an Installation: it starts anew what has ended by itself.

A controller that could not renew its Lease ends, and counts on that. On a machine that runs several control planes at
once, an API server that answers nothing for three seconds is an ordinary thing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from urllib3.exceptions import HTTPError

BACK_OFF_SECONDS = 1.0


class Kubelet:
    """A thread that calls `revive` every second for as long as it is entered."""

    def __init__(self, revive: Callable[[], None]) -> None:
        self._revive = revive
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kubelet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing more will be started."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(BACK_OFF_SECONDS):
            # An API server that is away gives no tokens to start with: there is a next time.
            with contextlib.suppress(AssertionError, OSError, HTTPError):
                self._revive()
