# syntax=docker/dockerfile:1
# One image for gate, controller and verifier, and for the commands: `docker run IMAGE gate --help`.
# The lab builds its twin from the same wheel without a container engine (tests/lab/image); a test compares the two.
# Pin both bases by digest in your own builds: --build-arg BASE=gcr.io/distroless/python3-debian12@sha256:...
ARG BUILD=python:3.11-slim-bookworm
# Debian 12's Python and what it loads. No shell, no package manager.
ARG BASE=gcr.io/distroless/python3-debian12:nonroot

FROM ${BASE} AS base

FROM ${BUILD} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
# What the wheel is built with, and what it runs on, come with the hashes of the requirements files.
COPY requirements/dev.txt requirements/image.txt requirements/
RUN python -m venv /build/tools \
 && sed -n '/^\(hatchling\|packaging\|pathspec\|pluggy\|tomlkit\|trove-classifiers\)==/,/# via/p' requirements/dev.txt > requirements/build.txt \
 && /build/tools/bin/pip install --require-hashes --requirement requirements/build.txt
RUN python -m pip install --no-compile --only-binary=:all: --require-hashes --no-deps --target /opt/countersign/lib --requirement requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# The commands that wheels bring name this stage's interpreter; ours names the final image's.
RUN /build/tools/bin/hatchling build -t wheel \
 && python -m pip install --no-compile --no-deps --no-index --target /opt/countersign/lib dist/*.whl \
 && rm -rf /opt/countersign/lib/bin \
 && install -D -m 755 operator/bin/countersign /opt/countersign/bin/countersign
# The root file system is read-only where it runs, and the base brings no bytecode: without this, each start would compile
# all that it imports. Every 3.11 reads it (one magic number); unchecked, it is not compared with its source.
COPY --from=base /usr/lib/python3.11 /stdlib
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/countersign/lib \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /stdlib -p /usr/lib/python3.11 /stdlib \
 && find /stdlib ! -type d ! -path '*/__pycache__/*' -delete

FROM base
COPY --from=build /stdlib /usr/lib/python3.11
COPY --from=build /opt/countersign /opt/countersign
ENV PATH=/opt/countersign/bin:/usr/bin PYTHONPATH=/opt/countersign/lib SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title=countersign \
      org.opencontainers.image.description="Workload identity that rests on evidence about this very pod." \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=0.2.0
# Numeric, so that runAsNonRoot can tell.
USER 65532:65532
WORKDIR /
EXPOSE 8443 8081
ENTRYPOINT ["/opt/countersign/bin/countersign"]
