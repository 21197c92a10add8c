# The images of this project. Without a target, the one to deploy is built; compose.yaml builds the one to develop in.

ARG PYTHON_VERSION=3.13

# What is used to develop: the tools, the tests, a browser. The source is mounted over /app, so the environment lies outside.
FROM python:${PYTHON_VERSION}-slim AS dev
# Tools of a development image are the distribution's current ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium curl git make pgbouncer procps strace \
    && rm -rf /var/lib/apt/lists/*
# The user who owns the mounted source: `docker compose build --build-arg UID="$(id -u)"` if that is not 1000.
ARG UID=1000
RUN useradd --uid "${UID}" --create-home developer \
    && install --directory --owner=developer /app /data /opt/venv
USER developer
WORKDIR /app
# Bytecode is kept, or each process that a test starts would compile the source again; but not in the mounted folder.
ENV VENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    DATABASE=/data/benefits.db \
    INSTALL_FROM= \
    PIP_NO_CACHE_DIR=1 \
    PYTHONPYCACHEPREFIX=/home/developer/.cache/python
COPY --chown=developer Makefile pyproject.toml README.md ./
# `make` installs nothing in a container (INSTALL_FROM is empty). To install anew, build the image.
RUN for package in core http postgres service sqlite; do install -D /dev/null "src/benefits_${package}/__init__.py"; done \
    && make /opt/venv/dev-installed PYTHON=python3
COPY --chown=developer . .
VOLUME /data
EXPOSE 4000
CMD ["benefits", "serve", "--host", "0.0.0.0", "--database", "/data/benefits.db"]


FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN pip install 'hatchling>=1.27' \
    && python -m venv --without-pip /opt/benefits
WORKDIR /source
COPY pyproject.toml README.md ./
# First what the service needs: a change of the source then takes seconds. pip comes along, for commands of sqlite-utils.
RUN for package in core http postgres service sqlite; do install -D /dev/null "src/benefits_${package}/__init__.py"; done \
    && pip wheel --no-build-isolation --no-deps --wheel-dir empty . \
    && pip --python /opt/benefits install "$(echo empty/*.whl)[service,postgres]" \
    && pip --python /opt/benefits uninstall --yes benefits pip \
    && rm -r /opt/benefits/lib/python*/site-packages/greenlet/tests
COPY src src
RUN pip wheel --no-build-isolation --no-deps --wheel-dir wheel . \
    && pip --python /opt/benefits install --no-deps wheel/*.whl


# What is deployed: the installed wheel and what it needs, nothing else.
FROM python:${PYTHON_VERSION}-slim AS service
LABEL org.opencontainers.image.title="benefits" \
      org.opencontainers.image.description="Employee benefits: what is on offer, what is left to spend, and orders" \
      org.opencontainers.image.version="0.2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin benefits \
    && install --directory --owner=benefits --group=benefits /data
COPY --from=build /opt/benefits /opt/benefits
ENV PATH=/opt/benefits/bin:$PATH \
    BENEFITS_HOST=0.0.0.0 \
    BENEFITS_DATABASE=/data/benefits.db
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import http.client, sys; \
service = http.client.HTTPConnection('127.0.0.1', 4000, timeout=4); \
service.request('GET', '/healthz'); \
sys.exit(service.getresponse().status != 200)"]
ENTRYPOINT ["benefits"]
CMD ["serve"]
