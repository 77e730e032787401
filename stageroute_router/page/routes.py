"""The page's endpoints: a shell and its files without a key, what is told of groups for those who may read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from stageroute_router.charts.drawing import ThemeName
from stageroute_router.charts.renderer import Painting
from stageroute_router.charts.worker import Job
from stageroute_router.errors import SettingsError, StageRouteError
from stageroute_router.page.cache import Looking
from stageroute_router.page.rendering import ChartKind, Rendering, charts_of
from stageroute_router.reports.endpoints import PREFIX
from stageroute_router.reports.reports import Reports

WIDTHS = (280, 320, 360, 420, 480, 540, 620, 720, 840, 960, 1080, 1200)
"""Widths that charts are drawn in, in pixels: few, so that few are drawn. The browser stretches the rest."""

_THREADS = 4
"""So many looks at a time wait for reports, and as many for pictures: never the event loop, never LiteLLM's threads."""

_LONGEST_NAME = 512

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def build(
    *, reports: Callable[[], Reports], may_read: Callable[..., Any], route_class: type[APIRoute] | None
) -> APIRouter:
    """Return the page's router; see :func:`stageroute_router.page.page_router`."""
    router = APIRouter()
    router.include_router(_files())
    router.include_router(_data(reports, route_class or APIRoute), dependencies=[Depends(may_read)])
    return router


def _files() -> APIRouter:
    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    folder = files("stageroute_router.page") / "static"
    contents = {name: (folder / name).read_bytes() for name in (*_FILES, "shell.html")}

    @router.get("")
    def redirect() -> Response:
        return RedirectResponse("stageroute/", headers=_HEADERS)

    @router.get("/")
    def shell(request: Request) -> Response:
        return _conditional(request, contents["shell.html"], media_type="text/html; charset=utf-8")

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        if name not in _FILES:
            return JSONResponse({"detail": "there is no such file"}, status_code=404, headers=_HEADERS)
        return _conditional(request, contents[name], media_type=_FILES[name])

    return router


def _data(reports: Callable[[], Reports], route_class: type[APIRoute]) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/page", include_in_schema=False, route_class=route_class)
    looking, painting = Looking(reports), Painting()
    _add_fragments(router, looking, painting)
    _add_charts(router, looking, painting)
    return router


def _add_fragments(router: APIRouter, looking: Looking, painting: Painting) -> None:
    rendering = Rendering()
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stageroute-page")

    @router.get("/groups")
    async def groups(request: Request) -> Response:
        def tell() -> Response:
            if "if-none-match" not in request.headers:
                painting.prepare()  # a first look: charts are asked for soon, and it takes longer than all the rest
            look = looking.groups()
            return _fragment(request, tag=look.version, render=lambda: rendering.groups(look))

        return await _told(threads, tell)

    @router.get("/group")
    async def group(
        request: Request,
        name: Annotated[str, Query(max_length=_LONGEST_NAME)],
        arms: Literal["few", "all"] = "few",
        stages: Literal["few", "all"] = "few",
        segments: Literal["few", "all"] = "few",
    ) -> Response:
        def tell() -> Response:
            look = looking.group(name)
            tag = f"{look.version}-{arms}-{stages}-{segments}"
            if not _has(request, f'"{tag}"'):
                painting.prepare()  # charts are asked for next
            return _fragment(
                request,
                tag=tag,
                render=lambda: rendering.group(
                    look,
                    all_arms=arms == "all",
                    all_stages=stages == "all",
                    all_segments=segments == "all",
                ),
            )

        return await _told(threads, tell)

    @router.get("/decision")
    async def decision(request: Request, key: Annotated[str, Query(max_length=_LONGEST_NAME)]) -> Response:
        def tell() -> Response:
            receipt = looking.receipt(key)
            if receipt is None:
                return Response(
                    rendering.no_receipt(key), status_code=404, media_type="text/html", headers=_private()
                )
            return _fragment(request, tag=None, render=lambda: rendering.receipt(receipt))

        return await _told(threads, tell)


def _add_charts(router: APIRouter, looking: Looking, painting: Painting) -> None:
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stageroute-charts")

    @router.get("/chart")
    async def chart(
        *,
        request: Request,
        group: Annotated[str, Query(max_length=_LONGEST_NAME)],
        kind: ChartKind,
        theme: ThemeName = "light",
        width: Annotated[int, Query(ge=1, le=10_000)] = 720,
        zone: Annotated[int, Query(ge=-14 * 60, le=14 * 60)] = 0,
    ) -> Response:
        drawn_width = max((one for one in WIDTHS if one <= width), default=WIDTHS[0])

        def tell() -> Response:
            found = {one.kind: one for one in charts_of(looking.group(group))}.get(kind)
            if found is None:
                return _refusal(404, f"there is nothing to draw of group {group!r} yet")
            tag = f"{found.version}-{theme}-{drawn_width}-{zone}"
            job = Job(
                name=kind,
                figure=found.figure,
                label=found.label,
                theme=theme,
                width=drawn_width,
                zone_minutes=zone,
            )
            return _fragment(
                request,
                tag=tag,
                render=lambda: painting.picture((group, tag), job),
                media_type="image/svg+xml",
            )

        return await _told(threads, tell)


async def _told(pool: ThreadPoolExecutor, tell: Callable[[], Response]) -> Response:
    """Return an answer that takes a moment, made in a thread; errors of ours as what a browser can act on."""
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, tell)
    except SettingsError as error:
        return _refusal(404, str(error))
    except StageRouteError as error:
        return _refusal(503, str(error))


def _refusal(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status_code=status, headers=_private())


def _fragment(
    request: Request,
    *,
    tag: str | None,
    render: Callable[[], str],
    media_type: str = "text/html",
) -> Response:
    """Return what was rendered, or that it is what the browser has already; then nothing is rendered.

    Args:
        request: whose answer it is.
        tag: changes when the content does; None to render in any case.
        render: makes the content.
        media_type: of the content.
    """
    answered = _private()
    if tag is not None:
        answered["ETag"] = f'"{tag}"'
        if _has(request, answered["ETag"]):
            return Response(status_code=304, headers=answered)
    return Response(render(), media_type=media_type, headers=answered)


def _conditional(request: Request, content: bytes, *, media_type: str) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {**_HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _has(request: Request, tag: str) -> bool:
    return tag in {
        one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")
    }


def _private() -> dict[str, str]:
    # Never on a disk: the next user of the browser has another key.
    return {**_HEADERS, "Cache-Control": "no-store"}
