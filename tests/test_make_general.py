"""General examples from WordNet's files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTICE = "  1 This software and database is being provided to you, the LICENSEE, by\n"
NOUN = "00021939 03 n 02 artifact 0 man-made_object 0 003 @ 00002684 n 0000 | a man-made object taken as a whole  \n"
VERB = '00001740 29 v 03 breathe 0 take_a_breath 0 respire 3 001 * 00005041 v 0000 02 + 02 00 + 08 00 | draw air into; "I can breathe better"  \n'
ADJECTIVE = '00014490 00 s 01 galore(ip) 0 001 & 00013887 a 0000 | in great numbers; "daffodils galore"  \n'


def test_what_is_made(tmp_path: Path) -> None:
    for name, line in (("noun", NOUN), ("verb", VERB), ("adj", ADJECTIVE), ("adv", "")):
        (tmp_path / f"data.{name}").write_text(NOTICE + line)
    command = [sys.executable, str(ROOT / "scripts" / "make_general.py"), str(tmp_path), "-o", str(tmp_path / "g.jsonl")]
    assert "9 of 9 examples" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = {e["completion"]: e["prompt"] for e in map(json.loads, (tmp_path / "g.jsonl").read_text().split("\n")[:-1])}
    assert "artifact" in made["A man-made object taken as a whole."] and "draw air into" in made["Breathe."]
    assert "breathe" in made["I can breathe better."] and "breathe" in made["Take a breath, respire."] and "“galore”" in made["Daffodils galore."]
    first = (tmp_path / "g.jsonl").read_text()
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "g.jsonl").read_text() == first
    (tmp_path / "data.adv").unlink()
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "has no data.adv" in ran.stderr
