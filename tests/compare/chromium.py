"""Headless Chromium: what it makes of a page."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="neither chromium nor google-chrome is installed")


def browse(page, folder, script="null"):
    """Open a page, run an expression in it, and return the expression's value and what the console was told.

    Args:
        page: HTML.
        folder: For the page and the browser's own files.
        script: JavaScript whose value JSON can hold; the page's policy is widened to let it run.
    """
    source = f"document.documentElement.setAttribute('data-found', JSON.stringify({script}))"
    allowed = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    page = page.replace("script-src '", f"script-src 'sha256-{allowed}' '").replace(
        "</body>", f"<script>{source}</script></body>"
    )
    path = folder / "page.html"
    path.write_text(page)
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    logged = ("--enable-logging=stderr", "--virtual-time-budget=2000", f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [PROGRAM, *options, *logged, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), re.findall(r":CONSOLE[^\n]*", done.stderr)
