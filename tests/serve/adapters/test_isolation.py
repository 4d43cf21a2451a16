"""No answer carries another pair's, version's or key's mark: keys, pairs, promotions, roll backs and clients that leave, all at once.

The fake engine writes the id of the adapter that it was asked for before each text, so an answer shows by itself who made it.
"""

from __future__ import annotations

import random
import re
import threading
import time
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, running, until

PAIRS = ("is-en", "en-is", "fo-is")
VERSIONS = 3
CLIENTS = 6
SECONDS = 8.0


def test_a_churn_of_everything_mixes_nothing(tmp_path: Any) -> None:
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    ids = {pair: [publish(registry, light_adapter(tmp_path / f"{pair}{v}", base, pair, v)) for v in range(VERSIONS)] for pair in PAIRS}
    owner = {id: pair for pair, adapter_ids in ids.items() for id in adapter_ids}
    keys = [add_key(f"client {n}", ["translate"])[1] for n in range(CLIENTS)]
    ops = add_key("ops", ["admin"])[1]
    problems: list[str] = []
    answered = dict.fromkeys(PAIRS, 0)
    versions: set[str] = set()
    changes = cancelled = 0
    stop = threading.Event()

    def check(pair: str, texts: list[str], adapter: str, translations: list[str]) -> None:
        if owner.get(adapter) != pair:
            problems.append(f"{pair}: answered by {adapter}, which is {owner.get(adapter)}'s")
        if translations != [f"<{adapter[:8]}>{t}" for t in texts]:
            problems.append(f"{pair}: {texts} became {translations} by {adapter}")
        answered[pair] += 1
        versions.add(adapter)

    def client(n: int) -> None:
        nonlocal cancelled
        dice = random.Random(n)
        with httpx.Client(base_url=service.url, headers={"X-API-Key": keys[n]}, trust_env=False, timeout=20) as http:
            for turn in range(1_000_000):
                if stop.is_set():
                    return
                pair = dice.choice(PAIRS)
                source, target = pair.split("-")
                # Texts of this client's own, and some that all of them ask for at once.
                texts = [f"client {n} turn {turn} part {i}" if dice.random() < 0.7 else f"common {i}" for i in range(dice.randint(1, 4))]
                body: dict[str, Any] = {"source": source, "target": target}
                try:
                    if dice.random() < 0.25:
                        http.post("/api/v1/translate", json={**body, "text": texts}, timeout=dice.choice((0.001, 0.004, 0.01)))
                        continue
                    if dice.random() < 0.3:
                        answer = http.post("/translate", json={**body, "q": texts})
                        translations = answer.json().get("translatedText", [])
                        mark = re.match("<([0-9a-f]{8})>", translations[0]) if translations else None
                        adapter = next((id for id in owner if mark and id.startswith(mark[1])), "none")
                    else:
                        answer = http.post("/api/v1/translate", json={**body, "text": texts})
                        translations = [t["text"] for t in answer.json().get("translations", [])]
                        adapter = answer.json().get("adapter", "none")
                except httpx.TimeoutException:
                    cancelled += 1
                    continue
                if answer.status_code != 200:
                    problems.append(f"{pair}: {answer.status_code} {answer.text}")
                    continue
                check(pair, texts, adapter, translations)

    def operator() -> None:
        nonlocal changes
        dice = random.Random(99)
        with httpx.Client(base_url=service.url, headers={"X-API-Key": ops}, trust_env=False, timeout=20) as http:
            while not stop.is_set():
                pair = dice.choice(PAIRS)
                if dice.random() < 0.5:
                    answer = http.post("/api/v1/admin/rollback", json={"pair": pair, "why": "churn"})
                else:
                    answer = http.post("/api/v1/admin/promote", json={"pair": pair, "adapter": dice.choice(ids[pair]), "why": "churn"})
                if answer.status_code != 200:
                    problems.append(f"{pair}: {answer.status_code} {answer.text}")
                changes += 1
                # Another pair's version is refused whoever asks.
                other = dice.choice([p for p in PAIRS if p != pair])
                if http.post("/api/v1/admin/promote", json={"pair": pair, "adapter": ids[other][0], "why": "churn"}).status_code != 409:
                    problems.append(f"{pair} took a version of {other}")

    with running(base, registry) as service:
        service.engine.delay = 0.003
        threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)] + [threading.Thread(target=operator)]
        for t in threads:
            t.start()
        end = time.monotonic() + SECONDS
        # A change is an fsync or two, so a busy disk takes longer over twenty of them.
        until(lambda: problems or (time.monotonic() > end and changes > 20), SECONDS + 60)
        stop.set()
        for t in threads:
            t.join()
        assert not problems, problems[:5]
        # It was a churn, and not an idle service.
        assert min(answered.values()) > 20 and changes > 20 and cancelled > 5, (answered, changes, cancelled)
        assert len(versions) > len(PAIRS), versions
        until(lambda: service.metric("tellmt_requests_in_flight") == 0)
        # At rest every pair is answered by what the registry names.
        for pair in PAIRS:
            source, target = pair.split("-")
            body = {"source": source, "target": target, "text": "at rest"}
            live = registry.state(pair).live
            headers = {"X-API-Key": keys[0]}
            until(lambda b=body, w=live, h=headers: httpx.post(f"{service.url}/api/v1/translate", json=b, headers=h, trust_env=False).json()["adapter"] == w)


def test_the_check_would_see_a_mix_up(tmp_path: Any) -> None:
    """An engine that answers with another adapter's mark is seen by the same comparison."""
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    id = publish(registry, light_adapter(tmp_path / "a", base, "is-en"))
    with running(base, registry) as service:
        plain = service.engine._answer
        service.engine._answer = lambda prompt, adapter: plain(prompt, None)
        assert service.texts("a") == ["<base>a"] != [f"<{id[:8]}>a"]


pytestmark = pytest.mark.timeout(120)
