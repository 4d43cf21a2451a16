"""Names of charsets that are none, among them codecs of Python that are no charset: a clear answer, never an error of the service."""

from __future__ import annotations

import pytest

from tests.support.serving import Running, error

pytest_plugins = ["tests.support.serving_fixtures"]

# Known to Python and no charset: of bytes to bytes, of text to text, of names of hosts, of escapes.
CODECS = ["zip", "hex", "base64", "rot13", "idna", "punycode", "undefined", "unicode_escape", "klingon"]


@pytest.mark.parametrize("name", CODECS)
def test_of_html(service: Running, name: str) -> None:
    page = f'<html><head><meta charset="{name}"></head><body><p>Halló</p></body></html>'
    answer = service.http.post("/translate_file", files={"file": ("a.html", page.encode())}, data={"source": "is", "target": "en"})
    assert error(answer, 400) == f"file: unknown charset; found {name}; valid: UTF-8"


@pytest.mark.parametrize("name", CODECS)
def test_of_po(service: Running, mark: str, name: str) -> None:
    """The name of a codec that is no charset is refused; a name that nobody knows is taken for a slip, since nearly all catalogues are UTF-8."""
    po = f'msgid ""\nmsgstr "Content-Type: text/plain; charset={name}\\n"\n\nmsgid "Halló"\nmsgstr ""\n'
    answer = service.http.post("/translate_file", files={"file": ("a.po", po.encode())}, data={"source": "is", "target": "en"})
    if name != "klingon":
        assert error(answer, 400) == f"file, header: this is the name of no charset; found {name}; valid: UTF-8"
        return
    assert answer.status_code == 200, answer.text
    path = answer.json()["translatedFileUrl"].removeprefix(service.url)
    assert f'msgstr "{mark}Halló"' in service.http.get(path).text


@pytest.mark.parametrize("name", CODECS)
def test_of_xml(service: Running, name: str) -> None:
    tmx = f'<?xml version="1.0" encoding="{name}"?><tmx version="1.4"><header/><body/></tmx>'
    answer = service.http.post("/translate_file", files={"file": ("a.tmx", tmx.encode())}, data={"source": "is", "target": "en"})
    assert answer.status_code == 400, answer.text
