#!/usr/bin/env bash
# sil-thot 3.5.3, WordAlignmentMatrix.to_list().
#
# Guess before looking: to_list() lists all links of an alignment, in some form, also of a symmetrised one.
# Seen: it gives one number for each target word (the place of its source word, counted from 1; 0 for none), and where any target word has two links, the list
# is empty. Symmetrised alignments are such matrices more often than not, and look like pairs without links. Nothing warns of it.
# to_numpy() has them all (and needs numpy, which sil-thot does not ask for); of one direction alone, where each word has one link, to_list() is right.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'sil-thot==3.5.3' 'numpy==2.2.6'
"$folder/env/bin/python" - <<'PYTHON'
from thot.common import WordAlignmentMatrix

matrix = WordAlignmentMatrix(2, 2)
for link in ((0, 0), (1, 0), (1, 1)):
    matrix.set(*link)
listed, links = matrix.to_list(), int(matrix.to_numpy().sum())
print(f"links: {links}; to_list(): {listed}")
if links != 3 or listed:
    raise SystemExit("the behaviour has changed: to_list() is not empty")
PYTHON
