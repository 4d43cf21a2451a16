"""How placeholders look, in the programs and frameworks whose texts are translated: one pattern for all of them. Reads nothing.

A form is told by its looks alone, since a text does not say which program reads it. So what prose has too is no form: "50% discount", `12:30`, `a:b`, `$5`.
Each form looks at a bounded stretch, or ends where it would begin again, so that the pattern takes time in proportion to the text.
"""

from __future__ import annotations

import re

# What stands between an argument and the next one of a conversion: position, flags, width, precision, size of the number. A space is no flag here: "5 % af".
_SIZE = r"(?:hh|h|ll|l|q|L|j|z|t|w|I32|I64)?"
_WIDTH = r"(?:\d{1,4}|\*(?:\d{1,2}\$)?)?(?:\.(?:\d{1,4}|\*(?:\d{1,2}\$)?)?)?"
_FLAGS = r"[#0+,'-]{0,4}"
_NOT_PER_CENT = r"(?<![\d%])"
_AFTER_NUMBER = r"(?<!\d[ \u00a0\u202f])"
# Where a name ends: in a script without spaces a letter may follow. Before a colon none may stand, as in "作者:John".
_NO_NAME = r"(?![A-Za-z0-9_À-ɏ])"
_NAME = r"[A-Za-z_][\w.-]{0,60}"

# In the order in which they are looked for at a place of the text: what holds others comes first.
FORMS = (
    # Code of templates: ERB, EJS, JSP, PHP, and directives of FreeMarker.
    r"<%(?:[^%]|%(?!>)){0,500}%>",
    r"<\?(?:php\b|=|\s).{0,500}?\?>",
    r"</?[#@][A-Za-z][\w.]{0,40}(?:\s[^<>]*)?/?>",
    # A tag, also one with a number for a name as in Trans of i18next; a comment or an entity, as in HTML and XML: not "a < b".
    r"</?[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>",
    r"</?\d{1,3}/?>",
    r"<!--.{0,500}?-->",
    r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});",
    # Addresses. A host without a scheme only with a www or a path.
    r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s<>\"“”«»{}|\\^`]+",
    r"(?<![\w@])www\.[^\s<>\"“”«»{}|\\^`]+",
    r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    # {{{html}}}, {{name}}, {{- name}}, {{n, number}}, {{ 'a' | translate:{n: 1} }}, {{< figure >}}, {% if %}, {# note #}, {!! $x !!}; $t(key), @:key.
    r"\{\{\{[^{}\n]{0,200}\}\}\}",
    r"\{\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,200}\}\}",
    r"\{%(?:[^%\n]|%(?!\})){1,200}%\}",
    r"\{#[^{}\n]{0,200}#\}",
    r"\{!![^{}\n]{0,200}!!\}",
    r"\$t\([^()\n]{1,200}\)",
    r"(?<![\w@])@(?:\.[a-z]{1,20})?:(?:\([\w.]{1,60}\)|\w{1,40}(?:\.\w{1,40}){0,5})",
    # ${name}, ${a || b}, #{a.b}, $(NAME), \(name) of Swift.
    r"[$#]\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,200}\}",
    r"\$\([A-Za-z_][\w.]{0,60}\)",
    r"\\\([A-Za-z_][\w.?!]{0,60}(?:\([^()\n]{0,60}\)|\[[^\[\]\n]{0,30}\])?(?: ?(?:\?\?|[-+*/]) ?[\w.\"]{1,30})?\)",
    # Arguments of ICU and of Java with a type; { $count }, { -brand(case: "x") }, { NUMBER($n) } and { "}" } of Fluent, {$x|escape}; {!A.b}.
    r"\{\s{0,4}[\w.-]{1,60}\s{0,4},\s{0,4}(?:number|date|time|datetime|spellout|ordinal|duration|choice|list)\s{0,4}(?:,[^{}\n]{0,120})?\}",
    r"\{\s{0,4}\$[^{}\n]{1,120}\}",
    r"\{\s{0,4}-[A-Za-z][\w-]{0,60}\s?(?:\([^(){}\n]{0,80}\))?\s{0,4}\}",
    r"\{\s{0,4}[A-Z][A-Z_]{1,30}\([^(){}\n]{0,120}\)\s{0,4}\}",
    r"\{\s{0,4}\"[^\"\n]{0,60}\"\s{0,4}\}",
    r"\{![\w.]{1,60}\}",
    # {0:#,##0.00}, {0,-10:dd MMM yyyy}, {0:{1}.{2}f}, { name }; {name}, {0:>8.2f}, {}, {name|upper}, %{name}: not a brace with a sentence in it.
    r"\{\d{1,3}(?:,\s?-?\d{1,3})?(?::[^{}\n]{1,40})?\}",
    r"\{[\w.]{0,60}:(?:[^{}\s]{0,10}\{\w{0,20}\}){1,3}[^{}\s]{0,10}\}",
    r"\{ [a-z_][a-z0-9_]{0,40}(?:\.[a-z_][a-z0-9_]{0,40}){0,4} \}",
    r"[@%]?\{(?:[\w.\[\]]{0,60}|[A-Za-z_][\w.-]{0,60})(?:=?![rsa])?(?:\s?\|\s?\w{1,20}){0,2}(?::[^{}\s]{0,20})?\}",
    # %(n)d, %(n)03.1f, %<n>s, %<PRIu64>, %#@n@, %@, %0:s, %NAME%.
    rf"%\({_NAME}\)[#0 +-]*\d{{0,4}}(?:\.\d{{1,4}})?{_SIZE}[a-zA-Z]",
    r"%(?:\d{1,2}\$)?[#0+-]*\d{0,4}<PRI[a-zA-Z0-9]{1,10}>",
    r"%<[A-Za-z_]\w{0,60}>[#0+-]*\d{0,4}(?:\.\d{1,4})?[a-zA-Z]",
    r"%(?:\d{1,2}\$)?#@\w{1,60}@",
    rf"{_NOT_PER_CENT}%\d{{1,2}}:[a-z](?![A-Za-zÀ-ɏ])",
    rf"{_NOT_PER_CENT}%(?!L\d)[A-Za-z_][A-Za-z0-9_.]{{1,40}}%{_NO_NAME}",
    # %s, %1$s, %-5.2f, %lu, %Ln, %tY. What follows may be a word where the conversion can be nothing else: %dMB, %s's, %.1fx; not "100 %discount".
    rf"{_NOT_PER_CENT}%(?:\d{{1,2}}\$|<)?{_FLAGS}{_WIDTH}{_SIZE}(?:t?[A-KM-Za-z](?![A-Za-zÀ-ɏ])|@)",
    rf"{_NOT_PER_CENT}{_AFTER_NUMBER}%(?:\d{{1,2}}\${_FLAGS}{_WIDTH}{_SIZE}[a-zA-Z@]|{_FLAGS}\d{{0,4}}\.\d{{1,4}}{_SIZE}[a-zA-Z]|{_FLAGS}\d{{0,4}}(?:ll|l|z)?[dsu])",
    # %1, %L1 and %n of Qt: not %1.5, %50 of a language that writes the sign first; two digits only after one (placeholders.find_placeholders).
    rf"{_NOT_PER_CENT}%L?\d{{1,2}}(?![.,:]?\d|\$)",
    r"%%",
    # $name$, $NAME and $name: not $5, $US5 and other dollars.
    r"\$[A-Za-z_]\w{0,40}\$",
    r"(?<![A-Za-z0-9_$])\$(?!(?:US|USD|A|AU|AUD|NZ|NZD|C|CA|CAD|CAN|HK|HKD|S|SG|SGD|TT|R|K|k|m|mn|mm|M|MM|b|bn|B|BN|tn|[mbtr]r?illions?|thousands?)(?![A-Za-z_]))[A-Za-z_][A-Za-z0-9_]{1,40}",
    # __NAME__, :smile: and :ref:, :name of Laravel, @NAME@, *|NAME|*, [X12X], [[1]], ⟦0⟧.
    r"__[A-Za-z0-9_]{1,40}__",
    rf"(?<![\w:]):[a-z][a-z0-9_+-]{{1,40}}:(?!:){_NO_NAME}",
    rf"(?<![\w:.,;!?)\]}}%]):[A-Za-z][A-Za-z0-9_]{{1,40}}(?!:){_NO_NAME}",
    rf"(?<![\w@])@[A-Z][A-Z0-9_]{{1,40}}@{_NO_NAME}",
    r"\*\|[A-Z][A-Z0-9_:]{0,40}\|\*",
    r"\[X\d{1,6}X\]",
    r"\[\[[^\[\]\n]{1,80}\]\]|[⟦⟪][^⟦⟧⟪⟫\n]{1,40}[⟧⟫]",
)  # fmt: skip
FOUND = re.compile("|".join(f"(?:{form})" for form in FORMS), re.S)
# What each of them has: most texts have none, and are told so in a tenth of the time.
HINT = re.compile(r"[<&@{%$\[⟦⟪]|://|__|www\.|\\\(|\*\||(?<![\w:]):[A-Za-z]", re.S)
