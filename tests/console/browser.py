"""A headless Chromium, driven by its DevTools protocol.

Every wait is for a condition. What the browser's console says is kept: a page that works says nothing.
"""

import base64
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

from PIL import Image
from websockets.sync.client import connect

# Far beyond what anything takes: reached only if the condition never holds.
DEADLINE = 60
POLL = 0.05


def eventually(what, attempt):
    """Tries until something true comes back, and tells what the last attempt gave if none does."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = attempt()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {DEADLINE} s: {found!r}")
        time.sleep(POLL)


class Browser:
    """One page of one browser, which ends with the block."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="stator-console-")
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0",
            "--remote-allow-origins=*", f"--user-data-dir={self.folder}", "about:blank",
        ]
        self.log = open(f"{self.folder}/chromium.log", "wb")
        # A group of its own: the browser is many processes.
        self.process = subprocess.Popen(["chromium", *flags], stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        try:
            port = eventually("the browser starts", self._port)
            pages = lambda: [one for one in self._pages(port) if one["type"] == "page"]
            page = eventually("the browser has a page", pages)[0]
            self.socket = connect(page["webSocketDebuggerUrl"], max_size=None)
            self.last, self.said, self.asked = 0, [], []
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        # Those that are just ending may still write.
        eventually("its folder goes", self._is_gone)

    def _is_gone(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        return not os.path.exists(self.folder)

    def _port(self):
        if self.process.poll() is not None:
            log = pathlib.Path(self.log.name).read_text(errors="replace")
            raise AssertionError(f"the browser ended: {self.process.returncode}\n{log[-2000:]}")
        file = pathlib.Path(self.folder, "DevToolsActivePort")
        lines = file.read_text().splitlines() if file.exists() else []
        return int(lines[0]) if len(lines) > 1 else None

    @staticmethod
    def _pages(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE) as answer:
            return json.load(answer)

    def call(self, method, **parameters):
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=DEADLINE))
            if message.get("id") == self.last:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, event):
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.said.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.said.append(json.dumps(told["entry"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def requested(self):
        """Every address that the pages have asked for."""
        return self.asked

    def open(self, address):
        self.call("Page.navigate", url=address)

    def run(self, script):
        """The value of a script's expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, (script, result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, what, script):
        """Waits until a script's expression is true; tells what the page says if it never is."""
        failed = []

        def attempt():
            # While a page goes and the next one comes there may be nothing to run it on.
            try:
                return self.run(script)
            except AssertionError as error:
                failed[:] = [error]

        try:
            return eventually(what, attempt)
        except AssertionError as error:
            words = self.run("document.body.innerText")
            raise AssertionError(f"{error}\n{failed}\n{words}\n{self.said}") from None

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key, code):
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, path):
        shot = self.call("Page.captureScreenshot", format="png")
        picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
        # Half of the size, and nobody sees it.
        picture.quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
