"""A custom prediction container of a few lines: what `emulator.image_table` puts in place of its image.

It answers as FLAWS, and each request's instances, ask it to; see the tests that use it.
"""

import http.server
import json
import os
import sys
import threading
import time

FLAWS = os.environ.get("FLAWS", "").split()
#: Set by the wish "go on", for which a stream waits after its first piece.
GOES_ON = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_health = self.path == os.environ["AIP_HEALTH_ROUTE"]
        is_sick = "sick" in FLAWS or os.path.exists("sick")
        self.answer(404 if not is_health else 503 if is_sick else 200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wish = body["instances"][0]
        if wish == "die":
            os._exit(3)
        if wish == "fall sick":
            open("sick", "w").close()
        if wish == "close":
            self.close_connection = True
            return
        if wish == "sleep":
            time.sleep(600)
        if wish == "go on":
            GOES_ON.set()
        if wish == "read":
            from google.cloud import storage

            bucket, _, prefix = os.environ["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
            blobs = storage.Client().list_blobs(bucket, prefix=f"{prefix}/")
            said = {blob.name.removeprefix(f"{prefix}/"): blob.download_as_text() for blob in blobs}
            self.answer(200, {"predictions": [said]})
        elif wish == "stream":
            self.stream(*body["instances"][1:])
        elif wish == "no json":
            self.answer(200, None)
        elif wish == "status":
            self.answer(body["instances"][1], {"said": "no"})
        else:
            described = {"path": self.path, "argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.listdir(".")}
            self.answer(200, {"predictions": [described]})

    def stream(self, count: int, size: int, ends: bool = True) -> None:
        """So many pieces of so many bytes, the second once somebody said "go on"; perhaps without an end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            if number:
                GOES_ON.wait(60)
            self.wfile.write(b"%x\r\n%s\r\n" % (size, b"%d" % (number % 10) * size))
        if ends:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True
        GOES_ON.clear()

    def answer(self, status: int, document: object) -> None:
        data = b"<html>" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    if "exit" in FLAWS:
        sys.exit("cannot find my weights")
    http.server.ThreadingHTTPServer(("", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
