"""The call of our controller on the verifier's TLS port (`api.verifier_calls`).

It is authenticated as every asker is, by a service-account token of the verifier's audience that the API server
confirms, and must be the controller's account in our own namespace. Nothing is read for anybody else.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import hdrs, web

from countersign.access.decision import Asker
from countersign.api.verifier_calls import USES_PATH, UsesQuestion
from countersign.verifier.askers import Askers, CannotTellError, NotAuthenticatedError
from countersign.verifier.uses import Uses

CONTROLLER_ACCOUNT: Final = "countersign-controller"
"""Its name in the chart, which is the same in every installation."""

_decode = msgspec.json.Decoder(UsesQuestion).decode
_encode = msgspec.json.Encoder().encode


class InternalCalls:
    """The handler, and who may call it."""

    def __init__(self, askers: Askers, uses: Uses, *, namespace: str, turned_away: Callable[[int, str], None]) -> None:
        self._askers = askers
        self._uses = uses
        self._controller = Asker(namespace, CONTROLLER_ACCOUNT)
        self._turned_away = turned_away

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve it."""
        router.add_post(USES_PATH, self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        try:
            known = await self._askers.authenticate(request.headers.get(hdrs.AUTHORIZATION, ""))
        except NotAuthenticatedError as error:
            return self._refuse(HTTPStatus.UNAUTHORIZED, error.reason)
        except CannotTellError:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "NotFresh")
        if known.asker != self._controller:
            return self._refuse(HTTPStatus.FORBIDDEN, "NotController")
        try:
            question = _decode(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._refuse(HTTPStatus.BAD_REQUEST, "Malformed")
        return web.Response(body=_encode(self._uses.report(question)), content_type="application/json")

    def _refuse(self, status: HTTPStatus, reason: str) -> web.Response:
        self._turned_away(int(status), reason)
        return web.Response(status=int(status))
