# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Run on a host as root: a second nginx with the host's own configuration on other ports, and behind it, in the service's
place, something that answers with the headers that it got.

Reads a JSON list of [path, [[name, value]…], version of HTTP] from standard input, prints the list of what arrived.
"""

import json
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PORTS = {"443": "44301", "80": "44302"}


class Recorder(socketserver.StreamRequestHandler):
    def handle(self):
        line, headers, length = self.rfile.readline().decode("latin-1").strip(), [], 0
        while header := self.rfile.readline().decode("latin-1").strip():
            name, _, value = header.partition(":")
            headers.append([name, value.strip()])
            if name.lower() == "content-length":
                length = int(value)
        self.rfile.read(length)
        body = json.dumps({"line": line, "headers": headers}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def ask(path, headers, version):
    command = ["curl", "--silent", "--insecure", "--path-as-is", f"--{version}", "--max-time", "10"]
    for name, value in headers:
        command += ["--header", f"{name}: {value}" if value else f"{name};"]
    done = subprocess.run([*command, f"https://127.0.0.1:{PORTS['443']}{path}"], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"line": "", "headers": [], "instead": done.stdout[:300] + done.stderr}


def main():
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree("/etc/nginx", f"{folder}/nginx", symlinks=True)
        # What is linked from elsewhere in the folder (sites-enabled) is copied as what it is.
        for path in [p for p in Path(folder).rglob("*") if p.is_file()]:
            text = path.read_text(errors="surrogateescape")
            if path.is_symlink():
                path.unlink()
            text = text.replace("/etc/nginx/", f"{folder}/nginx/").replace("/run/mlflow/mlflow.sock", f"{folder}/recorder.sock")
            text = re.sub(r"^\s*pid\s[^;]*;", f"pid {folder}/pid;", text, flags=re.MULTILINE)
            text = re.sub(r"^(\s*listen\s+(?:\S+:)?)(443|80)\b", lambda m: m[1] + PORTS[m[2]], text, flags=re.MULTILINE)
            text = re.sub(r"(access_log|error_log)\s+/[^;]*;", r"\1 /dev/null;", text)
            path.write_text(text, errors="surrogateescape")
        with Server(f"{folder}/recorder.sock", Recorder) as server:
            Path(folder, "recorder.sock").chmod(0o666)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            command = ["nginx", "-c", f"{folder}/nginx/nginx.conf", "-g", "daemon off;"]
            nginx = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                ask("/health", [["Retry", "1"]], "http1.1")
                for _ in range(50):
                    if ask("/health", [], "http1.1")["line"]:
                        break
                    threading.Event().wait(0.1)
                print(json.dumps([ask(*one) for one in asked]))
            finally:
                nginx.terminate()
                nginx.wait(timeout=20)
            server.shutdown()


main()
