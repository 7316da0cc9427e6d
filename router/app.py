"""Wiring: the routes, and what starts and stops with the application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from router import admin, vectors
from router.api import routed
from router.classifier import Classifier
from router.config import Settings
from router.dashboard import dashboard
from router.doors import chat_completions, completions, messages, responses
from router.doors.door import Door
from router.http import Handler, endpoint, expectation, not_found, wrong_method
from router.service import SERVICE, Service

_DOORS: dict[str, Door] = {
    "/v1/chat/completions": chat_completions.DOOR,
    "/v1/messages": messages.DOOR,
    "/v1/responses": responses.DOOR,
    "/v1/completions": completions.DOOR,
}
# The routed endpoints by their exact paths: what is posted there need not be looked up in the application.
STRAIGHT: web.AppKey[Mapping[str, Handler]] = web.AppKey("straight")


def build(settings: Settings, classifier: Classifier) -> web.Application:
    """The application for one process. The service starts with it and is closed with it."""
    # aiohttp's own default of 1 MiB would refuse every request with an image in it.
    app = web.Application(client_max_size=settings.max_body_bytes)
    service = app[SERVICE] = Service(settings, classifier)
    app[vectors.EMBEDDER] = vectors.LocalEmbedder()
    app.cleanup_ctx.append(_serving)
    doors = {path: routed(door, service) for path, door in _DOORS.items()}
    app[STRAIGHT] = doors
    for path, handler in doors.items():
        _add(app, "POST", path, handler)
    _add(app, "POST", "/v1/messages/count_tokens", endpoint(admin.count_tokens))
    _add(app, "POST", "/v1/embeddings", vectors.create)
    _add(app, "GET", "/v1/models", endpoint(admin.models))
    _add(app, "GET", "/v1/models/{id}", endpoint(admin.model))
    _add(app, "POST", "/classify", endpoint(admin.classify))
    _add(app, "POST", "/retrain", endpoint(admin.retrain, admin=True))
    _add(app, "POST", "/feedback", endpoint(admin.give_feedback, admin=True))
    _add(app, "GET", "/health", endpoint(admin.health, open_to_all=True))
    _add(app, "GET", "/ready", endpoint(admin.ready, open_to_all=True))
    _add(app, "GET", "/metrics", endpoint(admin.show_metrics))
    _add(app, "GET", "/", endpoint(admin.index))
    _add(app, "GET", "/dashboard", endpoint(dashboard, open_to_all=True))
    app.router.add_route("*", "/{unknown:.*}", endpoint(not_found, open_to_all=True), expect_handler=expectation)
    return app


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """One endpoint; any other method on its path is a 405 in OpenAI's shape."""
    resource = app.router.add_resource(path)
    resource.add_route(method, handler, expect_handler=expectation)
    if method == "GET":
        resource.add_route("HEAD", handler, expect_handler=expectation)
    resource.add_route("*", endpoint(wrong_method, open_to_all=True), expect_handler=expectation)


async def _serving(app: web.Application) -> AsyncIterator[None]:
    service = app[SERVICE]
    await service.start()
    await service.ready()
    yield
    await service.close()
