# Every target is one command that can be typed by hand; the logic is in what they call.
PORT ?= 8080

.PHONY: help setup demo test test-long check bench-train bench-serve bench-batch bench-engine clean

help:
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/'

setup: ## make .venv with everything this machine can run
	@python3 scripts/setup_env.py all

demo: ## from the shipped sample to a running service on http://127.0.0.1:$(PORT)
	@python3 scripts/setup_env.py demo
	@.venv/bin/python scripts/demo.py --port $(PORT)

test: setup ## the tests that need no GPU, two files at a time
	.venv/bin/python -m pytest -m "not gpu and not long" -n 2 --dist loadfile --no-loadscope-reorder --durations 30

test-long: setup ## the tests that `make test` leaves out for their time
	@python3 scripts/deploy_tools.py
	.venv/bin/python -m pytest -m "long and not gpu" -n 2 --dist loadfile --no-loadscope-reorder --durations 0

check: setup ## style, types, import directions
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest tests/test_imports.py

bench-train: ## tokens/s and memory of training against TRL's, on this machine
	@python3 scripts/setup_env.py bench
	@.venv/bin/python -m benchmarks.training.bench_train $(BENCH)

bench-serve: setup ## the service against the engine it runs on, on this machine
	@.venv/bin/python -m benchmarks.serving.bench_serve $(BENCH)

bench-batch: setup ## `tellmt translate` against the engine it runs on, and its memory over a million lines
	@.venv/bin/python -m benchmarks.serving.bench_batch $(BENCH)

bench-engine: setup ## the engine ct2 side by side with an earlier build, and against llama.cpp, ctranslate2 alone and vLLM
	@.venv/bin/python -m benchmarks.serving.engine_bench $(BENCH)

clean: ## remove what was made here; caches and registries in your home stay
	rm -rf .venv work build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
