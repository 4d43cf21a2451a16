"""The command table and the one place where errors become messages and exit codes.

Commands are imported when they are used, so `tellmt --help` stays fast and works without any extra.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from tell import __version__
from tell.command import Group
from tell.console import say, use_json
from tell.errors import RecipeError, TellmtError, suggestion

# name -> (module:attribute, the line of help shown in the list), in the order of the work
COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("tellmt.doctor:doctor", "Report what this machine can do, and what to install for more."),
    "base": ("train.base_cli:base", "List, fetch and show base models."),
    "pair": ("tellmt.pair.cli:pair", "Add a language pair from a small corpus, in one command."),
    "corpus": ("tell.corpus.cli:corpus", "Read a parallel corpus and freeze its split."),
    "testset": ("tell.corpus.testset_cli:testset", "Register test sets, which must never be trained on, and look for them in data."),
    "select": ("tell.select.cli:select", "Choose the items of a pool that are worth training on, or worth having translated."),
    "lexicon": ("tell.alignment.cli:lexicon", "Learn a bilingual lexicon from corpora, and look into it."),
    "mix": ("tell.mix.cli:mix", "Turn training pairs into prompts, with word hints where there is a lexicon, and mix them with general examples."),
    "train": ("train.cli:train", "Train a LoRA adapter on mixed data."),
    "runs": ("train.runs_cli:runs", "List the training runs below DIR with their state and scores."),
    "losses": ("train.cli:losses", "Compute the loss of each held-out reference under ADAPTER."),
    "vocabulary": ("train.vocabulary_cli:vocabulary", "Let a trained ADAPTER be served with the part of the vocabulary that its pair needs."),
    "decoding": ("eval.gate.decoding_cli:decoding", "Choose the penalty on repetition that ADAPTER decodes with, and write it into its card."),
    "score": ("eval.scoring.cli:score", "Score ADAPTER and the bare base, or existing --hypotheses, on a test set."),
    "compare": ("eval.compare.cli:compare", "Compare the OUTPUTS of systems on the same segments."),
    "study": ("eval.study.cli:study", "Compare ways of training over sizes of the task data, amounts of general data and seeds."),
    "publish": ("eval.gate.cli:publish", "Make ADAPTER live, if the gate accepts it."),
    "registry": ("tell.registry.cli:registry", "List published adapters; promote, roll back and pin them; copy them to another registry."),
    "monitor": ("eval.monitor.cli:monitor", "Monitor live adapters: canary sets, alarms, and scores on users' corrections."),
    "keys": ("serve.auth.cli:keys", "Create, list and revoke the API keys of the service."),
    "glossary": ("serve.glossary:glossary", "Keep, list, show and delete glossaries, which requests name."),
    "serve": ("serve.cli:serve", "Serve the live adapters of the registry over HTTP."),
    "translate": ("serve.files.cli:translate", "Translate files in their own formats; - is standard input."),
}


class _CommandTable(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the work"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _defaults(ctx: click.Context, command: str | None) -> dict[str, Any]:
    """tellmt.toml: one table per command, keys named as the options. Flags and TELLMT_* variables win over it."""
    path = Path(os.environ.get("TELLMT_CONFIG", "tellmt.toml"))
    if not path.exists():
        if "TELLMT_CONFIG" in os.environ:
            raise RecipeError("no such file", place="TELLMT_CONFIG", found=str(path))
        return {}
    from tell.recipe import read_toml

    tables = read_toml(path)
    for name, options in tables.items():
        if name not in COMMANDS:
            raise RecipeError("unknown table", place=str(path), found=name, valid=suggestion(name, COMMANDS))
        if not isinstance(options, dict):
            raise RecipeError("not a table", place=str(path), found=f"{name} = {options!r}")
        if name == command:
            chosen = ctx.command.get_command(ctx, name)  # type: ignore[attr-defined]
            _check_keys(path, chosen, options, name)
    return tables


def _check_keys(path: Path, command: click.Command, options: dict[str, Any], place: str) -> None:
    names = {p.name for p in command.params if p.name} | ({*command.commands} if isinstance(command, click.Group) else set())
    for key, value in options.items():
        if key not in names:
            raise RecipeError("unknown key", place=f"{path}, [{place}]", found=key, valid=suggestion(key, names))
        if isinstance(command, click.Group) and isinstance(value, dict):
            _check_keys(path, command.commands[key], value, f"{place}.{key}")


@click.group(cls=_CommandTable, context_settings={"auto_envvar_prefix": "TELLMT", "help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tellmt")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def tellmt(ctx: click.Context, as_json: bool) -> None:
    """Turn a small parallel corpus into a running translation service.

    Every option can also be set as TELLMT_<COMMAND>_<OPTION>, or in tellmt.toml as [command] option = value.
    """
    use_json(as_json)
    ctx.default_map = _defaults(ctx, ctx.invoked_subcommand)


def _os_error(e: OSError) -> str:
    place = f"{e.filename}: " if e.filename else ""
    hint = {errno.ENOSPC: "; free some space and run the same command again", errno.EADDRINUSE: "; choose another with --port"}.get(e.errno or 0, "")
    return f"{place}{e.strerror or e}{hint}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns 0 done, 1 failed, 2 bad input or usage, 3 partly done, 4 an alarm, 130 interrupted."""
    use_json(False)
    for stream in (sys.stdout, sys.stderr):
        # A path whose bytes are not UTF-8 can be named in a message, and so can any letter where the terminal knows few.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = tellmt.main(argv, prog_name="tellmt", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("tellmt: interrupted")
        return 130
    except click.ClickException as e:
        message, code = e.format_message(), e.exit_code
    except TellmtError as e:
        message, code = str(e), e.exit_code
    except BrokenPipeError:
        # The reader of stdout has gone (`| head`); leave quietly, without Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        message, code = _os_error(e), 1
    except MemoryError:
        message, code = "out of memory", 1
    say(f"tellmt: {message}")
    return code


def entry() -> None:
    sys.exit(main())


if __name__ == "__main__":
    entry()
