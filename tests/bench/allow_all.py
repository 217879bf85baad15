"""The baseline: a webhook of the gate's own stack (aiohttp, msgspec, uvloop, TLS) that allows at once.

It decodes what it must to answer, the request's UID, and nothing else.
"""

import ssl
import sys

import msgspec
import uvloop
from aiohttp import web

from countersign.api.admission import AdmissionResponse, AdmissionReviewResponse


class _Request(msgspec.Struct):
    uid: str


class _Review(msgspec.Struct):
    request: _Request


_DECODER = msgspec.json.Decoder(_Review)


async def allow(request: web.Request) -> web.Response:
    """Answer `allowed: true` to whatever comes."""
    review = _DECODER.decode(await request.read())
    answer = AdmissionReviewResponse(response=AdmissionResponse(uid=review.request.uid, allowed=True))
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def main() -> None:
    """Serve on 127.0.0.1: arguments are port, certificate and key."""
    port, certificate, key = sys.argv[1:4]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/{any:.*}", allow)
    web.run_app(
        app, host="127.0.0.1", port=int(port), ssl_context=context, access_log=None, print=None,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
