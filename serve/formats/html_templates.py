"""Code of templates in a page, of PHP, ERB, Jinja, Handlebars, FreeMarker, Blade and their like: where it begins and ends, and its lines. Reads nothing.

What is code to the program that makes the page is no HTML: a `>`, a quote or an ampersand in it is none of the page's.
"""

from __future__ import annotations

import re

# Begins code, wherever it stands.
START = r"<[?%]|\[[\[(]\$\{|</?[#@][A-Za-z]|<#--|\{\{|\{%|\{#|\{!!|[$#]\{(?=[\w(!])"
CODE = re.compile(START)
# Characters of one in braces. PHP, ERB and JSP are as long as programs are.
LONGEST = 2000
_SIGNS = re.compile(r"<\?(?:php\b|=|\s|$)|<%--|<%|<#--|</?[#@]|\{\{\{|\{\{!--|\{\{--|\{\{|\{%|\{#|\{!!|[$#]\{|\[\[\$\{|\[\(\$\{", re.I)
_ENDS = {"<%--": "--%>", "<%": "%>", "<#--": "-->", "{{{": "}}}", "{{!--": "--}}", "{{--": "--}}", "{{": "}}", "{%": "%}", "{#": "#}", "{!!": "!!}",
         "[[${": "}]]", "[(${": "})]"}  # fmt: skip
_DIRECTIVE_SIGN = re.compile(r"[()\"'>]")
# Steps of a program, which end what is before them where they fill a line; the others stand for a word.
STEP = re.compile(r"<\?(?!=)|<%(?![=-])|</?[#@]|\{%|\{#|\{\{\{?\s*(?:[#/^!]|else\b|end\b|if\b|range\b|with\b)", re.I)
_BEFORE, _AFTER = ("%}", "}}", "?>", "%>", "#}"), ("{%", "{{", "<?", "<%", "{#")
# Lines of Blade and of Velocity.
LINES = re.compile(
    r"^[ \t]*(?:@(?:if|else|elseif|endif|unless|endunless|isset|endisset|foreach|endforeach|forelse|empty|endforelse|for|endfor|while|endwhile|switch|case"
    r"|break|default|endswitch|section|endsection|show|stop|parent|yield|extends|include|includeIf|csrf|method|auth|endauth|guest|endguest|can|endcan|error|enderror"
    r"|php|endphp|component|endcomponent|slot|endslot|push|endpush|stack|props|verbatim|endverbatim|vite|once|endonce)\b(?:[ \t]*\([^\n]*\))?"
    r"|#(?:if|elseif|foreach|set|parse|include|macro)[ \t]*\([^\n]*\)|#(?:end|else))[ \t]*$",
    re.M,
)


class Templates:
    """Where the code in a page ends. What is not closed is looked for once."""

    def __init__(self, text: str):
        self.text = text
        self._never_closed: set[str] = set()

    def end(self, start: int) -> int:
        """Where the code ends that begins at `start`; -1 where it is none."""
        sign = _SIGNS.match(self.text, start)
        if sign is None:
            return -1
        opener = sign.group()
        if opener.startswith("<?"):
            return self._closed("?>", sign.end(), len(self.text), len(self.text))
        if opener[-1] in "#@" and opener[0] == "<":
            return self._directive(sign.end())
        if opener in ("${", "#{"):
            end = self.text.find("}", sign.end(), start + LONGEST) + 1
            return end if end and "\n" not in self.text[start:end] else -1
        limit = len(self.text) if opener.startswith("<") else start + LONGEST
        return self._closed(_ENDS[opener], sign.end(), limit, -1)

    def _closed(self, closer: str, position: int, limit: int, otherwise: int) -> int:
        if closer in self._never_closed:
            return otherwise
        end = self.text.find(closer, position, limit)
        if end < 0:
            if limit >= len(self.text):
                self._never_closed.add(closer)
            return otherwise
        return end + len(closer)

    def _directive(self, position: int) -> int:
        """The end of a tag of FreeMarker: a `>` in brackets or quotes is none."""
        depth, quote, limit = 0, "", position + LONGEST
        while sign := _DIRECTIVE_SIGN.search(self.text, position, limit):
            position = sign.end()
            if quote:
                quote = "" if sign.group() == quote else quote
            elif sign.group() in "\"'":
                quote = sign.group()
            elif sign.group() == ">":
                if depth <= 0:
                    return position
            else:
                depth += 1 if sign.group() == "(" else -1
        return -1

    def is_border(self, start: int, end: int) -> bool:
        """Whether the code is a step of a program on a line of its own, so that what is before it is no sentence with what is after it."""
        if not STEP.match(self.text, start):
            return False
        line_start = self.text.rfind("\n", max(0, start - 200), start) + 1
        line_end = self.text.find("\n", end, end + 200)
        if (not line_start and start > 200) or (line_end < 0 and end + 200 < len(self.text)):
            return False
        before, after = self.text[line_start:start].strip(), self.text[end : line_end if line_end >= 0 else None].strip()
        return (not before or before.endswith(_BEFORE)) and (not after or after.startswith(_AFTER))
