"""The OpenAPI 3.1 description of the gateway's routes.

A test walks tornado's rules and compares: a route or method that is missing here, or only here,
fails it. The isolation tests are generated from this document.
"""

from __future__ import annotations

from typing import Any

from clouditia import __version__

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_ENV: Schema = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 4096}}
_UUID: Schema = {"type": "string", "format": "uuid"}

_KERNEL_START: Schema = {
    "type": "object",
    "properties": {
        "name": _TEXT | {"description": "kernelspec; default: the gateway's"},
        "path": _TEXT | {"description": "notebook or folder, relative"},
        "env": _ENV,
        "kernel_id": _UUID | {"description": "makes a repeated call harmless"},
    },
}
_SESSION: Schema = {
    "type": "object",
    "properties": {
        "path": _TEXT,
        "name": _TEXT,
        "type": _TEXT,
        "env": _ENV,
        "kernel": {"type": "object", "properties": {"id": _UUID, "name": _TEXT}},
    },
}
_LOGIN: Schema = {
    "type": "object",
    "properties": {"password": _TEXT | {"description": "an API key"}, "_xsrf": _TEXT},
}

_PUBLIC: list[dict[str, list[str]]] = []


def _operation(
    summary: str,
    *,
    body: Schema | None = None,
    media_type: str = "application/json",
    status: int = 200,
    is_public: bool = False,
    needs_admin: bool = False,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            str(status): {"description": "done"},
            "default": {
                "description": "an error",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"content": {media_type: {"schema": body}}}
    if is_public:
        operation["security"] = _PUBLIC
    if needs_admin:
        operation["x-clouditia-admin"] = True
    return operation


def _websocket(summary: str, *, for_hosts: bool = False) -> dict[str, Any]:
    operation = _operation(summary, status=101)
    operation["x-clouditia-websocket"] = True
    if for_hosts:
        operation["security"] = [{"hostToken": []}]
    return operation


_FORM = "application/x-www-form-urlencoded"

_PATHS: dict[str, dict[str, dict[str, Any]]] = {
    "/": {"get": _operation("A page that says who is logged in", is_public=True)},
    "/tree": {"get": _operation("Redirect to / or to the login", is_public=True, status=302)},
    "/login": {
        "get": _operation("The login form", is_public=True),
        "post": _operation(
            "Log in with a key", body=_LOGIN, media_type=_FORM, is_public=True, status=302
        ),
    },
    "/logout": {"post": _operation("Forget the login cookie", status=204)},
    "/health": {"get": _operation("Whether the gateway works", is_public=True)},
    "/api": {"get": _operation("Version of the Jupyter REST interface", is_public=True)},
    "/api/status": {"get": _operation("Jupyter's status model")},
    "/api/me": {"get": _operation("Who the caller is")},
    "/api/kernelspecs": {"get": _operation("All kernelspecs")},
    "/api/kernelspecs/{name}": {"get": _operation("One kernelspec")},
    "/kernelspecs/{name}/{file_name}": {"get": _operation("A logo of a kernelspec")},
    "/api/kernels": {
        "get": _operation("The caller's kernels"),
        "post": _operation("Start a kernel", body=_KERNEL_START, status=201),
    },
    "/api/kernels/{kernel_id}": {
        "get": _operation("One kernel"),
        "delete": _operation("End a kernel", status=204),
    },
    "/api/kernels/{kernel_id}/interrupt": {
        "post": _operation("Interrupt what a kernel runs", status=204)
    },
    "/api/kernels/{kernel_id}/restart": {"post": _operation("Restart a kernel in place")},
    "/api/kernels/{kernel_id}/channels": {
        "get": _websocket(
            "The kernel's messages: v1.resume.clouditia, v1.kernel.websocket.jupyter.org, legacy"
        )
    },
    "/api/sessions": {
        "get": _operation("The caller's sessions"),
        "post": _operation("The session at a path", body=_SESSION, status=201),
    },
    "/api/sessions/{session_id}": {
        "get": _operation("One session"),
        "patch": _operation("Rename, move, or give another kernel", body=_SESSION),
        "delete": _operation("End a session and its kernel", status=204),
    },
    "/clouditia/api/v1/info": {"get": _operation("Version, protocol, features, limits")},
    "/clouditia/api/v1/openapi.json": {"get": _operation("This description")},
    "/clouditia/api/v1/drain": {
        "post": _operation("End all kernels of all users", needs_admin=True)
    },
    "/clouditia/host/v1/{kernel_id}/control": {
        "get": _websocket("A kernel host's control connection", for_hosts=True)
    },
    "/clouditia/host/v1/{kernel_id}/data/{connection_id}": {
        "get": _websocket("A kernel host's end of one client link", for_hosts=True)
    },
}

_ERROR: Schema = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": _TEXT,
        "reason": _TEXT | {"description": "repeats code"},
        "message": _TEXT,
        "hint": _TEXT,
        "retryable": {"type": "boolean"},
        "request_id": {"type": ["string", "null"]},
        "details": {"type": "object"},
        "retry_after": {"type": ["number", "null"], "description": "seconds"},
    },
}


def openapi_document(base_url: str = "/") -> dict[str, Any]:
    """The document, with ``base_url`` as its server."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Clouditia gateway", "version": __version__},
        "servers": [{"url": base_url.rstrip("/") or "/"}],
        "security": [{"key": []}],
        "paths": {path: _with_parameters(path, item) for path, item in _PATHS.items()},
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "an API key"},
                "hostToken": {"type": "http", "scheme": "bearer", "description": "of one launch"},
            },
        },
    }


def _with_parameters(path: str, item: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if not names:
        return dict(item)
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    return {"parameters": parameters, **item}
