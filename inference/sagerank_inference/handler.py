"""The SageMaker inference toolkit's four functions, for AWS's own containers.

SAGEMAKER_PROGRAM=sagerank_inference.handler. The toolkit calls them by parameter count, so each takes exactly
what it names and options stay in the request. One engine serves the process; merging requests is what
sagerank_inference.server is for.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from .contract import Limits, RerankError
from .dialects import CSV, Call, accepts, parse, render, render_error
from .engine import Engine
from .scale import AS_IT_IS
from .settings import Settings

Render = Callable[..., tuple[bytes, str]]
# Of the settings and the artefact that model_fn read: input_fn gets nothing but the request.
_limits = Limits()
_scale = AS_IT_IS


def model_fn(model_dir: str) -> Engine:
    """Load and check the artefact SageMaker unpacked. Settings are the server's, SAGERANK_*.

    Raises SettingsError or ArtefactError.
    """
    global _limits, _scale
    settings = dataclasses.replace(Settings.from_env(), model_dir=Path(model_dir))
    _limits = Limits(max_documents=settings.max_documents, max_body_bytes=settings.max_body_bytes)
    engine = Engine.load(settings.model_dir, settings)
    _scale = engine.manifest.scale
    return engine


def input_fn(body: bytes | str, content_type: str) -> Call:
    """Read a request of any dialect, within the limits that the settings had when the model was loaded."""
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    try:
        return parse(data, content_type, limits=_limits, scale=_scale)
    except RerankError as error:
        _refuse(error)


def predict_fn(call: Call, engine: Engine) -> Render:
    """Score a request, and return what makes its answer in the media type that the caller accepts."""
    try:
        scores = engine.scores(call)
    except RerankError as error:
        _refuse(error)
    return partial(render, call, scores, model=engine.manifest.model, request_id=uuid.uuid4().hex)


def output_fn(prediction: Render, accept: str) -> tuple[str, str]:
    """Return body and content type: CSV where that is accepted, else what the request's dialect says."""
    # The toolkit puts JSON where the caller names nothing.
    body, content_type = prediction(accept=accept if accepts(accept) == CSV else "")
    return body.decode(), content_type


def _refuse(error: RerankError) -> NoReturn:
    """Raise what the toolkit answers with the error's own status and the dialect's own body."""
    refusal = render_error(error, path="/invocations", request_id=uuid.uuid4().hex)
    body, code = refusal.body.decode(), refusal.status
    try:
        from sagemaker_inference.errors import BaseInferenceToolkitError
    except ImportError:
        raise ValueError(body) from None
    raise BaseInferenceToolkitError(code, body, HTTPStatus(code).phrase) from None
