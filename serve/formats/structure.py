"""Files that have a structure, and must not be taken for plain text: by their names, and by their first characters. Reads nothing itself.

Plain text is translated line by line, keys and syntax too: a file of settings comes back broken. What is none of the formats is plain text only where
nothing in its name and at its beginning says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tell.errors import CorpusError

# First bytes of a file that are looked at.
START = 8192
# Endings of files with a structure that is not kept, by what they are.
_KINDS = {
    "a document or archive": """
        .pdf .doc .xls .ppt .pptx .odt .ods .odp .rtf .epub .zip .tar .tgz .bz2 .xz .zst .7z .rar .jar .apk .ipa .idml .indd .pages .mobi .numbers
        .key .sqlite .db .parquet .mo .gmo .qm .png .jpg .jpeg .gif .webp .ico .mp3 .mp4 .wav .ogg .webm .woff .woff2 .ttf .otf .exe .dll .so .class
        .pyc
    """,
    "JSON": """
        .json .json5 .jsonc .geojson .webmanifest .xcstrings .ipynb .har .map .arb .hjson
    """,
    "XML": """
        .xml .xsd .xsl .xslt .svg .rss .atom .plist .stringsdict .resx .resw .xaml .axml .dita .ditamap .dbk .docbook
        .txml .wxl .storyboard .xib .ui .ttml .dfxp .fods .fodt .opml .tbx .tmmx .gpx .kml .dix .csproj .vcxproj .nuspec .pom .jsp .aspx .cshtml
        .razor
    """,
    "YAML": """
        .yaml .yml
    """,
    "settings": """
        .ini .toml .properties .cfg .conf .cnf .env .editorconfig .desktop .inf .reg .strings .ftl .prefs .hcl .tf .tfvars .service .nix .lock .dtd
        .lang
    """,
    "markup": """
        .rst .adoc .asciidoc .asc .tex .ltx .latex .bib .textile .mediawiki .wiki .org .pod .man .roff .texi .texinfo .rmd .qmd .mdoc .typ
        .creole .dokuwiki .t2t
    """,
    "a template": """
        .j2 .jinja .jinja2 .tmpl .tpl .tt .erb .ejs .hbs .handlebars .mustache .twig .liquid .pug .haml .slim .njk .ftlh .vm .gotmpl .eex .heex
        .leex .blade .latte .astro .vue .svelte .marko .riot
    """,
    "source code": """
        .js .mjs .cjs .jsx .ts .mts .cts .tsx .php .phtml .py .pyi .rb .rake .java .kt .kts .scala .groovy .gradle .c .h .cc .cpp .cxx .hh .hpp .m
        .mm .cs .vb .fs .go .rs .swift .dart .lua .pl .pm .r .jl .hs .elm .ex .exs .erl .hrl .clj .cljs .edn .lisp .el .scm .ml .mli .sql .sh .bash
        .zsh .fish .ps1 .psm1 .bat .cmd .css .scss .sass .less .styl .graphql .gql .proto .thrift .cmake .mk .make .asm .s .v .vhd .sol .wat .coffee
        .nim .zig .d .pas .f90 .for .awk .sed .vim .rc .diff .patch .cls .sty .nsi .nsh .iss .qml .gd .tscn .rpy .ks
    """,
    "subtitles of another format": """
        .ass .ssa .sub .sbv .smi .stl .lrc .scc
    """,
    "data": """
        .dat .bin .eml .mbox .ics .vcf .ldif .warc .bibtex .ris .conllu .conll .sgm .sgml
    """,
}
# Endings that are codes of languages too: `letter.cs` may be Czech. There the first characters decide.
_LANGUAGES = {".cs", ".el", ".ml", ".pl", ".tt", ".mk", ".so", ".ts"}
KINDS = {ending: kind for kind, endings in _KINDS.items() for ending in endings.split() if ending not in _LANGUAGES}
# Files that are called by their names, whatever their endings.
_NAMES = {
    "source code": """
        makefile gnumakefile dockerfile containerfile jenkinsfile vagrantfile rakefile gemfile podfile procfile justfile brewfile cmakelists.txt
    """,
    "settings": """
        requirements.txt constraints.txt robots.txt humans.txt go.mod go.sum pipfile .gitignore .gitattributes .gitmodules .dockerignore .npmignore
        .npmrc .editorconfig .env .htaccess codeowners
    """,
    "settings of a program, and no catalogue of texts": """
        package.json package-lock.json npm-shrinkwrap.json tsconfig.json jsconfig.json composer.json bower.json lerna.json angular.json nx.json
        turbo.json deno.json vercel.json firebase.json now.json manifest.json renovate.json .eslintrc.json
        .prettierrc.json .babelrc.json i18n-ally.json docker-compose.yml docker-compose.yaml compose.yml compose.yaml .travis.yml
        .gitlab-ci.yml appveyor.yml mkdocs.yml mkdocs.yaml _config.yml .pre-commit-config.yaml pubspec.yaml pubspec.lock pnpm-lock.yaml
        pnpm-workspace.yaml dependabot.yml codecov.yml action.yml .rubocop.yml .readthedocs.yaml .readthedocs.yml database.yml
        netlify.toml openapi.yaml openapi.yml swagger.yaml swagger.yml l10n.yaml crowdin.yml androidmanifest.xml pom.xml build.xml web.xml
        persistence.xml gradle.properties log4j.properties gradle-wrapper.properties local.properties
    """,
}
NAMES = {name: kind for kind, names in _NAMES.items() for name in names.split()}

_FRONT = re.compile(r"---[ \t]*\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n){0,20}[ \t]*(?:[\w.\"'-]{1,80}[ \t]*:(?=[ \t\r\n])|- \S)")
_JSON = re.compile(r"""\{\s*(?:"(?:[^"\\\n]|\\[^\n]){0,200}"\s*:|\}\s*\Z|//|/\*)|\[\s*(?:\{\s*["}]|\[\s*[\["\d{]|"(?:[^"\\\n]|\\[^\n]){0,1000}"\s*[,\]])""")
_MARKUP = re.compile(r"<(?:[?!%]|[A-Za-z][\w:.-]{0,60}[\s/>])")
_CLOSED = re.compile(r"</[A-Za-z]|/>")
_ROOT = re.compile(r"[ \t]*[\w.\"'-]{1,80}[ \t]*:[ \t]*\Z")
_BELOW = re.compile(r"(?:[ \t]{1,16}(?:- )?[\w.\"'-]{1,80}[ \t]*:(?:[ \t]|\Z)|[ \t]{0,16}- \S)")
_SETTING = re.compile(
    r"\s{0,40}(?:\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'|(?:export[ \t]|set[ \t]|const[ \t]|let[ \t]|var[ \t]|local[ \t])?"
    r"[\w$.@/-]{1,120}(?:\[[^\]\n]{0,80}\])?)[ \t]{0,40}:?="
    r"|\s{0,40}[A-Za-z][\w-]{0,60}(?:[._][A-Za-z][\w-]{0,60}){1,12}:[ \t]"
)
_SECTION = re.compile(r"\[{1,2}[\w .:\"'/@*-]{1,120}\]{1,2}\s*\Z")
_COMMENT = re.compile(r"\s*(?:[#;!%]|//|/\*|\*/|\*[ \t]|--[ \t]|\"\"\"|'''|<!--)")
_PO = re.compile(r"^(?:#~ )?msgid[ \t]+\"", re.M)
_TEX = re.compile(r"^[ \t]{0,40}\\(?:documentclass|begin|usepackage|input|section|chapter)\b", re.M)
_CODE = re.compile(
    r"\s*(?:from\s+[\w.]+\s+import\s+\w|import\s+(?:[{*\"']|[\w.]+(?:\s+as\s+\w+)?;?\Z|\w+\s+from\s)|(?:export\s+)?(?:async\s+)?(?:def|class|function|func|fn|package|namespace|using"
    r"|module|interface)\s+[\w.$]+\s*[({:;<=]|#include\s*[<\"]|(?:public|private|protected|static)\s+\w|(?:const|let|var)\s+[\w{\[]|@\w+\(|return\b[^\n]{0,200};)"
)
# A semicolon alone ends lines of laws and lists too.
_CODE_ENDS = ("{", "}", ");", "};", "];", "):")
_MAN = re.compile(r"^\.(?:TH|SH|Dd|Sh|PP)\b", re.M)
_CUE = re.compile(r"^(?:WEBVTT\b|\d{1,2}:\d\d(?::\d\d)?[,.]\d{2,3}[ \t]+-->)", re.M)


def kind_by_whole_name(name: str) -> str | None:
    """What a file is that programs call by its whole name, whatever its ending."""
    return NAMES.get(PurePosixPath(name.replace("\\", "/")).name.lower())


def kind_by_ending(name: str) -> str | None:
    """What a file is by its ending, where that says it has a structure; None where it may be plain text."""
    return KINDS.get(PurePosixPath(name.replace("\\", "/")).suffix.lower())


def kind_by_start(start: bytes) -> str | None:
    """What a file is by its first bytes; None where they are those of plain text, or of nothing that is known."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    if b"\0" in start:
        return "binary data"
    text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore").lstrip()
    if text.startswith("#!"):
        return "a script"
    if _MARKUP.match(text) and (text[1] in "?!%" or _CLOSED.search(text)):
        return "XML, HTML or PHP"
    if text.startswith("{\\rtf"):
        return "RTF"
    if _JSON.match(text):
        return "JSON"
    if _PO.search(text):
        return "gettext's PO"
    if _CUE.search(text):
        return "subtitles"
    if _TEX.search(text):
        return "TeX"
    if _MAN.search(text):
        return "a page of a manual (roff)"
    if _FRONT.match(text):
        return "YAML, or Markdown that begins with it"
    return _kind_by_lines(text.splitlines()[:200])


def _kind_by_lines(lines: list[str]) -> str | None:
    """What the most of the lines look like. Comments count for nothing."""
    written = [line.rstrip() for line in lines if line.strip() and not _COMMENT.match(line)]
    if len(written) > 1 and _ROOT.match(written[0]) and _BELOW.match(written[1]) and sum(1 for line in written if _BELOW.match(line)) * 2 > len(written):
        return "YAML"
    if len(written) < 2:
        return "settings" if written and "=" in written[0] and _SETTING.match(written[0]) and " " not in written[0].partition("=")[0].strip() else None
    settings = sum(1 for line in written if _SETTING.match(line) or _SECTION.match(line))
    if settings * 2 > len(written):
        return "keys and values"
    code = sum(1 for line in written if _CODE.match(line) or line.endswith(_CODE_ENDS))
    return "source code" if (code > 1 and code * 3 > len(written)) or (code and (code + settings) * 2 > len(written)) else None


# So few values say nothing.
_FEW = 8
_TECHNICAL = re.compile(r"[!-~]*[_./:=@#$*\\0-9][!-~]*")


def check_catalogue(texts: Sequence[str]) -> None:
    """Raises CorpusError where the values of a file are those of settings: most of them have a sign inside that words have not (paths, versions, ids)."""
    worded = [text for text in texts if any(map(str.isalpha, text))]
    technical = sum(1 for text in worded if _TECHNICAL.fullmatch(text.strip().rstrip(".:!?*")))
    if len(worded) >= _FEW and technical * 2 > len(worded):
        found = f"{technical} of {len(worded)} values that are paths, numbers or names"
        raise CorpusError("this file has settings, and no texts", place="file", found=found, valid="a catalogue of keys and texts")
