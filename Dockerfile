# The image of this project's own command. A base of your own: --build-arg BASE=IMAGE
# (Python 3.11 or later with pip).
ARG BASE=python:3.12-slim

FROM ${BASE} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY funker/ funker/
COPY runtime/ runtime/
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM ${BASE}
# Debian's own Python wants to be asked before anything is installed beside its packages.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONUNBUFFERED=1
COPY constraints.txt /tmp/
COPY --from=wheel /wheel/ /tmp/wheel/
# Compiled to files that aren't checked for their age: nobody can write them later, and it is a
# third of the start-up time. The rest of the container may be read-only.
RUN python3 -m pip install --no-cache-dir --no-compile --root-user-action ignore \
        --constraint /tmp/constraints.txt /tmp/wheel/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -r /tmp/wheel /tmp/constraints.txt \
    && echo 'funker:x:10001:' >> /etc/group \
    && echo 'funker:x:10001:10001:funker:/tmp:/usr/sbin/nologin' >> /etc/passwd
USER 10001:10001
ENTRYPOINT ["funker"]
