#!/usr/bin/env bash
# pyglossary 5.3.0 and 5.4.0, on Python 3.10 and 3.11.
#
# Guess (written down after the first failure, not before): what pip installs on this Python runs on it, since its metadata say which Python it needs (>=3.10.0).
# Seen: from 5.3.0 on the code has `type X = ...`, the syntax of Python 3.12, while the metadata still say 3.10. pip installs it without a word, and every command
# ends with a SyntaxError. 5.2.1 runs.
#
# On Python 3.12 or later this says so and checks nothing (exit 0).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$(command -v python3.11 || command -v python3.10 || command -v python3)
if "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 12))'; then
    echo "not checked: this machine has no Python before 3.12"
    exit 0
fi
"$python" -m venv "$folder/env"
printf 'hestur\thorse\n' > "$folder/in.txt"
for pinned in pyglossary==5.2.1 pyglossary==5.4.0; do
    version=${pinned#*==}
    "$folder/env/bin/pip" install -q --disable-pip-version-check "$pinned"
    ending=runs
    "$folder/env/bin/pyglossary" "$folder/in.txt" "$folder/$version.csv" --ui=none > "$folder/$version.log" 2>&1 || ending=fails
    echo "pyglossary $version on $("$python" --version): $ending; $(tail -1 "$folder/$version.log")"
    if [ "$version $ending" != "5.2.1 runs" ] && [ "$version $ending" != "5.4.0 fails" ]; then
        echo "the behaviour has changed" >&2
        exit 1
    fi
done
