#!/usr/bin/env bash
# openapi-python-client 0.29.1, on Python 3.11 or later.
#
# Guess (written down after the first failure, not before): a body that OpenAPI describes in several media types with one schema is sent in the first of them.
# Seen: the made function fills in all of them, `json`, `data` and `files`, and leaves the header of the last. What httpx makes of that is a multipart form in which
# every field stands twice, so that a string becomes a list. With a schema of its own name for each media type the caller's class decides, and one body is sent. And where no
# parameter of such a route may be left out, the made module cannot be imported: it names `Unset`, which it does not import.
#
# On a Python before 3.11 this says so and checks nothing (exit 0).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$(command -v python3.11 || command -v python3)
if "$python" -c 'import sys; raise SystemExit(sys.version_info >= (3, 11))'; then
    echo "not checked: this machine has no Python from 3.11 on"
    exit 0
fi
"$python" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'openapi-python-client==0.29.1'
cat > "$folder/check.py" <<'PYTHON'
"""Makes a client of a route with three media types, and prints how often the field `q` stands in the body that it sends."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import httpx

KINDS = {"application/json": "", "application/x-www-form-urlencoded": "Form", "multipart/form-data": "Multipart"}
MODEL = {"type": "object", "title": "Ask", "required": ["q"], "properties": {"q": {"type": "string"}}}


def sent(folder: Path, package: str, own_names: bool, with_parameter: bool = True) -> tuple[str, int]:
    names = {kind: "Ask" + (ending if own_names else "") for kind, ending in KINDS.items()}
    content = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}} for kind, name in names.items()}
    parameters = [{"name": "X-Ask", "in": "header", "required": False, "schema": {"type": "string"}}] if with_parameter else []
    route = {"operationId": "ask", "parameters": parameters, "requestBody": {"required": True, "content": content}, "responses": {"200": {"description": "ok"}}}
    schemas = {name: {**MODEL, "title": name} for name in names.values()}
    api = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/ask": {"post": route}}, "components": {"schemas": schemas}}
    (folder / f"{package}.json").write_text(json.dumps(api))
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--config", "config.yml", "--path", f"{package}.json"]
    subprocess.run([*command, "--output-path", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ask = importlib.import_module(f"{package}.api.default.ask")
    body = importlib.import_module(f"{package}.models").Ask(q="one text")
    request = httpx.Client(base_url="http://service").build_request(**ask._get_kwargs(body=body))
    return request.headers["Content-Type"].partition(";")[0], request.read().count(b"one text")


folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
for package, own_names in (("one_name", False), ("own_names", True)):
    print(package, *sent(folder, package, own_names))
try:
    sent(folder, "no_parameter", True, with_parameter=False)
    print("no_parameter works")
except NameError as e:
    print("no_parameter", e.name)
PYTHON
seen=$("$folder/env/bin/python" "$folder/check.py" "$folder")
echo "openapi-python-client 0.29.1, the media type sent and how often the text stands in it:"
echo "$seen"
if [ "$seen" != "$(printf 'one_name multipart/form-data 2\nown_names application/json 1\nno_parameter Unset')" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
