#!/usr/bin/env bash
# Babel 2.19.0 and the gettext module of Python's library.
#
# Guess (written down after it was first seen, not before): `to_gettext`, "the plural rule as a gettext expression", gives what gettext reads, and a language for which CLDR has no
# plural rule is refused or has none.
# Seen: French, Spanish, Italian, Portuguese and Catalan have the operand `e` (the exponent of 1c6) in the expression, which gettext refuses; Russian has a fourth form that no
# whole number gets. Occitan and Tatar, for which CLDR has no rule, have one form for every number, like Japanese, and nothing says that it is a guess.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'babel==2.19.0'
cat > "$folder/check.py" <<'PYTHON'
"""Prints, for some languages, how many forms the expression has, whether gettext reads it, and which forms the numbers to 1000 get."""

import gettext
import re

from babel import Locale
from babel.plural import to_gettext

for code in ("is", "fr", "es", "it", "pt", "ca", "ru", "oc", "tt"):
    written = to_gettext(Locale(code).plural_form)
    forms, expression = re.fullmatch(r"nplurals=(\d+); plural=\((.*)\);?", written).groups()
    try:
        form_of = gettext.c2py(expression)
        print(code, forms, "used", *sorted({form_of(n) for n in range(1001)}))
    except ValueError as e:
        print(code, forms, "refused", str(e).partition(":")[0])
PYTHON
seen=$("$folder/env/bin/python" "$folder/check.py")
echo "Babel 2.19.0: language, forms of the expression, and what gettext makes of it:"
echo "$seen"
expected='is 2 used 0 1
fr 3 refused invalid token in plural form
es 3 refused invalid token in plural form
it 3 refused invalid token in plural form
pt 3 refused invalid token in plural form
ca 3 refused invalid token in plural form
ru 4 used 0 1 2
oc 1 used 0
tt 1 used 0'
if [ "$seen" != "$expected" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
