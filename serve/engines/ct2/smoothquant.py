"""Make a model's int8 copy compute nearly what the model does: SmoothQuant (Xiao et al. 2023, arXiv 2211.10438), without data from the user.

ctranslate2 rounds each row of activations to 8 bits by its largest value, and a few channels of a language model are many times larger than the others,
which are then rounded to little. What a normalisation, or the up projection of a feed-forward layer, hands on can be divided by a number for each channel
when the weights that take it in are multiplied by the same numbers: the model computes what it did, and both are easier to round. The numbers come from
how large each channel gets on sentences of many languages and scripts, which are below; docs/results/serve-engines.md has what it gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# How much of the unevenness goes from the activations into the weights: 0 none, 1 all. Of 0.3, 0.5, 0.6, 0.7, 0.8 and 0.9 the best by the loss of 109 dev
# segments (Gemma 3 270M, is-en), on which 0.6 to 0.9 differ little.
SHARE = 0.7
# Below this a channel of activations or of weights counts as this large; and no channel is scaled by more than this factor against the others: a channel
# that none of the texts activates may be activated by others.
LEAST, MOST = 1e-5, 16.0
# Texts that are computed at once, of like lengths.
TOGETHER = 8
# Everyday sentences.
TEXTS = (
    "Translate from English to Icelandic.\nThe ferry leaves at half past nine and arrives before noon.\nFerjan fer klukkan hálf tíu og kemur fyrir hádegi.",
    "Translate from Welsh to English.\nMae'r llyfrgell ar gau ddydd Llun.\nThe library is closed on Monday.",
    "The council approved the budget on Tuesday by 31 votes to 12, although two members had asked for more time.",
    "Researchers at the university say the new vaccine protects about 80% of patients for at least six months.",
    "“I never thought we would lose,” said the captain after the match, which her team had led until the last minute.",
    "Please click Save to keep your changes, or Cancel to go back to the previous page.",
    "He bought three kilos of potatoes, a loaf of bread and some milk, and paid €14.50 in all.",
    "Ráðherrann sagði í gær að frumvarpið yrði lagt fram á Alþingi fyrir jól.",
    "Mae'r trên nesaf i Gaerdydd yn gadael o blatfform dau ymhen deng munud.",
    "Bhí an aimsir go breá inné, ach beidh sé ag cur báistí arís amárach.",
    "Gobernuak atzo iragarri zuen lege berria, eta sindikatuek kritikatu egin dute.",
    "Í Havn er nógv at síggja, og á sumri eru dagarnir langir og ljósir.",
    "Die Bürgermeisterin eröffnete gestern die neue Brücke über den Fluss.",
    "Les habitants du village ont dû quitter leurs maisons à cause des inondations.",
    "El equipo ganó el partido en los últimos minutos gracias a un gol de cabeza.",
    "A empresa anunciou que vai contratar duzentas pessoas até ao fim do ano.",
    "Il museo resterà aperto fino a mezzanotte durante tutto il mese di agosto.",
    "Regeringen vill att fler unga ska kunna köpa sin första bostad.",
    "Tutkijoiden mukaan järven vesi on nyt puhtaampaa kuin kymmenen vuotta sitten.",
    "Wczoraj wieczorem na autostradzie zderzyły się trzy samochody ciężarowe.",
    "A miniszter szerint jövőre emelkedni fognak a nyugdíjak.",
    "Bakanlık, okulların pazartesi günü yeniden açılacağını duyurdu.",
    "Maji ni haba katika kijiji hiki, na watoto hutembea mbali kila siku kuyachota.",
    "Chính phủ cho biết giá xăng sẽ giảm từ tuần tới.",
    "Президент подписал закон, который вступит в силу первого января.",
    "Η κυβέρνηση ανακοίνωσε νέα μέτρα για την προστασία των δασών.",
    "أعلنت الوزارة أن المدارس ستفتح أبوابها من جديد يوم الأحد.",
    "המוזיאון ייפתח מחדש בחודש הבא לאחר שיפוץ של שנתיים.",
    "सरकार ने कहा है कि अगले महीने से बिजली सस्ती होगी।",
    "市政府宣布,新的地铁线路将于明年春天开通。",
    "昨日の夜、北海道で強い地震がありましたが、けが人はいませんでした。",
    "정부는 내년부터 최저 임금을 올리겠다고 밝혔다.",
)


def smooth(model: Any, texts: Sequence[Sequence[int]]) -> int:
    """Smooth `model`, a causal language model of transformers in float32, in place. Returns the number of layers that were changed. Layers of an
    unknown kind are left as they are. `texts` are token ids."""
    import torch

    with torch.inference_mode():
        by_layer = [list(_places(layer)) for layer in getattr(_decoder(model), "layers", ())]
        places = [place for layer_places in by_layer for place in layer_places]
        if not places:
            return 0
        largest = _largest(model, [takers[0] for _, _, takers, _ in places], texts)
        for (norm, offset, takers, up), heights in zip(places, largest, strict=True):
            widths = torch.cat([t.weight for t in takers]).abs().amax(0)
            factors = heights.clamp(min=LEAST) ** SHARE / widths.clamp(min=LEAST) ** (1 - SHARE)
            factors = (factors / factors.log().mean().exp()).clamp(1 / MOST, MOST)
            for taker in takers:
                taker.weight.mul_(factors)
            if norm is not None:
                norm.weight.copy_((norm.weight + offset) / factors - offset)
            else:
                up.weight.div_(factors[:, None])
                if up.bias is not None:
                    up.bias.div_(factors)
    return sum(map(bool, by_layer))


def _places(layer: Any) -> Iterator[tuple[Any, float, list[Any], Any]]:
    """Where a layer can be evened out: (normalisation or None, what it adds to its weight, the projections that take it in, the projection before them)."""
    attention, ffn = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    # With four normalisations in a layer, the one before the feed-forward has this name; with two, it is the one after the attention.
    second = getattr(layer, "pre_feedforward_layernorm", None) or getattr(layer, "post_attention_layernorm", None)
    for norm, block, names in (
        (getattr(layer, "input_layernorm", None), attention, ("q_proj", "k_proj", "v_proj")),
        (second, ffn, ("gate_proj", "up_proj")),
    ):
        takers = _linear(block, names)
        if takers and (offset := _offset(norm)) is not None:
            yield norm, offset, takers, None
    if projections := _linear(ffn, ("gate_proj", "up_proj", "down_proj")):
        yield None, 0.0, [projections[2]], projections[1]


def _linear(block: Any, names: Sequence[str]) -> list[Any]:
    """The projections of these names, or none where one is missing or is something else."""
    import torch

    projections = [getattr(block, name, None) for name in names]
    return projections if all(type(p) is torch.nn.Linear for p in projections) else []


def _offset(norm: Any) -> float | None:
    """What an RMS normalisation adds to its weight before it multiplies by it: 1 in Gemma, 0 in Llama. None for another kind of normalisation."""
    import torch

    weight = getattr(norm, "weight", None)
    if weight is None or weight.dim() != 1 or getattr(norm, "bias", None) is not None:
        return None
    x = torch.linspace(-3, 5, weight.numel())
    normed, output = x * torch.rsqrt(x.pow(2).mean() + 1e-6), norm(x[None, None])[0, 0]
    return next((o for o in (0.0, 1.0) if torch.allclose(output, normed * (weight + o), rtol=1e-3, atol=1e-4)), None)


def _decoder(model: Any) -> Any:
    """What lies below the output projection: of a class that reads images too, the part that reads text."""
    return model.get_decoder() if hasattr(model, "get_decoder") else getattr(model, "model", None)


def _largest(model: Any, modules: Sequence[Any], texts: Sequence[Sequence[int]]) -> list[Any]:
    """The largest absolute value of each input channel of each module, over all texts."""
    import torch

    largest: dict[int, Any] = {}
    # (texts, tokens): which tokens of a batch are of its texts.
    own: Any = None

    def watch(module: Any, inputs: Any) -> None:
        heights = inputs[0][own].abs().amax(0)
        largest[id(module)] = torch.maximum(largest[id(module)], heights) if id(module) in largest else heights

    hooks = [m.register_forward_pre_hook(watch) for m in modules]
    by_length = sorted(texts, key=len)
    try:
        for start in range(0, len(by_length), TOGETHER):
            batch = by_length[start : start + TOGETHER]
            # What fills a row up comes after the text, whose tokens do not look at it.
            longest = len(batch[-1])
            own = torch.tensor([[i < len(ids) for i in range(longest)] for ids in batch])
            # Without the output projection, which is not needed.
            _decoder(model)(torch.tensor([[*ids, *[ids[0]] * (longest - len(ids))] for ids in batch]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [largest[id(m)] for m in modules]
