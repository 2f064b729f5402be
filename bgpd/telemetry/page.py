"""The web page at `/`: three static files inside the package, which use the same JSON as everybody else.

Nothing is built and nothing is fetched from elsewhere; the Content-Security-Policy makes a browser hold the
page to that. The files hold no secrets and are served without a token; what they show, the page asks for
with the token its reader types in.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES = {
    "/": "index.html",
    "/page/style.css": "style.css",
    "/page/page.js": "page.js",
    "/page/draw.js": "draw.js",
    "/page/icon.svg": "icon.svg",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes() -> list[web.RouteDef]:
    """The page's files, read once. Raises FileNotFoundError if the package lacks one."""
    folder = files("bgpd.telemetry") / "web"
    return [
        web.get(path, _answering((folder / name).read_text("utf-8"), name)) for path, name in FILES.items()
    ]


def _answering(text: str, name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    kind = _TYPES[name.rpartition(".")[2]]

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind, charset="utf-8", headers=_HEADERS)

    return answer
