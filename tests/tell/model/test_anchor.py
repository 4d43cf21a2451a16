"""The [anchor] table: what is rendered from it, what a model reads, and that training and serving read the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tell.adapter.card import CARD, BaseRef, Card, adapter_id, open_adapter
from tell.errors import TellmtError
from tell.languages import parse_pair
from tell.model.anchor import SEPARATOR, WORDINGS, Anchor, AnchorConfig, general_prompt, nonce, render
from tell.model.base import Base
from tell.model.chat_template import ChatTurns
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from tests.conftest import SHARED, Ran
from tests.support.fake_eval_engine import corpus_dir, light_adapter, light_base

CLI = Callable[..., Ran]
IS_EN, EN_IS = parse_pair("is-en"), parse_pair("en-is")
# As SmolLM2's: a system turn of its own, and turns between two special tokens. Those of `light_base` are <bos> and <eos>.
TEMPLATE = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<bos>system\nBe brief.<eos>\n' }}{% endif %}"
    "{{ '<bos>' + m['role'] + '\n' + m['content'] + '<eos>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
)
TURNS = ChatTurns(before="<bos>system\nBe brief.<eos>\n<bos>user\n", after="<eos>\n<bos>assistant\n", end="<eos>\n")


def chat_base(home: Path, template: str | None = TEMPLATE, base_id: str = "chatty", **config: Any) -> Base:
    base = light_base(home / "cache", base_id)
    if template is not None:
        (base.path / "chat_template.jinja").write_text(template)
    (base.path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, **config}))
    return base


def mixed(cli: CLI, table: str, base: str = "chatty", pair: str = "is-en", ok: bool = True) -> Ran:
    """`tellmt mix` by a recipe with this [anchor] table, over a small corpus and one general example."""
    corpus = corpus_dir(Path(f"corpus-{pair}"), pair)
    Path("r.toml").write_text(f'pair = "{pair}"\nbase = "{base}"\n[anchor]\n{table}\n[mix]\nratio = 0.004\n')
    Path("g.jsonl").write_text(json.dumps({"prompt": "Say <eos> twice.", "completion": "<eos> <eos>"}) + "\n")
    return cli("mix", "--recipe", "r.toml", "--corpus", corpus, "--general", "g.jsonl", "-o", "m", "--json", ok=ok)


# --- wordings

RENDERED = {
    "": ("is-en", "Translate this text from Icelandic into English.\n\n", "English:\n"),
    'wording = "short"\nparts = "opening"': ("is-en", "", "English:\n"),
    'wording = "nonce"': ("is-en", "loto sepo fero rolu zano zuba rinu.\n\n", "gege:\n"),
    'wording = "nonce"\nparts = "prefix"': ("is-en", "loto sepo fero rolu zano zuba rinu.\n\n", ""),
    'prefix = "{source} > {target}: "': ("en-is", "English > Icelandic: ", "Icelandic:\n"),
    'wording = "paper"\nopening = "{{{target}}}\\n"': ("en-is", WORDINGS["paper"][0].format(source="English", target="Icelandic"), "{Icelandic}\n"),
    'prefix = ""\nopening = ""': ("en-is", "", ""),
    'parts = "prefix"\nprefix = "Þýða."\nopening = ""': ("en-is", "Þýða.", ""),
    'chat = "auto"\nparts = "none"': ("is-en", "", ""),
}


@pytest.mark.parametrize("table", RENDERED)
def test_what_a_recipe_says_is_what_mix_renders(cli: CLI, isolated: Path, table: str) -> None:
    light_base(isolated / "cache", "plain")
    pair, prefix, opening = RENDERED[table]
    report = mixed(cli, table, "plain", pair).json
    assert report["anchor"] == {"prefix": prefix, "opening": opening}
    task = [r for r in map(json.loads, Path("m/mixed.jsonl").read_text().split("\n")[:-1]) if r["kind"] == "task"]
    assert len(task) == 20 and all(r["opening"] == opening and r["prompt"].startswith(prefix) and r["prompt"].endswith(f".{SEPARATOR}") for r in task)


def test_a_nonce_is_constant_by_direction_and_made_of_ordinary_letters() -> None:
    found = {pair: nonce(parse_pair(pair)) for pair in ("is-en", "en-is", "fo-is", "pt-BR:en")}
    assert len(set(found.values())) == len(found)
    for prefix, opening in found.values():
        short = WORDINGS["short"]
        assert len(prefix.split()) == len(short[0].split()) and prefix.endswith(".\n\n") and opening.endswith(":\n")
        assert (prefix + opening).replace(" ", "").replace("\n", "").replace(".", "").replace(":", "").isalpha() and (prefix + opening).isascii()


@pytest.mark.parametrize("pair", ["is-en", "en-is"])
def test_the_paper_wording_is_that_of_the_authors_data(pair: str) -> None:
    files = [SHARED / "en-is" / "tell-paper" / f"{split}-{pair}.jsonl" for split in ("dev", "test")]
    if not all(f.exists() for f in files):
        pytest.skip("the TELL authors' data is not beside the checkout")
    anchor = render(AnchorConfig(wording="paper"), parse_pair(pair))
    rows = [json.loads(line) for f in files for line in f.read_text(encoding="utf-8").split("\n") if line]
    assert len(rows) > 100
    # Exactly: what follows is the text, without white space that a longer anchor would have.
    odd = [r for r in rows if not (r["query"].startswith(anchor.prefix) and r["response"].startswith(anchor.opening))]
    assert odd == []
    assert all(not r["query"][len(anchor.prefix)].isspace() and not r["response"][len(anchor.opening)].isspace() for r in rows)


BAD = {
    "an unknown placeholder": ('prefix = "Into {language}: "', "chatty", 2, ["[anchor]", "prefix", "{language}", "{source} and {target}"]),
    "an attribute": ('opening = "{source.__class__}"', "chatty", 2, ["[anchor]", "opening", "{source.__class__}"]),
    "a number": ('prefix = "{0}{}"', "chatty", 2, ["[anchor]", "prefix", "{0}"]),
    "a conversion": ('prefix = "{source!r}"', "chatty", 2, ["[anchor]", "prefix", "{source!r}"]),
    "a width": ('prefix = "{source:>99999999}"', "chatty", 2, ["[anchor]", "prefix", "{source:>99999999}"]),
    "half a brace": ('opening = "{target"', "chatty", 2, ["[anchor]", "opening", "'}'"]),
    "no text": ("prefix = 7", "chatty", 2, ["[anchor]", "prefix", "7"]),
    "a part that is left out": ('parts = "opening"\nprefix = "x"', "chatty", 2, ["[anchor]", "prefix", "parts = 'opening'"]),
    "an unknown wording": ('wording = "long"', "chatty", 2, ["[anchor]", "wording", "'long'", "nonce"]),
    "a mistyped key": ('prefx = "x"', "chatty", 2, ["[anchor]", "prefx", "prefix (did you mean this?)"]),
    "a switch that is none": ('chat = "yes"', "chatty", 2, ["[anchor]", "chat", "'yes'", '"auto"']),
    "a number for a switch": ("chat = 1", "chatty", 2, ["[anchor]", "chat", "1"]),
    "chat without a template": ("chat = true", "plain", 1, ["no chat template", "plain", "chat = false"]),
    "a broken template": ('chat = "auto"', "broken", 1, ["cannot be used", "TemplateSyntaxError", "chat = false"]),
    "a template that refuses": ("chat = true", "refusing", 1, ["cannot be used", "ValueError: no users here"]),
    "a template that breaks out": ("chat = true", "escaping", 1, ["cannot be used", "SecurityError"]),
    "a template that repeats the prompt": ("chat = true", "twice", 1, ["cannot be used", "written 2 times"]),
    "a template that looks at the text": ("chat = true", "looking", 1, ["something else around each text"]),
    "a template with a clock": ("chat = true", "clock", 1, ["cannot be used", "strftime_now"]),
}
TEMPLATES = {
    "broken": "{% if %}",
    "refusing": "{{ raise_exception('no users here') }}",
    "escaping": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "twice": "{% for m in messages %}{{ m.content }} {{ m.content }}{% endfor %}",
    "looking": "{% for m in messages %}{{ m.content[6] }}:{{ m.content }}{% endfor %}",
    "clock": "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_anchors(cli: CLI, isolated: Path, name: str) -> None:
    table, base, code, message = BAD[name]
    light_base(isolated / "cache", "plain")
    chat_base(isolated, TEMPLATES.get(base, TEMPLATE), base if base != "plain" else "chatty")
    ran = mixed(cli, table, base, ok=False)
    assert ran.code == code and not Path("m").exists(), ran.err
    assert all(s in ran.err for s in message), ran.err


# --- chat


def spelled(tokenizer: BaseTokenizer, ids: list[int]) -> str:
    """Ids as text in which a special token stands as ⟨name⟩ and one that was only spelled stands as it was."""
    names = {i: t for t, i in tokenizer.vocabulary().items()}
    special = {i: f"⟨{names[i][1:-1]}⟩" for i in (0, 1, 2)}
    return "".join(special[i] if i in special else tokenizer.decode([i]) if len(names[i]) > 1 else names[i].replace("Ġ", " ").replace("Ċ", "\n") for i in ids)


def test_a_prompt_in_its_turn(isolated: Path) -> None:
    base = chat_base(isolated)
    anchor = render(AnchorConfig(chat=True), IS_EN, base)
    assert anchor.chat == TURNS
    tokenizer = BaseTokenizer(base, anchor.chat)
    before = "⟨bos⟩system\nBe brief.⟨eos⟩\n⟨bos⟩user\n"
    # What the text spells stays text; the template's <bos> is the base's, and there is one.
    expected = f"{before}Translate this text from Icelandic into English.\n\nA <eos><bos> B.⟨eos⟩\n⟨bos⟩assistant\n"
    assert spelled(tokenizer, tokenizer.prompt_ids(anchor, "A <eos><bos> B.")) == f"{expected}English:\n"
    examples = [
        Example("t", "task", anchor.prompt("A <eos><bos> B."), anchor.opening, "C <eos> D."),
        Example("g", "general", general_prompt("Say\n\nthis.\n\n"), "", "This."),
    ]
    (task, n), (general, m) = tokenizer.example_ids(examples)
    assert (spelled(tokenizer, task[:n]), spelled(tokenizer, task[n:])) == (expected, "English:\nC <eos> D.⟨eos⟩")
    assert (spelled(tokenizer, general[:m]), spelled(tokenizer, general[m:])) == (f"{before}Say\n\nthis.\n\n⟨eos⟩\n⟨bos⟩assistant\n", "This.⟨eos⟩")


def test_plain_text_keeps_special_tokens_out_as_well(isolated: Path) -> None:
    base = light_base(isolated / "cache")
    tokenizer, anchor = BaseTokenizer(base), render(AnchorConfig(), IS_EN)
    ids = tokenizer.prompt_ids(anchor, "<eos>")
    assert spelled(tokenizer, ids) == "⟨bos⟩Translate this text from Icelandic into English.\n\n<eos>\n\nEnglish:\n"
    assert tokenizer.decode(ids).startswith("Translate") and "<eos>" in tokenizer.decode(ids)


# What the bases that people fine-tune write, shortened to what matters here: who writes BOS, who trims, who thinks, who names the roles otherwise.
EACH, END, ASKED = "{% for m in messages %}", "{% endfor %}", "{% if add_generation_prompt %}"
FAMILIES = {
    "chatml": f"{EACH}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}<|im_end|>\n{END}{ASKED}<|im_start|>assistant\n{{% endif %}}",
    "gemma": f"{{{{ bos_token }}}}{EACH}{{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}" + f"{END}{ASKED}{{{{'<start_of_turn>model\n'}}}}{{% endif %}}",
    "llama 3": "{% set today = strftime_now('%d') if strftime_now is defined and false else '26 Jul 2024' %}{{ bos_token }}system: {{ today }}<|eot_id|>"
    f"{EACH}<|start_header_id|>{{{{ m.role }}}}<|end_header_id|>\n\n{{{{ m.content | trim }}}}<|eot_id|>{END}"
    f"{ASKED}<|start_header_id|>assistant<|end_header_id|>\n\n{{% endif %}}",
    "mistral": f"{{{{ bos_token }}}}{EACH}{{% if m.role == 'user' %}}[INST] {{{{ m.content }}}} [/INST]"
    f"{{% else %}} {{{{ m.content }}}}{{{{ eos_token }}}}{{% endif %}}{END}",
    "qwen 3": f"{EACH}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}<|im_end|>\n{END}{ASKED}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
}


@pytest.mark.parametrize("kept", ["file", "setting", "named"])
@pytest.mark.parametrize("family", FAMILIES)
def test_turns_are_those_that_transformers_renders(isolated: Path, family: str, kept: str) -> None:
    transformers = pytest.importorskip("transformers")
    template = FAMILIES[family]
    settings: dict[str, Any] = {
        "file": {},
        "setting": {"chat_template": template},
        "named": {"chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]},
    }[kept]
    base = chat_base(isolated, template if kept == "file" else None, **settings)
    turns = render(AnchorConfig(chat="auto"), IS_EN, base).chat
    assert turns is not None
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base.path / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>")
    chat = [{"role": "user", "content": "Halló heimur."}, {"role": "assistant", "content": "Hello world."}]
    options = {"chat_template": template, "tokenize": False, "enable_thinking": False}
    assert theirs.apply_chat_template(chat[:1], add_generation_prompt=True, **options) == f"{turns.before}Halló heimur.{turns.after}"
    assert theirs.apply_chat_template(chat, **options).endswith(f"Hello world.{turns.end}")


def test_bos_is_there_once_whoever_writes_it(isolated: Path) -> None:
    anchor = Anchor(prefix="", opening="", chat=ChatTurns(before="user: ", after=" model: ", end="."))
    base = light_base(isolated / "cache")
    for before, bos_id, bos_count in (("user: ", 2, 1), ("<bos>user: ", 2, 1), ("user: ", None, 0), ("<bos>user: ", None, 1)):
        tokenizer = BaseTokenizer(base.model_copy(update={"bos_id": bos_id}))
        ids = tokenizer.prompt_ids(anchor.model_copy(update={"chat": ChatTurns(before=before, after="", end="")}), "a")
        assert ids.count(2) == bos_count and ids[:bos_count] == [2] * bos_count


def test_a_response_ends_as_its_turn_does_where_engines_stop_there(isolated: Path) -> None:
    base = light_base(isolated / "cache")
    example = [Example("t", "task", "a", "", "b")]
    for end, eos_ids, last_id in (("<pad>\n", [1, 0], 0), ("<pad>\n", [1], 1), ("\n", [1, 0], 1), ("", [1], 1)):
        tokenizer = BaseTokenizer(base.model_copy(update={"eos_ids": eos_ids}), ChatTurns(before="", after="", end=end))
        assert tokenizer.example_ids(example)[0][0][-1] == last_id


def test_mix_counts_what_training_reads_and_the_key_tells_chat_apart(cli: CLI, isolated: Path) -> None:
    from train.config import Recipe
    from train.inputs import identity, read_inputs

    base = chat_base(isolated)
    seen = {}
    for chat, turns in (("true", TURNS), ("false", None)):
        report = mixed(cli, f"chat = {chat}").json
        inputs = read_inputs(Path("m"))
        lengths = {kind: sum(len(d.ids) for d in inputs.data if d.task == (kind == "task")) for kind in ("task", "general")}
        assert {k: c["tokens"] for k, c in report["counts"].items()} == lengths
        assert report["anchor"].get("chat") == (turns.model_dump() if turns else None)
        examples = [Example(**json.loads(x)) for x in Path("m/mixed.jsonl").read_text().split("\n") if x]
        whole = [ids for ids, _ in BaseTokenizer(base, turns).example_ids(examples)]
        assert [list(d.ids) for d in inputs.data] == whole
        seen[chat] = (report["key"], report["sha256"], str(identity(Recipe(), inputs)), lengths["task"])
    # The records are the same: the turns are put around them when they are read.
    assert seen["true"][1] == seen["false"][1]
    assert all(seen["true"][i] != seen["false"][i] for i in (0, 2, 3))


# --- one prompt, in training and in serving

texts = st.text(st.characters(codec="utf-8"), max_size=40)
parts = st.sampled_from(["both", "prefix", "opening", "none"])
anchors = st.one_of(
    st.builds(AnchorConfig, wording=st.sampled_from(["short", "paper", "nonce"]), parts=parts).map(lambda c: render(c, IS_EN)),
    st.builds(Anchor, prefix=texts, opening=texts),
)


@given(anchors, texts)
def test_stripping_the_opening_gives_the_rest_back(anchor: Anchor, rest: str) -> None:
    assert anchor.strip(anchor.opening + rest) == rest


@pytest.mark.parametrize(
    ("opening", "response", "stripped"),
    [
        ("English:\n", "English:\n\nHello.", "\nHello."),
        ("English:\n", "\nEnglish: \nHello.", " \nHello."),
        ("English:\n", "English:", ""),
        # A translation that begins so.
        ("English:\n", "English: a language.", "English: a language."),
        ("English:\n", "Englishmen came.", "Englishmen came."),
        ("Sure: \n\n ", "Sure:\nHello.", "\nHello."),
        ("> ", ">\tHello.", "\tHello."),
        ("> ", ">Hello.", ">Hello."),
        ("", "  Hello.", "  Hello."),
    ],
)
def test_a_repeated_opening_is_known_by_how_it_is_set_off(opening: str, response: str, stripped: str) -> None:
    assert Anchor(prefix="", opening=opening).strip(response) == stripped


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return light_base(tmp_path_factory.mktemp("light"))


@settings(deadline=None)
@given(anchor=anchors, source=texts, target=texts, chat=st.sampled_from([None, TURNS, ChatTurns(before="", after="", end="")]))
def test_the_prompt_served_is_the_beginning_of_the_example_trained(light: Base, anchor: Anchor, source: str, target: str, chat: ChatTurns | None) -> None:
    anchor = anchor.model_copy(update={"chat": chat})
    tokenizer = BaseTokenizer(light, chat)
    prompt = tokenizer.prompt_ids(anchor, source)
    ((ids, start),) = tokenizer.example_ids([Example("t", "task", anchor.prompt(source), anchor.opening, target)])
    assert ids[: len(prompt)] == prompt
    # From where the loss is taken: opening and response as text, and one end.
    assert tokenizer.decode(ids[start:]) == anchor.opening + target and ids[-1] == 1 and ids[start:].count(1) == 1


# --- cards


def test_a_card_pins_the_turns_and_cards_without_them_keep_their_names(isolated: Path) -> None:
    base = chat_base(isolated)
    adapter = light_adapter(isolated / "a", base)
    raw = json.loads((adapter.path / CARD).read_text())
    assert set(raw["anchor"]) == {"prefix", "opening"}
    # A card as it was written before there was chat, and the name it was given then.
    nothing: dict[str, Any] = {"recipe": {}, "data": {}, "training": {}, "versions": {}, "files": {}}
    old = Card(pair="is-en", base=BaseRef(id="b", revision="r"), anchor=Anchor(prefix="p", opening="o"), rank=1, seed=0, **nothing)
    assert adapter_id(old) == "ea3042590def6f5f707852fda0e8da82"
    card = adapter.card.model_copy(update={"anchor": render(AnchorConfig(chat=True), IS_EN, base)})
    (adapter.path / CARD).write_bytes(card.dump())
    again = open_adapter(adapter.path)
    assert again.card.anchor.chat == TURNS and again.id != adapter.id
    raw["anchor"]["turns"] = {}
    (adapter.path / CARD).write_text(json.dumps(raw))
    with pytest.raises(TellmtError, match="card cannot be read"):
        open_adapter(adapter.path)


def test_translate_asks_as_the_card_says(isolated: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The ids that the engine is given are those of training, by the card alone: the base's template has gone."""
    import serve.files.local
    from tell.model.engine import EngineOptions, Prompt
    from tell.registry.registry import Registry
    from tellmt.cli import main
    from tests.support.running import Upper

    base = chat_base(isolated)
    adapter = light_adapter(isolated / "a", base)
    card = adapter.card.model_copy(update={"anchor": render(AnchorConfig(wording="paper", chat=True), IS_EN, base)})
    (adapter.path / CARD).write_bytes(card.dump())
    id = Registry().add(adapter.path, card)
    Registry().promote("is-en", id, "for this test")
    (base.path / "chat_template.jinja").unlink()
    seen_prompts: list[Prompt] = []

    class Noting(Upper):
        async def generate(self, prompts: Any, adapter_id: str | None) -> Any:
            seen_prompts.extend(prompts if adapter_id else [])
            return await super().generate(prompts, adapter_id)

        def answer(self, source: str, adapter_id: str | None) -> Any:
            # Though it was given, it says the opening again.
            generation = super().answer(source.split("\n")[0].strip(), adapter_id)
            return type(generation)(f"{card.anchor.opening}{generation.text}", generation.tokens, generation.finish)

    monkeypatch.setattr(serve.files.local, "open_engine", lambda name, options: Noting(EngineOptions(base=options.base)))
    Path("in.txt").write_text("hestur <eos>\n")
    assert main(["translate", "in.txt", "--from", "is", "--to", "en", "--tries", "0", "-o", "out.txt"]) == 0, capfd.readouterr().err
    assert Path("out.txt").read_text() == "HESTUR <EOS>\n"
    ((ids, _),) = BaseTokenizer(base, TURNS).example_ids([Example("t", "task", card.anchor.prompt("hestur <eos>"), card.anchor.opening, "x")])
    assert list(seen_prompts[-1].ids) == ids[: len(seen_prompts[-1].ids)] and len(ids) == len(seen_prompts[-1].ids) + 2
    capfd.readouterr()
    assert main(["registry", "show", id]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "before the prompt" in printed and repr(TURNS.after) in printed
