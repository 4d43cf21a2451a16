"""Request bodies: from bytes to a validated model, or to a RequestError that says what is wrong and does not repeat a text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from tell.errors import RequestError, suggestion

M = TypeVar("M", bound=BaseModel)

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
# The most fields of a form; LibreTranslate's has six, and `q` may come many times. Beside a file no field comes many times.
MAX_FIELDS, MAX_WITH_FILE = 2000, 50
# What the name of a body's model ends with in OpenAPI, where it is not JSON.
_NAMED = {URLENCODED: "Form", MULTIPART: "Multipart"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client sent. The name is the client's, and never a path of this machine."""

    name: str
    raw: bytes


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def none_if_empty(value: Any) -> Any:
    """None for an empty string: clients and forms send one for a field without a value."""
    return None if value == "" else value


def replace_surrogates(value: Any) -> Any:
    """Replaces lone surrogates, which JSON can spell and UTF-8 cannot, by U+FFFD, in a string or the strings of a list or an object."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [replace_surrogates(v) if isinstance(v, str) else v for v in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) if isinstance(item, str) else item for key, item in value.items()}
    return value


def _json(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as e:
        raise RequestError("the body is not JSON", found=f"{e.msg} at line {e.lineno}, column {e.colno}") from None
    except UnicodeDecodeError as e:
        raise RequestError("the body is not UTF-8", found=f"0x{raw[e.start]:02x} at byte {e.start}") from None
    except (ValueError, RecursionError) as e:
        raise RequestError("the body is not JSON that can be read", found=type(e).__name__) from None
    if not isinstance(body, dict):
        raise RequestError("the body is not a JSON object", found=type(body).__name__)
    return {replace_surrogates(key): replace_surrogates(value) for key, value in body.items()}


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A field that comes once is a string, one that comes several times a list of strings."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(value, str):
            raise RequestError("this route does not accept files", place=key if _NAME.fullmatch(key) else None, valid="text fields")
        if key not in fields:
            fields[key] = value
        elif isinstance(fields[key], list):
            fields[key].append(value)
        else:
            fields[key] = [fields[key], value]
    return fields


async def _form(request: Request, media_type: str) -> dict[str, Any]:
    from starlette.exceptions import HTTPException

    if media_type == MULTIPART:
        try:
            async with request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=1 << 20) as form:
                return _fields(form.multi_items())
        except HTTPException as e:
            raise RequestError("the form cannot be read", found=str(e.detail)) from None
    try:
        # curl -d sends UTF-8 without percent-encoding: this accepts both.
        text = (await request.body()).decode()
        if text.lstrip().startswith(("{", "[")):
            # `curl -d` names every body a form.
            raise RequestError("the body looks like JSON, and its Content-Type is that of a form", valid="Content-Type: application/json")
        pairs = parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="replace", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise RequestError("the form is not UTF-8", valid="UTF-8, percent-encoded or as it is") from None
    except ValueError:
        raise RequestError("too many fields in the form", valid=f"at most {MAX_FIELDS}") from None
    return _fields(pairs)


async def read_body(request: Request, model: type[M], forms: bool = False, address: Collection[str] = ()) -> M:
    """The body as a `model`: JSON, or with `forms` also an URL-encoded or multipart form. Raises RequestError.

    The fields named in `address` may stand in the address as well, beside a form or without a body; those of the address count before those of a form.
    """
    media_type = media_type_of(request)
    given = _fields([(key, replace_surrogates(value)) for key, value in request.query_params.multi_items() if key in address])
    if forms and media_type in (URLENCODED, MULTIPART):
        fields = await _form(request, media_type) | given
    else:
        raw = await request.body()
        fields = given if given and not raw else _json(raw)
    return validated_body(fields, model)


async def read_upload(request: Request, model: type[M]) -> tuple[M, Upload]:
    """The fields of a multipart form as a `model`, and its file, the part `file`. Raises RequestError."""
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    if media_type_of(request) != MULTIPART:
        raise RequestError("the body is not a form with a file", valid=MULTIPART)
    try:
        async with request.form(max_files=1, max_fields=MAX_WITH_FILE, max_part_size=1 << 20) as form:
            pairs = form.multi_items()
            files = [value for key, value in pairs if key == "file" and isinstance(value, UploadFile)]
            fields = _fields([(key, value) for key, value in pairs if key != "file"])
            if not files:
                raise RequestError("missing", place="file", valid="a part of the form with a file name")
            upload = Upload(replace_surrogates(files[0].filename or ""), await files[0].read())
    except HTTPException as e:
        raise RequestError("the form cannot be read", found=str(e.detail)) from None
    return validated_body(fields, model), upload


def validated_body(fields: dict[str, Any], model: type[M]) -> M:
    """The fields as a `model`. Raises RequestError with the field and what is valid there, and without the value."""
    if model.model_config.get("extra") == "forbid" and (unknown := [k for k in fields if k not in model.model_fields]):
        # A key that is no name may be a text in the wrong place: it is not repeated, nor is a mebibyte of it compared with names.
        name = unknown[0] if _NAME.fullmatch(unknown[0]) else None
        raise RequestError("unknown key", found=name, valid=suggestion(name or "", model.model_fields))
    try:
        return model.model_validate(fields)
    except ValidationError as e:
        # Only the field of the first error: the rest of pydantic's report repeats the input.
        first_error = e.errors(include_url=False, include_input=False, include_context=False)[0]
        place = str(first_error["loc"][0]) if first_error["loc"] else "body"
        problem = "missing" if first_error["type"] == "missing" else "not usable"
        field = model.model_fields.get(place)
        raise RequestError(problem, place=place, valid=field.description if field else None) from None


def body_schema(model: type[BaseModel], *media_types: str) -> dict[str, Any]:
    """The requestBody of a route's OpenAPI entry, since the route reads its body itself.

    Each media type has a schema of its own name: made clients tell by it which one to send (openapi-python-client would send all at once).
    """
    schema = model.model_json_schema()
    contents = {media_type: {"schema": {**schema, "title": f"{schema['title']}{_NAMED.get(media_type, '')}"}} for media_type in media_types}
    return {"requestBody": {"required": True, "content": contents}}


def upload_schema(model: type[BaseModel]) -> dict[str, Any]:
    """As `body_schema`, for a form with a file."""
    schema = model.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "The file; the ending of its name gives the format"}
    schema["properties"] = {"file": file, **schema["properties"]}
    schema["required"] = ["file", *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {MULTIPART: {"schema": schema}}}}
