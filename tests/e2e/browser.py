"""A real browser, Debian's Chromium, and servers of web pages for it.

One browser shows one page after the other. Each page tells its own server when it has finished and what it found, and
asks there for the page to go to next; nothing looks into the browser or waits for time to pass.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# For broken code only: how long a page may take, its browser's start included.
PATIENCE = 120

COMMAND = [
    "chromium",
    "--headless",
    # Users other than root would not need it; tests often run as root.
    "--no-sandbox",
    "--disable-gpu",
    # /dev/shm is small in containers.
    "--disable-dev-shm-usage",
    # Nothing but what the pages ask for.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-proxy-server",
]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page that calls nodes</title>
<script>
  const tell = async (told) => {
    await fetch("/told", {method: "POST", body: JSON.stringify(told)});
    location.replace(await (await fetch("/next")).text());
  };
  // What never ran, because it is no JavaScript.
  window.addEventListener("error", (event) => tell({failed: event.message}));
</script>
<script type="module">
  const given = GIVEN;
  const work = async () => {
SCRIPT
  };
  try {
    await tell({value: (await work()) ?? null});
  } catch (error) {
    await tell({failed: `${error.name}: ${error.message}`});
  }
</script>
"""


class Browser:
    """Shows pages; started with the first one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "browser.log"
        self.next: queue.Queue[str] = queue.Queue()

    def show(self, url: str) -> None:
        if self._process is not None:
            self.next.put(url)
            return
        command = [*COMMAND, f"--user-data-dir={self._directory / 'profile'}", url]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def state(self) -> str:
        """For whoever has waited in vain."""
        ended = None if self._process is None else self._process.poll()
        log = self._log.read_text(errors="replace")
        return f"the browser {'runs' if ended is None else f'ended with {ended}'}: {log}"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Site:
    """A web server with one page, on an origin of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._page = ""
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                if self.path == "/next":
                    self.answer(site._browser.next.get(), "text/plain")
                elif self.path.startswith("/page"):
                    self.answer(site._page, "text/html")
                else:
                    self.send_error(404)

            def do_POST(self) -> None:  # noqa: N802
                site._told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer("", "text/plain")

            def answer(self, text: str, kind: str) -> None:
                body = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                # A browser that is closed while it waits for its next page.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def run(self, script: str, **given: Any) -> Any:
        """Shows a page with this script, the body of an async function in which `given` is known.

        Returns what it returns. What it throws is raised.
        """
        # No text of a script can end it: "</script>" inside a string would.
        known = json.dumps(given).replace("<", "\\u003c")
        self._page = PAGE.replace("SCRIPT", script).replace("GIVEN", known)
        self._browser.show(f"{self.origin}/page")
        try:
            told = self._told.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"the page has not told anything; {self._browser.state()}") from None
        assert "failed" not in told, told["failed"]
        return told["value"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def browser_with_sites(directory: Path, count: int) -> Iterator[list[Site]]:
    """A browser, and web servers of as many origins."""
    browser = Browser(directory)
    sites = [Site(browser) for _ in range(count)]
    try:
        yield sites
    finally:
        browser.close()
        for site in sites:
            site.close()
