"""A headless browser that opens a page of a folder and posts back what it has found."""

import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The folder dist of the npm package onnxruntime-web.
ORT_WEB = Path(os.environ["BRCD_ORT_WEB"]) if os.environ.get("BRCD_ORT_WEB") else None


@contextmanager
def served(folder):
    """Serves a folder; gives its address and a queue of what is posted."""
    posted = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def guess_type(self, path):
            return "text/javascript" if path.endswith(".mjs") else super().guess_type(path)

        def do_POST(self):
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", posted
        server.shutdown()


def answer_of(folder, script, profile, timeout=120):
    """What a module script posts to the server that serves `folder`."""
    (folder / "test.html").write_text(
        "<!doctype html><script type=module>"
        "const post = (body) => fetch('/', {method: 'POST', body: JSON.stringify(body)});\n"
        f"try {{ {script} }} catch (error) {{ post({{error: String(error)}}); }}</script>"
    )
    with served(folder) as (address, posted):
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
        command = [
            CHROMIUM,
            *options,
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            f"{address}/test.html",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return posted.get(timeout=timeout)
        finally:
            process.terminate()
            process.wait(20)
