"""A hub of one machine, in memory: as much of its HTTP interface as huggingface_hub needs to push and fetch a model."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def hub_server():
    """(address, {repository: {path: bytes}})."""
    repositories = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status, value=b"", **headers):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                repositories.setdefault(name, {})
                self.answer(200, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
            elif self.path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif "/commit/" in self.path:
                name = "/".join(self.path.split("/")[3:5])
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "deletedFile":
                        del repositories[name][line["value"]["path"]]
                url = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
                self.answer(200, {"commitUrl": url, "commitOid": COMMIT, "success": True, "hookOutput": ""})
            else:
                self.answer(404)

        def do_GET(self):
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in repositories:
                name = "/".join(parts[2:4])
                siblings = [{"rfilename": path} for path in repositories[name]]
                entries = [
                    {"type": "file", "path": p, "size": len(d), "oid": "0"} for p, d in repositories[name].items()
                ]
                self.answer(200, entries if "tree" in parts else {"id": name, "sha": COMMIT, "siblings": siblings})
            elif parts[2:3] == ["resolve"] and parts[4] in repositories.get("/".join(parts[:2]), {}):
                data = repositories["/".join(parts[:2])][parts[4]]
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self.answer(200, data, ETag=etag, X_Repo_Commit=COMMIT)
            else:
                self.answer(404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", repositories
        finally:
            server.shutdown()
            thread.join()
