"""A client before a real proxy: it speaks for itself in every header that proxy, verifier or service reads."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from countersign.verifier.authorize import IDENTITY
from tests.stack import proxies
from tests.stack.governed import Governed
from tests.stack.hooked import Hooked, hooked
from tests.stack.listener import Listener, listening
from tests.stack.proxies import reached


def _id(kind: str) -> str:
    return kind.replace(" ", "-")


@pytest.fixture(scope="module", params=list(proxies.KINDS), ids=_id)
def hook(request: pytest.FixtureRequest, governed: Governed) -> Iterator[Hooked]:
    with hooked(request.param, governed) as running:
        yield running


@pytest.fixture(scope="module", params=[kind for kind in proxies.KINDS if kind != "nginx without njs"], ids=_id)
def overheard(request: pytest.FixtureRequest, governed: Governed) -> Iterator[tuple[Hooked, Listener]]:
    """The same, but it asks one who says yes, and keeps what it was told."""
    with listening(governed.lab.ca) as listener, hooked(request.param, governed, listener=listener) as running:
        yield running, listener


def test_identity_headers_of_a_client_do_not_reach_the_service(hook: Hooked) -> None:
    forged = {
        spelling: "system:serviceaccount:kube-system:admin"
        for name in IDENTITY
        for spelling in (name, name.replace("-", "_"), name.lower(), name.upper().replace("-", "_"))
    }
    for path in ("/", "/public/page"):
        headers = reached(hook.proxy.send(path, {"Authorization": f"Bearer {hook.token}", **forged}))
        assert "admin" not in str({name: value for name, value in headers.items() if name.startswith("countersign")})
        assert not [name for name in headers if name.startswith("countersign_")]


def test_a_client_does_not_ask_in_the_proxys_place(hook: Hooked) -> None:
    # The client has a token by which a relying party may ask; the proxy's own does not count.
    forged = {"Authorization": f"Bearer {hook.token}", "Countersign-Asker": hook.governed.asker}
    hook.write_asker("junk")
    try:
        hook.governed.lab.wait_for(lambda: hook.proxy.ask(hook.token).status == 403, what="the proxy asks with junk")
        assert hook.proxy.send("/", forged).status == 403
    finally:
        hook.write_asker(hook.governed.asker)
    hook.governed.lab.wait_for(lambda: hook.proxy.ask(hook.token).status == 200, what="the proxy asks again")
    assert hook.proxy.send("/", {**forged, "Countersign-Asker": "junk"}).status == 200


def test_a_client_does_not_choose_the_audience_that_is_demanded(hook: Hooked) -> None:
    path = f"/?audience={hook.governed.audience}"
    other = hook.governed.lab.service_account_token(hook.governed.namespace, "worker", audience="other.example.com")
    assert hook.proxy.ask(other, "/?audience=other.example.com").status == 401
    assert hook.proxy.ask(other, path, Countersign_Require_Audience="other.example.com").status == 401


def test_what_a_client_says_of_its_address_path_and_method_is_not_believed(overheard: tuple[Hooked, Listener]) -> None:
    hook, listener = overheard
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Original-URI": "/public",
        "X-Original-Url": "http://x/public",
        "X-Original-Method": "GET",
        "X-Forwarded-Uri": "/public",
        "X-Forwarded-Method": "GET",
        "X-Envoy-Original-Path": "/public",
    }
    for name, value in [("", ""), *forged.items()]:
        sent = {"Authorization": "Bearer t", **({name: value} if name else {})}
        answer = hook.proxy.send("/admin/7?x=1", sent, "POST", {"sum": 3})
        use = listener.last().use
        assert (use.method, use.path) == ("POST", "/admin/7"), name
        assert use.source_address not in ("", "6.6.6.6"), name
        assert answer.status == 200, name
    assert hook.proxy.send("/admin/7", {"Authorization": "Bearer t", **forged}).status == 200
    assert listener.last().use.path == "/admin/7"
    assert listener.last().asker == f"Bearer {hook.governed.asker}"


def test_a_path_that_servers_read_in_different_ways_reaches_nobody_as_something_else(
    overheard: tuple[Hooked, Listener],
) -> None:
    hook, listener = overheard
    for target in ("/free/../admin", "/free/%2e%2e/admin", "/free/..%2fadmin", "/free/..;/admin", "/free\\..\\admin"):
        before = len(listener.heard)
        status = _raw(hook.proxy.scene.port, target)
        heard = listener.heard[before:]
        # Refused by the proxy, or by the verifier; or the proxy has made the one path of it that it then tells.
        if status == 200:
            assert [one and one.use.path for one in heard] == ["/admin"], target


def _raw(port: int, target: str) -> int:
    """A client that writes its target as it likes; the status."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        lines = [f"GET {target} HTTP/1.1", "Host: x", "Authorization: Bearer t", "Connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_two_authorization_headers_are_not_two_chances(hook: Hooked) -> None:
    with socket.create_connection(("127.0.0.1", hook.proxy.scene.port), 10) as connection:
        lines = ["GET / HTTP/1.1", "Host: x", "Authorization: Bearer junk", f"Authorization: Bearer {hook.token}"]
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        assert int(connection.makefile("rb").readline().split()[1]) in (400, 401, 403)


def test_a_body_does_not_make_the_next_request_somebody_elses(hook: Hooked) -> None:
    # Bodies of clients are not passed on, whatever their length says: each next answer is still the asked one.
    for size in (0, 10, 70_000):
        assert hook.proxy.send("/", {"Authorization": "Bearer junk"}, "POST", b"x" * size).status == 401
        assert hook.proxy.send("/", {"Authorization": f"Bearer {hook.token}"}, "POST", b"x" * size).status == 200
        assert hook.proxy.ask().status == 401


def test_a_token_in_the_query_or_a_cookie_is_none(hook: Hooked) -> None:
    assert hook.proxy.ask(path=f"/?access_token={hook.token}").status == 401
    assert hook.proxy.ask(Cookie=f"Authorization=Bearer {hook.token}").status == 401
