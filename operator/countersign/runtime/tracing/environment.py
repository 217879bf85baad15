"""Where spans go, by flag and by the variables that OpenTelemetry names for every program.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and .../configuration/sdk-environment-variables/. What is
honoured: OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, and of OTEL_EXPORTER_OTLP_*, each also as
OTEL_EXPORTER_OTLP_TRACES_*, which then counts: ENDPOINT, HEADERS, TIMEOUT, COMPRESSION, CERTIFICATE,
CLIENT_CERTIFICATE, CLIENT_KEY, PROTOCOL (http/protobuf only). A value that cannot be honoured is an
error, never passed over.
"""

import os
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

PROTOCOL: Final = "http/protobuf"
DEFAULT_TIMEOUT_MS: Final = 10_000
_PATH: Final = "v1/traces"


class Target(NamedTuple):
    """A collector, and how it is spoken to."""

    url: str
    """Of `/v1/traces` itself."""
    headers: Mapping[str, str] = {}
    """Secret: they hold what the collector knows us by."""
    timeout: float = DEFAULT_TIMEOUT_MS / 1000
    """Seconds for one request."""
    gzip: bool = False
    ca_file: str = ""
    """Empty: the system's CAs."""
    certificate_file: str = ""
    key_file: str = ""


def target_of(endpoint: str, environment: Mapping[str, str]) -> Target | None:
    """The collector that flag or variables name; None: nobody traces. Raises ValueError.

    OpenTelemetry's default, a collector on this host, is not taken for granted: tracing is off unless asked for.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None

    def of(name: str) -> str:
        special = environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "")
        return special or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    own = "" if endpoint else environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = endpoint or own or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not base:
        return None
    if of("PROTOCOL") not in {"", PROTOCOL}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={of('PROTOCOL')!r}: only {PROTOCOL} is spoken (port 4318)")
    compression = of("COMPRESSION")
    if compression not in {"", "none", "gzip"}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION={compression!r}: write gzip or none")
    return Target(
        _checked(own or f"{base.rstrip('/')}/{_PATH}"),
        _pairs(of("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"),
        _milliseconds(of("TIMEOUT")) / 1000,
        compression == "gzip",
        of("CERTIFICATE"),
        of("CLIENT_CERTIFICATE"),
        of("CLIENT_KEY"),
    )


def resource_of(service: str, version: str, instance: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What all spans of a process have in common. Raises ValueError."""
    given = _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    ours = {"service.version": version, "service.instance.id": instance, "service.namespace": "countersign"}
    name = environment.get("OTEL_SERVICE_NAME") or given.get("service.name") or service
    return {**ours, **given, "service.name": name}


def check_tracing(endpoint: str, ratio: float, environment: Mapping[str, str] = os.environ) -> None:
    """Raises ValueError for settings that mean nothing."""
    if not 0 <= ratio <= 1:
        raise ValueError("--trace-ratio is a share: 0 to 1")
    target_of(endpoint, environment)
    resource_of("", "", "", environment)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a collector: write one such as http://collector:4318")
    if parts.username or parts.password:
        raise ValueError("credentials of a collector belong into OTEL_EXPORTER_OTLP_HEADERS, not into its address")
    return url


def _pairs(text: str, variable: str) -> dict[str, str]:
    """`key=value,key=value`, values percent-encoded (W3C Baggage)."""
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{variable}: write name=value, with a comma between two")  # never its text: a secret
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs


def _milliseconds(text: str) -> int:
    if not text:
        return DEFAULT_TIMEOUT_MS
    if not text.isdecimal() or not int(text):
        raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT={text!r}: write milliseconds, 10000 for 10 s")
    return int(text)
