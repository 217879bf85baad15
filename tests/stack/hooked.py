"""A proxy that asks a real verifier about a real pod's token, and the service behind it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.lab.builder import BuildError
from tests.lab.realnode.packages import PackageError
from tests.lab.wheels import WheelError
from tests.stack import objects, proxies
from tests.stack.governed import Governed
from tests.stack.installation import Installation
from tests.stack.listener import Listener
from tests.stack.proxies import Projected, Proxy, Upstream

_NUMBERS = itertools.count(1)


class Hooked(NamedTuple):
    """A proxy before a service, and a granted pod that may call it."""

    kind: str
    proxy: Proxy
    governed: Governed
    volume: Projected
    pod: objects.Object
    token: str

    @property
    def countersign(self) -> Installation:
        return self.governed.countersign

    def write_asker(self, token: str) -> None:
        """What the kubelet does: the proxy's own token is this from now on."""
        self.volume.write({"token": token, "ca.crt": self.countersign.ca_file("verifier").read_text()})


@contextlib.contextmanager
def hooked(
    kind: str, governed: Governed, *, verifier: str = "verifier", listener: Listener | None = None
) -> Iterator[Hooked]:
    """A running one. Skips the test where the proxy is not to be had.

    `verifier`: the process that it asks; or the listener in its place.
    """
    countersign = governed.countersign
    lab = countersign.lab
    pod = governed.running()
    place = lab.folder / "proxies" / str(next(_NUMBERS))
    volume = Projected(place / "secrets")
    upstream = Upstream()
    try:
        port = listener.port if listener else countersign.services[verifier].port
        ca = listener.ca if listener else countersign.ca_file("verifier").read_text()
        scene = proxies.scene(place / "etc", volume.folder, governed.audience, port, upstream)
        volume.write({"token": governed.asker, "ca.crt": ca})
        try:
            proxy = proxies.start(kind, scene, lab.processes)
        except (PackageError, WheelError, BuildError) as error:
            pytest.skip(f"no {kind} here: {error}")
        yield Hooked(kind, proxy, governed, volume, pod, governed.token(pod))
        lab.processes.stop(*proxy.processes)
    finally:
        upstream.close()
