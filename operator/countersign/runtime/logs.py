"""One structured line per event on standard error, for our own loggers (structlog) and for libraries' (logging) alike.

    log = structlog.get_logger()
    log.warning("denied", pod="shop/api-7d9c", policy="payments", review=uid)

Correlation keys, the same in every service and in the access log (docs/record.md has the table): `review`, `pod` and
`grant` (namespace/name), `pod_uid`, `jti`, `policy` or `policies` (kind and name). In the gate every line that belongs
to a review bears its `review`.
Never log a token, a receipt or a Secret's content.
"""

import logging
import sys
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor

LEVELS: Final = ("debug", "info", "warning", "error")

_QUIET: Final = ("aiohttp.access", "asyncio", "kopf.objects", "urllib3")
"""Libraries that narrate: below warning they say nothing that our own lines do not."""


def configure_logging(level: str = "info", *, json: bool = True, stream: TextIO = sys.stderr) -> None:
    """Set up structlog and logging for this process. Raises ValueError on an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}: use one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    if json:
        renderer = structlog.processors.JSONRenderer(serializer=_encode)
        # Never with locals: they hold tokens and keys.
        transformer = ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(transformer))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def pod_keys(namespace: str, name: str, uid: str) -> dict[str, str]:
    """The correlation keys of a pod. One that is just being created may have no UID yet, and no name but a prefix."""
    return {"pod": f"{namespace}/{name}", "pod_uid": uid} if uid else {"pod": f"{namespace}/{name}"}


def _logger_name(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _encode(event: EventDict, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
