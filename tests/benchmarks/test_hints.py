"""The benchmarks of hints, once each: what a look-up takes, and what hints cost a request."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data import bench_lexicon
from benchmarks.serving import hint_overhead
from tell.errors import BadInput
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hint_engine import HintEngine, hinted_adapter


def ran(main: Any, *words: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
    main()
    return dict(json.loads(capsys.readouterr().out))


def test_look_up_and_overhead(isolated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    base = light_base(isolated / "cache")
    adapter, text = hinted_adapter(tmp_path / "is-en", base), tmp_path / "text.is"
    text.write_text("Hundurinn sefur.\nKötturinn\n\nog annað\n" * 3, encoding="utf-8")
    with_io: Any = {"monkeypatch": monkeypatch, "capsys": capsys}
    found = ran(bench_lexicon.main, adapter.path / "lexicon.tsv", text, "--skip-common", 0, **with_io)
    assert (found["words"], found["hints"]) == (15, 9) and set(found["microseconds_a_word"]) == {"plain", "first", "again"}
    monkeypatch.setattr(hint_overhead, "open_engine", lambda name, options: HintEngine(options))
    found = ran(hint_overhead.main, adapter.path, text, "--chunk", 4, "--repeat", 2, **with_io)
    assert found["segments"] == 9 and found["ratio"]["prompt_tokens"] == round(found["with"]["prompt_tokens"] / found["without"]["prompt_tokens"], 3) > 1
    with pytest.raises(BadInput, match="trained without hints"):
        ran(hint_overhead.main, light_adapter(tmp_path / "plain", base).path, text, **with_io)
