"""What files call a language: every reader takes a name for its equals, and keeps apart what people keep apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.segment import ReadOptions
from tell.errors import CorpusError
from tell.languages import parse_pair
from tests.support import corpora

ROWS = [("Hesten står i stallen.", "The horse is in the stable."), ("Det regnet i går.", "It rained yesterday.")]


def read(pair: str, *names: str) -> list[tuple[str, str]]:
    want, pairs = ReadOptions(parse_pair(pair)), []
    for group in groups(tuple(map(Path, names))):
        pairs += [(s.source, s.target) for s in read_group(group, want, group.reading()) if s.reason is None]
    return pairs


@pytest.mark.parametrize(
    ("pair", "named"),
    [("no-en", "nb"), ("nb-en", "no"), ("nb-en", "nb-NO"), ("nb-en", "nob_Latn"), ("no-en", "nor"), ("et-en", "ekk_Latn"), ("ekk-en", "et-EE"), ("he-en", "iw"),
     ("zh-en", "cmn_Hans"), ("zh-Hant:en", "zh-TW"), ("sr-Latn:en", "sh"), ("ms-en", "zsm"), ("fa-en", "pes_Arab")],
)  # fmt: skip
def test_a_file_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: str, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "m.tmx": corpora.tmx(ROWS, (named, "en")),
        "m.xlf": corpora.xliff(ROWS, named, "en"),
        "m.po": corpora.po(ROWS, named.replace("-", "_")),
        "t.csv": corpora.table(ROWS, ",", named, "en"),
        "r.jsonl": "".join(f'{{"{named}": "{a}", "en": "{b}"}}\n' for a, b in ROWS).encode(),
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
        assert read(pair, name) == ROWS, name
    for code, side in ((named, 0), ("en", 1)):
        (Path("d") / code).mkdir(parents=True)
        (Path("d") / code / "a.txt").write_text("".join(row[side] + "\n" for row in ROWS), encoding="utf-8")
    assert read(pair, "d") == ROWS


@pytest.mark.parametrize(("pair", "named"), [("no-en", "nn"), ("zh-en", "yue"), ("ar-en", "arz"), ("sr-en", "sr-Latn"), ("zh-en", "zh-TW"), ("lv-en", "ltg")])
def test_a_file_of_another_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: str, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tmx").write_bytes(corpora.tmx(ROWS, (named, "en")))
    Path("m.po").write_bytes(corpora.po(ROWS, named))
    for name in ("m.tmx", "m.po"):
        with pytest.raises(CorpusError):
            read(pair, name)


def test_an_exact_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    variants = "".join(f'<tuv xml:lang="{tag}"><seg>{text}</seg></tuv>' for tag, text in (("nb", "hest"), ("no", "merr"), ("en", "mare")))
    both = f"<tmx><body><tu>{variants}</tu></body></tmx>".encode()
    Path("m.tmx").write_bytes(both)
    assert read("no-en", "m.tmx") == [("merr", "mare")] and read("nb-en", "m.tmx") == [("hest", "mare")]


def test_locales_of_catalogues_name_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.po").write_bytes(corpora.po(ROWS, "sr@latin"))
    assert read("sr-Latn:en", "m.po") == ROWS
    with pytest.raises(CorpusError, match="another language"):
        read("sr-en", "m.po")
