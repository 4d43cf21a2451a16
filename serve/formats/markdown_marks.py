"""How the lines of Markdown's dialects look. Reads nothing."""

from __future__ import annotations

import re

# Lines that are looked at for the end of what begins on a line.
AHEAD = 200
QUOTE = re.compile(r"\A[ \t]*>[ \t]?(?:[ \t]{0,3}>[ \t]?)*")
HTML = re.compile(r"<(?:!--|(pre|script|style|textarea)(?=[\s>]|$))", re.I)
FENCE = re.compile(r"(?:(?:[-+*]|\d{1,9}[.)])[ \t]{1,8}){0,8}(`{3,}(?!.*`)|~{3,})")
ITEM = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)")
# :::note Title, :::note[Title]{.x}, ::: {.note}, :::row:::, ::leaf[Title]{x}
COLONS = re.compile(r"(:{2,})[ \t]*(?:[A-Za-z][\w-]*|\{[^{}]*\})?(?:\[(?P<label>[^\[\]]*)\])?[ \t]*(?:\{[^{}]*\})?(?P<title>[^\n]*)")
ATTRIBUTES = re.compile(r"[\w-]{1,60}=|:+$")
# > [!NOTE], > [!tip]- Title, [!INCLUDE [a](b)]
ALERT = re.compile(r"\[![A-Za-z][\w-]*\][+-]?[ \t]*(?P<title>.*)")
DIRECTIVE = re.compile(r"\[!(?:INCLUDE|div|code|VIDEO)\b.*\]\s*")
# !!! note "Title", ??? note, ???+ "Title", === "Tab"
INDENTED = re.compile(r"(?:!!!|\?\?\?\+?)(?:[ \t]*[\w-]+(?:[ \t]+[\w-]+)*)?(?:[ \t]*\"(?P<title>[^\n]*)\")?")
TAB = re.compile(r"===[!+]?[ \t]+\"(?P<title>[^\n]*)\"")
# /// note | Title
SLASHES = re.compile(r"/{3,}(?:[ \t]*(?P<name>[\w-]+))?(?:[ \t]*\|[ \t]*(?P<title>[^\n]*))?")
NO_TITLE = {"html"}
# [^1]: a note, *[HTML]: an abbreviation, : a definition; !> and ?> of docsify.
ENTRY = re.compile(r"(?:\[\^[^\[\]\s]+\]:|\*\[[^\[\]\n]+\]:|:(?=[ \t])|\|(?=[ \t]+[^\s|][^|]*$))[ \t]*")
DASHES = re.compile(r"\A[|:\- \t]*-[|:\- \t]*")
# Tables that are drawn: +---+---+, and ----  ---- under or around their columns.
GRID = re.compile(r"\+(?:[-=:]+\+)+")
COLUMNS = re.compile(r"\A-{2,}(?:[ \t]+-{2,})+")
# What MyST writes as a fence, though it holds text, and its options.
DIRECTIVE_NAMES = {
    "note", "warning", "tip", "important", "caution", "danger", "attention", "hint", "error", "seealso", "admonition", "dropdown", "margin", "sidebar", "card",
    "grid", "grid-item", "grid-item-card", "tab-set", "tab-item", "topic", "epigraph", "pull-quote", "versionadded", "versionchanged", "deprecated", "details",
    "div",
}  # fmt: skip
FENCED_DIRECTIVE = re.compile(r"\A(`{3,}|~{3,})\{(?P<name>[\w-]+)\}(?:[ \t]+(?P<title>[^\n]*))?")
OPTION = re.compile(r":[\w-]{1,40}:(?:[ \t].*)?")
MARKED = re.compile(r"[!?]>[ \t]+")
# A line that is nothing but markup: attributes, tables of contents, files that are put in, labels, commands of LaTeX, block comments of MDX.
MARKUP = re.compile(
    r"\{:?[ \t]*[#.:/][^{}\n]*\}|\{:[^{}\n]*\}|\[TOC\]|\[\[_?toc_?\]\]|;?-{1,8}8<-{1,8}.*|<<<[ \t]*@.*|@\[code[^\n]*|\([\w-]+\)="
    r"|\\(?:newpage|pagebreak|tableofcontents|clearpage)\b.*|%%.*%%",
    re.I,
)
SNIPPETS = re.compile(r"-{1,8}8<-{1,8}")
IMPORT = re.compile(
    r"import\s+(?:[\w*{][^\n]*\sfrom\s+)?['\"][^'\"\n]+['\"];?(?:[ \t]*//.*)?$|import\s+\{"
    r"|export\s+(?:default|const|let|var|function|class|async|\{|\*)(?=\W|$)"
)
BEGIN = re.compile(r"\\begin\{([A-Za-z]+\*?)\}")
TEMPLATE = re.compile(r"\{\{[<%]?|\{[%#]")
TEMPLATE_END = {"{{<": ">}}", "{{%": "%}}", "{{": "}}", "{%": "%}", "{#": "#}"}
TEMPLATE_NAME = re.compile(r"[ \t<%-]{0,10}(\w{1,40})")
# Whose content is no text.
CODE = frozenset(["highlight", "raw", "comment", "verbatim", "mermaid", "code", "codeblock", "math", "katex", "plantuml"])
COMPONENT = re.compile(r"</?(?:[A-Z](?=[\w.]*[a-z])[\w.]*(?=[\s/>]|$)|>)|\{/\*")
TAG_SIGN = re.compile(r"[{}\"'>]")
TABS = 4


BETWEEN = re.compile(r">\s*[^<\s]")
_COMMAND = re.compile(r"\\[A-Za-z]+\*?(?:\{[A-Za-z ]*\})?")
_WORDS = re.compile(r"[^\W\d_]{2}[ ,]{1,3}[^\W\d_]{2}")
_OPERATOR = re.compile(r"[\\^_={}+*/<>|]")


def is_formula(text: str) -> bool:
    """Whether what stands between signs of a formula is one: no two words one after the other, and after a digit some operator."""
    if _WORDS.search(_COMMAND.sub("", text)):
        return False
    return not text[:1].isdigit() or _OPERATOR.search(text) is not None or text.isdigit()
