"""The plugin as TensorBoard sees it: pages and data over HTTP."""

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug.wrappers import Request, Response

from lightning_stiffness.plugin.discovery import log_folders
from lightning_stiffness.plugin.frames import finite
from lightning_stiffness.plugin.payload import run_payload, runs_payload, view_payload
from lightning_stiffness.plugin.store import History, Store

TYPES = {".js": "text/javascript", ".css": "text/css"}
"""Ending of a static file → its content type."""


class StiffnessPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """Tab "Stiffness": the results that ``StiffnessResult.save`` wrote under the log directory.

    Args:
        context: TensorBoard's; the log directory is taken from it.

    Example:
        >>> plugin = StiffnessPlugin(base_plugin.TBContext(logdir="/no/such/folder"))
        >>> plugin.is_active(), sorted(plugin.get_plugin_apps())
        (False, ['/run', '/runs', '/static/*', '/view'])
    """

    plugin_name = "stiffness"

    def __init__(self, context: Any) -> None:
        flags = context.flags
        self.store = Store(log_folders(context.logdir, getattr(flags, "logdir_spec", None)))

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Routes below ``/data/plugin/stiffness``."""
        answers = {"/runs": self._runs, "/run": self._run, "/view": self._view, "/static/*": self._file}
        return {route: _application(answer) for route, answer in answers.items()}

    def is_active(self) -> bool:
        """Whether any run has results."""
        return self.store.any_runs()

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """What TensorBoard puts into the frame below the tab."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="Stiffness")

    def _runs(self, request: Request) -> Response:
        return _json(request, runs_payload(*self.store.list_runs()))

    def _run(self, request: Request) -> Response:
        return _json(request, run_payload(self._history(request)))

    def _view(self, request: Request) -> Response:
        history = self._history(request)
        block, measure = request.args.get("block", ""), request.args.get("measure", "")
        try:
            packed = view_payload(history, block, measure)
        except KeyError:
            raise _NotFoundError("the run has nothing measured for this block and measure") from None
        return _respond(request, packed, "application/octet-stream")

    def _file(self, request: Request) -> Response:
        # Looked up among the files there are, never made into a path.
        name = request.path.rpartition("/static/")[2]
        for file in resources.files("lightning_stiffness.plugin").joinpath("static").iterdir():
            kind = TYPES.get("." + file.name.rpartition(".")[2])
            if file.name == name and kind is not None:
                return _respond(request, file.read_bytes(), kind)
        raise _NotFoundError("there is no such file")

    def _history(self, request: Request) -> History:
        name = request.args.get("run", "")
        try:
            return self.store.history(name)
        except KeyError:
            raise _NotFoundError("there is no run of this name with results under the log directory") from None


class _NotFoundError(Exception):
    """What was asked for is not there; the text goes to the browser."""


def _application(answer: Callable[[Request], Response]) -> Callable[..., Any]:
    @Request.application
    def application(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _json(request, {"error": f"expected GET, got {request.method}"}, code=405)
        try:
            return answer(request)
        except _NotFoundError as error:
            return _json(request, {"error": str(error)}, code=404)

    return application


def _json(request: Request, content: dict[str, Any], code: int = 200) -> Response:
    return _respond(request, json.dumps(finite(content), allow_nan=False), "application/json", code)


def _respond(request: Request, content: str | bytes, kind: str, code: int = 200) -> Response:
    response: Response = http_util.Respond(request, content, kind, code=code)
    return response
