"""The page to try models: three files of this package, which load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

FOLDER = Path(__file__).parent.parent / "page"
FILES = {"style.css": "text/css", "abilities.js": "text/javascript", "page.js": "text/javascript"}
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
"""Content-Security-Policy: nothing from elsewhere; widths of bars are styles in the page."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> FileResponse:
    """Return the page."""
    return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": POLICY})


@router.get("/page/{name}")
async def file(name: str) -> FileResponse:
    """Return a file of the page."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(FOLDER / name, media_type=FILES[name])
