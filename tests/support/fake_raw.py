"""What benchmarks/serving/harness/raw_engine.py is to the benchmark, for the fake engine: the same lines in and out, the same texts,
the same time for each prompt.

FAKE_UNLIKE makes it answer otherwise, as an engine would that does something else than the service's.
"""

from __future__ import annotations

import json
import os
import sys
import time

from tests.support.fake_busy_serve import burn


def main() -> int:
    job = json.loads(sys.stdin.readline())
    mark = os.path.basename(job["adapter"])[:8] + os.environ.get("FAKE_UNLIKE", "")
    each = float(os.environ.get("FAKE_BURN", "0.004"))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seconds, seen = [], []
        for batch in json.loads(line)["batches"]:
            began = time.perf_counter()
            burn(each * len(batch))
            seconds.append(time.perf_counter() - began)
            seen += batch
        texts = {i: f"<{mark}>{job['sources'][i]}" for i in seen}
        print(json.dumps({"seconds": seconds, "texts": texts, "tokens": {i: len(t) for i, t in texts.items()}, "ended": dict.fromkeys(seen, True)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
