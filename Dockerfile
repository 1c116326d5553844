# The controller's image: router, reconciler and anchor, which compose.yaml runs, and the command
# `funker` itself. `funker up` builds it from this file; by hand:
#
#     docker build -t funker .
#
# A base of your own: --build-arg BASE=IMAGE (Python 3.11 or later with pip).
ARG BASE=python:3.12-slim
FROM ${BASE}
USER root
# Debian's own Python wants to be asked before anything is installed beside its packages.
ENV PYTHONUNBUFFERED=1 PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
# Compiled to files that aren't checked for their age: nobody can write them later, and without
# them a start takes three times as long. Official Python images come without them.
COPY constraints.txt /tmp/
RUN python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
        --constraint /tmp/constraints.txt docker pydantic pyzmq rich ruamel.yaml typer watchfiles \
    && python3 -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(ensurepip|idlelib|lib2to3|test|tests|tkinter|turtledemo)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" \
    && rm /tmp/constraints.txt \
    && echo 'funker:x:10001:' >> /etc/group \
    && echo 'funker:x:10001:10001:funker:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && printf '#!/bin/sh\nexec python3 -m funker.cli.main "$@"\n' > /usr/local/bin/funker \
    && chmod 755 /usr/local/bin/funker
# As in a clone, so that the files at its top are found.
ENV PYTHONPATH=/opt/funker:/opt/funker/runtime/python
COPY compose.yaml compose.publish.yaml /opt/funker/
COPY runtime/ /opt/funker/runtime/
COPY funker/ /opt/funker/funker/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/funker
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["funker"]
