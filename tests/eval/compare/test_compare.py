"""`tellmt compare`: figures that are sacreBLEU's, breakdowns that add up, a page that stands alone, and input that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eval.scoring.metrics import metric
from eval.scoring.significance import bootstrap, randomisation
from tell.files import read_lines
from tellmt.cli import main
from tests.conftest import SHARED, Tellmt

NEWS = SHARED / "en-is" / "newstest2021"
needs_newstest = pytest.mark.skipif(not NEWS.is_dir(), reason="newstest2021 is not shipped; it lies beside the project where it is developed")


@needs_newstest
@pytest.mark.parametrize(
    ("pair", "peers"),
    [
        ("is-en", {"Apertium": (10.3, 38.0), "Facebook-AI": (41.7, 62.3)}),
        (
            "en-is",
            {
                "Facebook-AI": (33.3, 59.6),
                "Online-B": (25.7, 54.3),
                "Mideind": (24.3, 53.1),
                "Online-G": (12.2, 42.1),
                "newstest2021.en-is.src.en": (2.0, 19.1),
            },
        ),
    ],
)
def test_one_command_gives_the_table_of_peers(tellmt: Tellmt, pair: str, peers: dict[str, tuple[float, float]]) -> None:
    files = [NEWS / n if n.startswith("newstest") else NEWS / "systems" / f"{pair}.{n}.txt" for n in peers]
    reference = NEWS / f"newstest2021.{pair}.ref.A.{pair[-2:]}"
    code, comparison, err = tellmt("compare", "--reference", reference, *files, "--metric", "bleu", "chrf", "--trials", 100, "--resamples", 40)
    assert code == 0, err
    scores_by_file = {Path(s["place"]).name: tuple(round(s["scores"][m]["score"], 1) for m in ("bleu", "chrf")) for s in comparison["systems"].values()}
    assert scores_by_file == {f.name: figures for f, figures in zip(files, peers.values(), strict=True)}


@needs_newstest
@pytest.mark.parametrize("key", ["bleu", "chrf", "chrf++", "ter"])
def test_both_tests_are_sacrebleus(key: str) -> None:
    from sacrebleu.significance import PairedTest

    references = read_lines(NEWS / "newstest2021.is-en.ref.A.en")[:60]
    first, second = (read_lines(NEWS / "systems" / f"is-en.{n}.txt")[:60] for n in ("Facebook-AI", "Online-B"))
    measure = metric(key)
    a, b = (measure.statistics(h, references) for h in (first, second))
    ar, bs = randomisation(measure, a, b, 500), bootstrap(measure, a, b, 300)
    for kind, draws, p, signature in (("ar", 500, ar.p, ar.signature), ("bs", 300, bs.p, bs.signature)):
        signatures, sacrebleu_results = PairedTest([("a", first), ("b", second)], {key: metric(key).wrapped}, [references], kind, draws)()  # type: ignore[attr-defined]
        (name,) = signatures
        # Ours counts ties, which TER's whole numbers have many of.
        assert signature == str(signatures[name]) and -1 / draws < p - sacrebleu_results[name][1].p_value < (0.006 if key == "ter" else 2 / draws)
        assert ar.delta == pytest.approx(sacrebleu_results[name][1].score - sacrebleu_results[name][0].score, abs=1e-3)


# Six documents of ten segments; `near` has one word wrong in three, `far` two, and in the last document they are the other way round.
WORDS = ["ship", "sailed", "along", "road", "mountain", "house", "horse", "morning", "coffee", "light"]
REFERENCES = [f"The {WORDS[i % 10]} of number {i} went to the {WORDS[(i * 7 + 3) % 10]} " + "and on " * (i % 9) + "today." for i in range(60)]
SOURCES = [f"Skipið númer {i} fór að fjallinu og húsinu " + "og áfram " * (i % 9) + "í dag." for i in range(60)]


def spoil(text: str, share: int) -> str:
    return " ".join(w if k % share else "xqz" for k, w in enumerate(text.split(" ")))


NEAR = [spoil(r, 3 if i < 50 else 2) for i, r in enumerate(REFERENCES)]
FAR = [spoil(r, 2 if i < 50 else 3) for i, r in enumerate(REFERENCES)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, lines in (("ref.en", REFERENCES), ("src.is", SOURCES), ("near.txt", NEAR), ("far.txt", FAR), ("docs.txt", [f"d{i // 10}" for i in range(60)])):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    return tmp_path


def test_breakdowns_add_up_and_say_which_way(tellmt: Tellmt, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    args = ("--reference", "ref.en", "--source", "src.is", "--documents", "docs.txt", "--trials", 500)
    code, comparison, err = tellmt("compare", *args, "far.txt", "near.txt", "-o", "out")
    assert code == 0 and "taken for is-en by the texts" in err, err
    assert json.loads((files / "out" / "compare.json").read_text()) == {k: v for k, v in comparison.items() if k != "out"}
    assert (comparison["baseline"], list(comparison["moved"]), comparison["pair"], comparison["segments"]) == ("far", ["near"], "is-en", 60)
    assert [c["metric"] for c in comparison["comparisons"]] == ["bleu", "chrf", "chrf++", "ter"]
    for c in comparison["comparisons"]:
        assert c["better"] is True and c["randomisation"]["p"] < 0.01 and c["bootstrap"]["p"] < 0.05, c
        assert (c["delta"] < 0) == (c["metric"] == "ter") and c["bootstrap"]["low"] < c["delta"] < c["bootstrap"]["high"]
        assert "ar:500" in c["randomisation"]["signature"] and "bs:1000" in c["bootstrap"]["signature"]
    assert sum(g["segments"] for g in comparison["lengths"]["groups"]) == 60 and len(comparison["lengths"]["groups"]) > 2
    assert [(g["name"], g["segments"]) for g in comparison["documents"]] == [(f"d{i}", 10) for i in range(6)]
    gains = [g["scores"]["near"]["chrf"] - g["scores"]["far"]["chrf"] for g in comparison["documents"]]
    assert all(g > 0 for g in gains[:5]) and gains[5] < 0
    m = comparison["moved"]["near"]
    assert m["better"] + m["worse"] + m["same"] == 60 and 10 <= m["worse"] < 15 and len(m["down"]) == 10
    assert sum(r["segment"] > 50 for r in m["down"]) > 7 and m["up"][0]["delta"] == max(r["delta"] for r in m["up"])
    assert m["up"][0]["reference"] == REFERENCES[m["up"][0]["segment"] - 1] and m["up"][0]["document"]
    assert comparison["systems"]["near"]["diagnostics"]["segments"] == 60

    code, back, _ = tellmt("compare", *args, "far.txt", "near.txt", "--baseline", "near", "--metric", "CHRF2")
    (c,) = back["comparisons"]
    (was,) = [c for c in comparison["comparisons"] if c["metric"] == "chrf"]
    assert (back["baseline"], c["delta"], c["randomisation"], c["better"]) == ("near", -was["delta"], was["randomisation"], False)


def test_a_person_sees_signatures_and_both_tests(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    args = ["--reference", "ref.en", "--metric", "bleu", "chrf", "--trials", "500"]
    monkeypatch.chdir(files)
    assert main(["compare", *args, "far.txt", "near.txt"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "BLEU: nrefs:1|",
        "chrF2: nrefs:1|",
        "paired approximate randomisation, 500 trials",
        "paired bootstrap",
        "better",
        "against far",
        "reference",
    ):
        assert line in printed, line
    assert "< 0.0040" in printed, "the smallest p that 500 trials can give is a bound"
    assert main(["compare", *args, "far.txt", "near.txt", "far.txt"]) == 0
    assert "is the same output as" in capsys.readouterr().err


def test_jsonl_and_directories_bring_their_own_references(tellmt: Tellmt, files: Path) -> None:
    rows = [{"source": s, "reference": r, "hypothesis": h} for s, r, h in zip(SOURCES, REFERENCES, NEAR, strict=True)]
    (files / "ours.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (files / "run").mkdir()
    both = [{"reference": r, "document": "d", "hypotheses": {"base": f, "adapter": n}} for r, f, n in zip(REFERENCES, FAR, NEAR, strict=True)]
    (files / "run" / "segments.jsonl").write_text("".join(json.dumps(r) + "\n" for r in both))
    few = ("--trials", 100, "--resamples", 40, "--metric", "chrf")
    code, comparison, err = tellmt("compare", files / "run", files / "ours.jsonl", *few)
    assert code == 0 and comparison["order"] == ["run/base", "run/adapter", "ours"], err
    assert comparison["systems"]["ours"]["scores"] == comparison["systems"]["run/adapter"]["scores"] and len(comparison["documents"]) == 1
    assert tellmt("compare", files / "run", *few)[0] == 0, "one directory may hold two systems"
    (files / "other.jsonl").write_text("".join(json.dumps({**r, "reference": "x"}) + "\n" for r in rows))
    code, _, err = tellmt("compare", files / "ours.jsonl", files / "other.jsonl")
    assert code == 2 and "their references are not the same" in err


def test_what_cannot_be_compared(tellmt: Tellmt, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    Path("short.txt").write_text("a\nb\n")
    Path("empty.txt").write_text("")
    Path("latin.txt").write_bytes("hús\n".encode("latin-1") * 60)
    Path("dir").mkdir()
    Path("bad.jsonl").write_text('{"text": "a"}\n')
    Path("half.jsonl").write_text('{"hypothesis": "a", "source": "b"}\n{"hypothesis": "a"}\n')
    Path("gap.txt").write_text("d\n" * 59 + "\n")
    r = ("--reference", "ref.en")
    table: list[tuple[tuple[object, ...], str]] = [
        ((*r, "near.txt", "short.txt"), "short.txt: hypotheses and references are not equally many"),
        ((*r, "near.txt", "dir"), "this is a directory"),
        ((*r, "near.txt", "none.txt"), "none.txt: no such file"),
        ((*r, "near.txt", "empty.txt"), "empty.txt: the file is empty"),
        ((*r, "near.txt", "latin.txt"), "not UTF-8"),
        (("--reference", "short.txt", "near.txt", "far.txt"), "60 hypotheses and 2 references"),
        (("--reference", "empty.txt", "near.txt", "far.txt"), "empty.txt: the file is empty"),
        (("--reference", "dir", "near.txt", "far.txt"), "this is a directory"),
        (("near.txt", "far.txt"), "--reference FILE"),
        ((*r, "near.txt"), "two outputs or more"),
        ((*r, "near.txt", "far.txt", "--documents", "short.txt"), "2 lines, and 60 references"),
        ((*r, "near.txt", "far.txt", "--documents", "gap.txt"), "gap.txt, line 60"),
        ((*r, "near.txt", "far.txt", "--source", "short.txt"), "source and references are not equally many"),
        ((*r, "near.txt", "far.txt", "--metric", "blue"), "bleu (did you mean this?)"),
        ((*r, "near.txt", "far.txt", "--metric", "spbleu"), "never fetched"),
        ((*r, "near.txt", "far.txt", "--metric", "comet"), 'pip install "tellmt[comet]"'),
        ((*r, "near.txt", "far.txt", "--baseline", "naer"), "near (did you mean this?)"),
        ((*r, "near.txt", "far.txt", "--pair", "zz-qq"), "pair"),
        ((*r, "near.txt", "far.txt", "-o", "near.txt"), "this is a file"),
        (("bad.jsonl", "near.txt"), "no hypothesis"),
        (("half.jsonl", "near.txt"), "1 of 2"),
    ]
    for args, message in table:
        code, result, err = tellmt("compare", *args)
        assert (code, result) == (2, None) or (code == 1 and "comet" in args), (args, code, err)
        assert message in err and "Traceback" not in err, (args, err)


def test_repeated_segments_are_told_and_count(tellmt: Tellmt, files: Path) -> None:
    for name, lines in (("r", REFERENCES), ("a", NEAR), ("b", FAR)):
        (files / name).write_text("".join(line + "\n" for line in lines[:10] + lines[:10]))
    code, comparison, err = tellmt("compare", "--reference", files / "r", files / "a", files / "b", "--metric", "chrf", "--trials", 100)
    assert code == 0 and comparison["repeated"] == 10 and "10 of 20 segments repeat an earlier one" in err and "20 segments tell little" in err


def test_the_page_stands_alone_and_quotes_what_it_shows(tellmt: Tellmt, tmp_path: Path) -> None:
    """Texts and names may be anything: they are text on the page, and nothing is fetched."""
    nasty = ['<script>alert(1)</script> & "quoted" text of some length', "a\u2028b  and more words", "שלום עולם", "", "{{ 7 * 7 }} words"]
    names = {"<b>bold.txt": [n + " x" for n in nasty], "plain.txt": nasty[::-1]}
    (tmp_path / "ref").write_text("".join(n + "\n" for n in nasty), encoding="utf-8")
    for name, lines in names.items():
        (tmp_path / name).write_text("".join(n + "\n" for n in lines), encoding="utf-8")
    args = ("--reference", tmp_path / "ref", *(tmp_path / n for n in names), "--trials", 100, "--resamples", 40, "-o", tmp_path / "out")
    assert tellmt("compare", *args)[0] == 0
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<b>bold" not in page and "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page
    assert not re.search(r"""(src|href|url)\s*[=(]|https?://|@import""", page), "the page asks for something from elsewhere"
    assert "default-src 'none'" in page and 'dir="auto"' in page


def test_the_page_in_a_browser(tellmt: Tellmt, files: Path) -> None:
    """Wide and narrow, light and dark: nothing hangs over the edge, nothing is complained of, text can be told from what is behind it."""
    import shutil

    sync_api = pytest.importorskip("playwright.sync_api")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium on the path")
    few = ("--trials", 100, "--resamples", 40, "--metric", "bleu", "chrf", "--pair", "is-en")
    sides = ("--reference", files / "ref.en", "--source", files / "src.is", "--documents", files / "docs.txt")
    assert tellmt("compare", *sides, files / "far.txt", files / "near.txt", *few, "-o", files / "out")[0] == 0
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium)
        for width, scheme in ((1280, "light"), (360, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            console_messages: list[str] = []
            page.on("console", lambda m, console_messages=console_messages: console_messages.append(m.text))
            page.goto((files / "out" / "compare.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width and console_messages == []
            ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
            light = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (ink, paper)]
            assert (light[0] < light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 400
            assert page.locator("circle").count() == 20 and page.locator(".bars i").count() > 1
        browser.close()
