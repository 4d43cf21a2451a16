"""Where prepared bases lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tell.errors import BaseModelError
from tell.model.base import cached_bases, find_base
from tests.support.fake_eval_engine import light_base


def test_bases_may_lie_apart_from_the_cache_and_be_read_only(tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = light_base(tmp_path / "there")
    with pytest.raises(BaseModelError):
        find_base("light")
    monkeypatch.setenv("TELLMT_BASES", str(tmp_path / "there" / "bases"))
    (tmp_path / "there" / "bases").chmod(0o555)
    assert find_base("light") == base and cached_bases() == [base]
    assert not (isolated / "cache").exists()
