#!/usr/bin/env bash
# PyYAML 6.0.4 and ruamel.yaml 0.19.1, on texts as catalogues of Rails have them (`order: [:year, :month]`).
#
# Guess (written down after it was first seen, not before): a plain text may begin with a colon, as YAML 1.2 says, in brackets as well as outside, and the two libraries agree.
# Seen: outside of brackets both read `:year`. In a list in brackets PyYAML refuses it and ruamel.yaml reads it; in a mapping in braces both refuse it. `[?x]` is a list of one
# mapping, `{x: null}`, to both, and no text.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'pyyaml==6.0.4' 'ruamel.yaml==0.19.1'
cat > "$folder/check.py" <<'PYTHON'
"""Prints what each library makes of some lines: the value, or that it refuses."""

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

for line in ("a: :year", "a:\n- :year", "a: [:year]", "a: {b: :year}", "a: [?x]"):
    values = []
    for load, error in ((yaml.safe_load, yaml.YAMLError), (YAML(typ="safe", pure=True).load, YAMLError)):
        try:
            values.append(str(load(line)["a"]))
        except error:
            values.append("refused")
    print(line.replace("\n", "; "), *values, sep=" | ")
PYTHON
seen=$("$folder/env/bin/python" "$folder/check.py")
echo "the line, PyYAML 6.0.4, ruamel.yaml 0.19.1:"
echo "$seen"
expected="a: :year | :year | :year
a:; - :year | [':year'] | [':year']
a: [:year] | refused | [':year']
a: {b: :year} | refused | refused
a: [?x] | [{'x': None}] | [{'x': None}]"
if [ "$seen" != "$expected" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
