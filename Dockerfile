# Two stages: the first builds a virtual environment from the sources, the second carries it and nothing else.
# No compiler, no torch and no pip cache reach the image; the model's weights are inside the package.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY router router
COPY models models
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir . \
 && rm -rf /venv/lib/python3.11/site-packages/router/models \
 && /venv/bin/pip uninstall --yes pip setuptools
# pip has compiled every module on the way: without that, each start would take seconds.

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data --create-home router
COPY --from=build /venv /venv
# Where /retrain publishes. To share one head between replicas, mount a volume here; it starts with these files.
COPY --chown=router models /models
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODELS_DIR=/models
USER router
WORKDIR /data
EXPOSE 4000
# /ready turns 503 while draining, which is not ill health: liveness asks /health. http.client, since urllib would ask
# the proxy that Docker puts into the environment of a container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 4000), timeout=2); c.request('GET', '/health'); exit(c.getresponse().status != 200)"]
# Exec form: the router itself is process 1 and gets SIGTERM.
ENTRYPOINT ["virtusoul-router"]
