# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Servers outside, on the host itself: whoever webhooks are delivered to, and a provider of models that speaks as OpenAI does.

The host is asked at an address of the internet that only it has, and with a certificate that only it trusts. What MLflow looks at
is a public address and a trusted name, with nothing switched off. Run on a host by systemd-run, it writes down each request.
"""

import base64
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Somebody's, so that no list of reserved ones has it. It never leaves the host.
PUBLIC, NAME, PORT = "11.22.33.44", "outside.example.net", 8443
URL = f"https://{NAME}:{PORT}"
FOLDER = "/run/outside-test"
# Between the two halves of an answer that comes word by word.
PAUSE = 3.0
WORDS = "hello ", "from outside"
BEGIN = f"""
set -eu
umask 022; mkdir -p {FOLDER}; cd {FOLDER}; : >told
cp /etc/hosts hosts.before; echo '{PUBLIC} {NAME}' >>/etc/hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj '/CN=an authority outside' \\
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.crt 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj '/CN={NAME}' \\
  -keyout server.key -out server.csr 2>/dev/null
printf '%s\\n' subjectAltName=DNS:{NAME},IP:{PUBLIC},IP:PRIVATE subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >names
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names \\
  -out server.crt 2>/dev/null
trusted=$(/opt/mlflow/current/bin/python -c 'import certifi; print(certifi.where())')
cp -a "$trusted" trusted.before; echo "$trusted" >trusted.path; cat ca.crt >>"$trusted"
echo "/etc/ssl/certs/$(openssl x509 -in ca.crt -noout -hash).0" >linked.path; cp ca.crt "$(cat linked.path)"
base64 --decode >outside.py <<<'PROGRAM'
systemd-run --quiet --collect --unit=outside-test python3 {FOLDER}/outside.py PRIVATE
"""
END = f"""
cd {FOLDER} || exit 0
systemctl stop outside-test
[ ! -e trusted.path ] || cat trusted.before >"$(cat trusted.path)"
[ ! -e linked.path ] || rm -f "$(cat linked.path)"
[ ! -e hosts.before ] || cat hosts.before >/etc/hosts
cd /; rm -rf {FOLDER}
"""


class Outside:
    """The same from a test: what it was told, and whoever its name leads to."""

    def __init__(self, server):
        self._server = server

    def _address(self, does):
        """The machine may not change its own network."""
        # Where this runs on a machine by itself, no test's module is there.
        from network import inside

        self._server.deployment.here(f"{inside(self._server.deployment, self._server.host)} ip address {does} {PUBLIC}/32 dev lo")

    def begin(self):
        self._address("replace")
        program = base64.b64encode(Path(__file__).read_bytes()).decode()
        self._server.run(BEGIN.replace("PROGRAM", program).replace("PRIVATE", self._server.address))

    def end(self):
        self._server.run(END, check=False)
        self._address("del")

    def told(self, path=None):
        found = [json.loads(line) for line in self._server.run(f"cat {FOLDER}/told").splitlines()]
        return [told for told in found if path in (None, told["path"])]

    def lead_to(self, address):
        self._server.run(f"cd {FOLDER} && (cat hosts.before; echo '{address} {NAME}') >hosts.now && cat hosts.now >/etc/hosts")


def serve(addresses):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = {"at": self.server.server_address[0], "path": self.path, "headers": headers, "body": body}
            with open(f"{FOLDER}/told", "a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")
            if self.path.endswith("/chat/completions"):
                self._answer_as_a_model(json.loads(body))
            elif self.path == "/away":
                self._answer(307, b"", Location=f"https://{addresses[1]}:{PORT}/stolen")
            else:
                self._answer(200, b"{}")

        def _answer(self, status, body, **headers):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _answer_as_a_model(self, asked):
            about = {"id": "chat-1", "created": 1, "model": asked["model"]}
            if not asked.get("stream"):
                choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                said = {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
                self._answer(200, json.dumps(said).encode())
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for number, word in enumerate(WORDS):
                time.sleep(PAUSE * number)
                choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
                said = {**about, "object": "chat.completion.chunk", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True

        def log_message(self, *_):
            pass

    for address in addresses:
        server = ThreadingHTTPServer((address, PORT), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{FOLDER}/server.crt", f"{FOLDER}/server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    serve([PUBLIC, sys.argv[1]])
