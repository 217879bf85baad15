# syntax=docker/dockerfile:1
# One image for gate, controller and verifier: `docker run IMAGE gate --help`.
# Pin the base by digest in your own builds: --build-arg BASE=python:3.13-slim@sha256:...
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
# What the wheel is built with, and what it runs on, come with the hashes of the requirements files.
COPY requirements/dev.txt requirements/run.txt requirements/
RUN python -m venv /build/tools \
 && sed -n '/^\(hatchling\|packaging\|pathspec\|pluggy\|tomlkit\|trove-classifiers\)==/,/# via/p' requirements/dev.txt > requirements/build.txt \
 && /build/tools/bin/pip install --require-hashes --requirement requirements/build.txt
# The same path as in the final image, since scripts name their interpreter.
RUN python -m venv --without-pip /opt/countersign \
 && python -m pip --python /opt/countersign/bin/python install --no-compile --only-binary=:all: --require-hashes --requirement requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /build/tools/bin/hatchling build -t wheel \
 && python -m pip --python /opt/countersign/bin/python install --no-compile --no-deps --no-index dist/*.whl \
 # The root file system is read-only where it runs; unchecked bytecode need not be compared with its source at each start.
 && /opt/countersign/bin/python -m compileall -q --invalidation-mode unchecked-hash -j 0 /opt/countersign/lib

FROM ${BASE}
# The base's own pip is of no use here, and one thing less to patch.
RUN python -m pip uninstall --yes --quiet pip && rm -rf /root/.cache
COPY --from=build /opt/countersign /opt/countersign
ENV PATH=/opt/countersign/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Numeric, so that runAsNonRoot can tell.
USER 65532:65532
WORKDIR /
EXPOSE 8443 8081
ENTRYPOINT ["countersign"]
