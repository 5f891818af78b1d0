# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Whoever webhooks are delivered to: run on a host by systemd-run, it writes down each request and what it was told."""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER, ADDRESS, PRIVATE = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        told = {"at": self.server.server_address[0], "path": self.path, "headers": dict(self.headers), "body": body}
        with open(f"{FOLDER}/told", "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        to = {"/away": f"https://{PRIVATE}:8443/stolen", "/plain": f"http://{PRIVATE}:8443/stolen"}.get(self.path)
        self.send_response(307 if to else 200)
        if to:
            self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(address):
    server = ThreadingHTTPServer((address, 8443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{FOLDER}/server.crt", f"{FOLDER}/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


threading.Thread(target=serve, args=(PRIVATE,)).start()
serve(ADDRESS)
