"""`GET /dashboard`: one self-contained page that draws from `/metrics`.

The page holds no data, so it is served without a key; it asks for one where `/metrics` does. It runs under a policy
that names its own script and style by hash: an injected script, a foreign host or a form that posts elsewhere gets
nowhere.
CSP: https://www.w3.org/TR/CSP3/.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from aiohttp import web

_PAGE = Path(__file__).with_name("dashboard.html").read_bytes()


def _hashes(tag: bytes) -> str:
    """The CSP sources of every inline `<tag>` of the page."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), _PAGE, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(body).digest()).decode()}'" for body in found)


_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(b'script')}",
            f"style-src {_hashes(b'style')}",
            "img-src data:",  # the tab's icon
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


async def dashboard(request: web.Request) -> web.StreamResponse:
    """`GET /dashboard`: the page, from memory."""
    return web.Response(body=_PAGE, headers=_HEADERS)
