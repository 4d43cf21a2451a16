"""Merge a LoRA into its base and write the result as a ctranslate2 int8 model, in a process of its own.

Reads a prepared base and an adapter directory; writes `<cache>/ct2/<base>-<revision>[-<hash of its pieces>][-<hash of the weights>]/`, with
`tellmt-ct2.json` in it naming what the model was made from. An adapter's card is no part of that: what was converted to be scored is there when it is
served, under the id that its scores have given it. Run as `python -m serve.engines.ct2.convert` it reads one job (a line of JSON) on stdin and prints one JSON
object; when its stdin ends, the process that wanted the model is gone, and it removes what it has written and ends too.
A process of its own keeps torch's memory and its use of the CPU out of the one that translates.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serve.engines.ct2.corrections import corrections_of
from serve.engines.ct2.merged import QUANTIZATION
from serve.engines.ct2.model_cache import LIMIT, MARK, lock_unfinished, sweep
from serve.engines.ct2.vocabulary import FILE
from tell.adapter.card import PIECES, Adapter, weights_of
from tell.errors import AdapterError, BadInput, EngineError, MissingExtra, TellmtError
from tell.files import atomic_dir, key_of, write_json
from tell.model.base import Base, slug
from tell.paths import cache_dir, writable

# Raised when what is written changes for the same weights: models in another format, and translations made with them, are not reused.
MODEL_FORMAT = 2
# The folder of the cache that holds the models.
FOLDER = "ct2"
# Tokens of each text on which the size of the activations is measured.
LONGEST = 128
# Seconds in which a conversion is to end when it is no longer wanted, on a busy machine.
PATIENCE = 10
# No space left, quota exceeded, file too large.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PROBE = "The weather was good yesterday, but tomorrow there will be rain and wind. Veðrið var gott í gær."


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """A model to make. `adapter` is None for the bare base; its files must be those that its card names."""

    base: Base
    adapter: Adapter | None
    threads: int

    @property
    def weights(self) -> str | None:
        return weights_of(self.adapter.card) if self.adapter else None

    @property
    def pieces(self) -> str | None:
        """The hash of the list of pieces that the model keeps of the base's vocabulary; None where it has all."""
        return self.adapter.card.files.get(PIECES) if self.adapter else None

    @property
    def directory(self) -> Path:
        name = f"{slug(self.base.id)}-{self.base.revision[:12]}"
        if self.pieces:
            # Last comes what stands for the weights, by which models of an adapter are found.
            name += f"-{self.pieces[:12]}"
        return cache_dir() / FOLDER / (f"{name}-{self.weights}" if self.adapter else name)

    @property
    def key(self) -> str:
        made_from: dict[str, Any] = {"format": MODEL_FORMAT, "base": self.base.revision, "weights": self.weights}
        # Of bases without any, what was written before there were corrections is what would be written now.
        if names := corrections_of(self.base):
            made_from["corrections"] = names
        if self.pieces:
            made_from["pieces"] = self.pieces
        return key_of({**made_from, "quantization": QUANTIZATION, "ctranslate2": version("ctranslate2")})

    def job(self) -> dict[str, Any]:
        """What `run_job` does. Raises AdapterError for a list of pieces that is none of this base's, and what BaseTokenizer does."""
        adapter = self.adapter and {"weights": self.weights, "path": str(self.adapter.path), "pieces": self.pieces}
        row = {"base": self.base.model_dump(mode="json"), "adapter": adapter, "out": str(self.directory), "key": self.key, "threads": self.threads}
        bare = Conversion(self.base, None, self.threads)
        # The process that wants the model has the base's tokenizer open, or needs it next.
        return {**row, "ids": _ids(self), "names": str(bare.directory / "vocabulary.json") if self.adapter and bare.done() else None}

    def done(self) -> bool:
        try:
            return bool(json.loads((self.directory / MARK).read_text())["key"] == self.key)
        except (OSError, ValueError, KeyError, TypeError):
            return False


async def convert_model(conversion: Conversion) -> Path:
    """The directory of the converted model, made by a child process unless the cache has it. Cancelling it ends the child.

    Raises AdapterError (EngineError for a bare base) with the reason.
    """
    if await asyncio.to_thread(conversion.done):
        return conversion.directory
    writable(conversion.directory.parent, "cache", "TELLMT_CACHE")
    # Threads that wait for each other leave the processor to those that translate; and MKL would pack a copy of the embeddings, of which the written model,
    # opened in float32, then takes twice as much.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "CT2_USE_MKL": "0"}
    env = {**waiting, **os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # -P: a directory named `serve` where the command was started must not be imported in place of this package.
    command = [sys.executable, "-P", "-m", "serve.engines.ct2.convert"]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    try:
        # It loads its libraries meanwhile.
        job_line = json.dumps(await asyncio.to_thread(_job, conversion))
        stdout, stderr = await _communicate(child, job_line)
    finally:
        if child.returncode is None:
            await _end(child)
    if child.returncode != 0:
        raise _failure(conversion, child.returncode or 0, stdout, stderr)
    return conversion.directory


def _job(conversion: Conversion) -> dict[str, Any]:
    try:
        return conversion.job()
    except AdapterError:
        raise
    except TellmtError as e:
        error_type: type[TellmtError] = AdapterError if conversion.adapter else EngineError
        raise error_type(e.thing, place=e.place, found=e.found, valid=e.valid) from None


def _ids(conversion: Conversion) -> dict[str, Any]:
    """The texts of a conversion as token ids. On `probe` two models are compared, and on the long `prompt` (serve.engines.ct2.long_prompt): both are spelled as
    the adapter's texts are. Activations are measured on `texts` in the base's own spelling, so that the layers of a cut model are those of the whole one to
    the bit. `kept`: the ids that the model has words for; None for all."""
    from serve.engines.ct2.long_prompt import long_prompt
    from serve.engines.ct2.smoothquant import TEXTS
    from tell.model.pieces import Pieces, pair_tokenizer
    from tell.model.tokenizer import BaseTokenizer

    base, adapter, kept = conversion.base, conversion.adapter, None
    tokens = whole = BaseTokenizer(base)
    if adapter and conversion.pieces:
        path = adapter.path / PIECES
        try:
            pieces = Pieces.parse(path.read_bytes(), str(path))
            tokens, kept = pair_tokenizer(tokens, pieces), list(pieces.kept)
        except BadInput as e:
            raise AdapterError(e.thing, place=str(path), found=e.found, valid=e.valid) from None
    texts = [[*whole.bos, *whole.encode(text)][: min(LONGEST, base.context)] for text in TEXTS]
    return {"texts": texts, "probe": probe_of(tokens), "prompt": long_prompt(base, tokens, adapter is not None), "kept": kept}


def probe_of(tokens: Any) -> list[int]:
    """Token ids on which two models are compared."""
    return [*tokens.bos, *tokens.encode(PROBE)][:48]


async def _communicate(child: asyncio.subprocess.Process, text: str) -> tuple[bytes, bytes]:
    """Like `communicate`, but stdin stays open until the child ends: that tells it that the model is still wanted."""
    assert child.stdin and child.stdout and child.stderr
    # A child that died at once does not read; its output is read all the same.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        child.stdin.write(text.encode() + b"\n")
        await child.stdin.drain()
    stdout, stderr, _ = await asyncio.gather(child.stdout.read(), child.stderr.read(), child.wait())
    child.stdin.close()
    return stdout, stderr


async def _end(child: asyncio.subprocess.Process) -> None:
    """Ask, so that the half-written directory is removed; insist when that takes too long."""
    assert child.stdin
    child.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), PATIENCE)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _failure(conversion: Conversion, code: int, stdout: bytes, stderr: bytes) -> TellmtError:
    error_type: type[TellmtError] = AdapterError if conversion.adapter else EngineError
    place = str(conversion.adapter.path if conversion.adapter else conversion.base.path)
    if code < 0:
        name = signal.Signals(-code).name
        hint = "more free memory: a conversion takes more than the base in float32" if name == "SIGKILL" else None
        return error_type("the conversion for ctranslate2 was ended", place=place, found=name, valid=hint)
    try:
        error = json.loads(stdout.decode().strip().rsplit("\n", 1)[-1])
        if error.pop("kind") == "MissingExtra":
            error_type = MissingExtra
        return error_type(**error)
    except (ValueError, KeyError, TypeError, AttributeError):
        last_line = stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return error_type("the conversion for ctranslate2 failed", place=place, found=last_line or f"exit {code}")


def load_libraries() -> None:
    """Import what a conversion needs, and nothing that these libraries only load where they find it. Raises MissingExtra."""
    from tell.extras import hide_unused_libraries, need, unseen

    with hide_unused_libraries(), unseen("accelerate", "pandas", "pyarrow"):
        for module in ("ctranslate2", "torch", "transformers"):
            need(module, "cpu")
        from ctranslate2.converters import TransformersConverter  # noqa: F401
        from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job in this process. Raises AdapterError or EngineError."""
    load_libraries()
    import torch

    from serve.engines.ct2.long_prompt import continued, divergence_after
    from serve.engines.ct2.merged import check_bound, check_divergence, opened, smoothed, write
    from serve.engines.ct2.trial import check_trial

    base, threads = Base.model_validate(job["base"]), int(job["threads"])
    torch.set_num_threads(threads)
    # In float32 and at full length, before int8 is judged by a bound that rounding needs.
    check_trial(base)
    sweep(Path(job["out"]).parent)
    adapter, (texts, probe, prompt, kept) = job["adapter"], (job["ids"][name] for name in ("texts", "probe", "prompt", "kept"))
    names = job["names"] and json.loads(Path(job["names"]).read_bytes())
    with contextlib.ExitStack() as stack:
        with _creating:
            aside = stack.enter_context(atomic_dir(Path(job["out"])))
            _unfinished.append(aside)
        lock_unfinished(aside)
        model, expected, layers = smoothed(base, adapter and adapter["path"], texts, probe, kept)
        after = continued(model, prompt, kept)
        # The only reference to it goes along.
        holder = [model]
        del model
        write(base, holder.pop(), aside, kept=kept, names=names)
        del names
        if kept is not None:
            write_json(aside / FILE, {"ids": kept})
        generator, vocabulary = opened(aside, threads)
        divergence = check_divergence(base, generator, vocabulary, probe, expected)
        at_length = divergence_after(generator, vocabulary, prompt, after)
        check_bound(base, at_length, len(prompt))
        made_from = {"base": base.id, "revision": base.revision, "weights": adapter and adapter["weights"], "smoothed": layers}
        if kept is not None:
            made_from["pieces"] = adapter["pieces"]
        found = {"divergence": divergence, "prompt": len(prompt), "divergence_after": at_length}
        write_json(aside / MARK, {"key": job["key"], **made_from, **found, "ctranslate2": version("ctranslate2")})
    return {"divergence": divergence}


# The directory that is being written, and what is held while there may be one that is not in the list yet.
_unfinished: list[Path] = []
_creating = threading.Lock()


def _give_up() -> None:
    """Remove what is half-written and end this process, from a thread beside the main one, which goes on meanwhile.

    Nothing is raised in the main thread: an exception may come where it is swallowed, or wait for the end of a long call. Moved away first, the
    directory gets no more files by its name. The interpreter is not asked to end, which takes seconds with torch loaded and little of a processor.
    """
    _creating.acquire()
    for path in _unfinished:
        gone = path.with_name(path.name.replace(".new.", ".old."))
        with contextlib.suppress(OSError):
            os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


def _stop(signum: int, frame: Any) -> None:
    threading.Thread(target=_give_up, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the other end of stdin is closed, then end this process."""
    # Not through sys.stdin, whose lock the interpreter needs when it ends.
    while os.read(0, 4096):
        pass
    _give_up()


def _error_row(e: Exception, job: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that is printed for an error: the arguments of the TellmtError that the parent raises."""
    if isinstance(e, TellmtError):
        return {"kind": type(e).__name__, "thing": e.thing, "place": e.place, "found": e.found and str(e.found), "valid": e.valid}
    if isinstance(e, OSError) and e.errno in FULL:
        valid = f"free space there, a smaller {LIMIT}, or TELLMT_CACHE on another disk"
        return {"kind": "", "thing": "no room for the converted model", "place": str(Path(job["out"]).parent), "found": e.strerror, "valid": valid}
    first_line = next((line for line in str(e).split("\n") if line.strip()), "")
    place = (job["adapter"] or job["base"])["path"]
    return {"kind": "", "thing": "the conversion for ctranslate2 failed", "place": place, "found": f"{type(e).__name__}: {first_line}", "valid": None}


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    # Translations have priority over conversions.
    os.nice(10)
    # The job follows when its texts are tokenised. What is missing is said then.
    with contextlib.suppress(MissingExtra):
        load_libraries()
    if not (line := sys.stdin.buffer.readline()):
        return 1
    job = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result, code = run_job(job), 0
    except Exception as e:  # whatever peft, transformers or the disk have to say is the reason this adapter cannot be served
        result, code = _error_row(e, job), 1
    print(json.dumps(result))
    return code


if __name__ == "__main__":
    sys.exit(main())
