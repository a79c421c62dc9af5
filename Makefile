# Every target works on a fresh machine: it creates the virtual environment if that is missing or outdated.
PYTHON ?= python3
BIN := .venv/bin
# pip is as old as the Python that made .venv; its remark about that is no error of ours.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test test-fast coverage lint contracts bench chaos mutations container pictures docs examples schemas lock audit sbom clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Only what the demo needs; `make setup` adds the tools of the tests to the same environment.
demo: .venv/demo
	$(BIN)/authtally demo $(DEMO)

.venv/demo: deploy/demo/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --require-hashes --requirement deploy/demo/requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# All tests except those of `make chaos` and `make container`. A file's tests share a process, because starting real servers takes long.
test: setup
	$(BIN)/pytest -n 3 --dist loadfile

# Tests of pure code: no server, browser, Java or root, and under a minute. FAST names them; the marker leaves out the rest.
FAST := tests/test_docs.py tests/test_rooms.py tests/test_words.py tests/schemas tests/corpus tests/aggregator/fold \
	tests/aggregator/inventory/test_reading.py tests/aggregator/kafka \
	tests/aggregator/test_metrics.py tests/api/ingest/test_fast_path.py \
	tests/deploy/cli/test_publish_source.py tests/deploy/cli/test_snapshot_file.py \
	tests/deploy/cli/test_snapshot_schedule.py tests/deploy/demo/test_sample_events.py tests/deploy/test_capacity.py \
	tests/deploy/test_grafana.py tests/deploy/test_kubernetes.py

test-fast: setup
	$(BIN)/pytest -n 2 --dist loadfile -m "not servers and not chaos and not container" $(FAST)

# The share of lines and branches that the fast tests run. make coverage COVER=tests for all tests.
COVER ?= $(FAST) -m "not servers and not chaos and not container"
coverage: setup
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report term:skip-covered $(COVER)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Differences between the names that users depend on and those of a commit: make contracts REV=<commit>.
contracts: setup
	$(BIN)/python -m tests.qualification.contracts $(REV)

# Benchmarks; `make bench BENCH=--quick` runs the short version.
bench: setup .venv-peers/ready .kafka-streams/ready
	$(BIN)/python -m tests.qualification.bench $(BENCH)

.venv-peers/ready: tests/qualification/bench/peers/requirements.lock
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --require-hashes --requirement $<
	touch $@

KAFKA_STREAMS := tests/qualification/bench/peers/kafka_streams

.kafka-streams/ready: $(KAFKA_STREAMS)/pom.xml $(wildcard $(KAFKA_STREAMS)/src/main/java/authtally/bench/*.java)
	rm -rf .kafka-streams
	mvn --batch-mode --quiet --file $< compile dependency:copy-dependencies -DincludeScope=runtime
	touch $@

# Writes the generated parts of README.md and docs/.
docs: setup
	$(BIN)/python -m deploy.cli.reference
	$(BIN)/python -m tests.api.documents.page

# Writes the printed answers of the examples in README.md and docs/ again, from a demo with a fixed end.
examples: setup
	$(BIN)/python -m tests.examples

# Takes screenshots of the dashboard for the documentation.
pictures: setup
	$(BIN)/python -m tests.dashboard.pictures

# Long fault runs; `make chaos CHAOS="--seed 7 --minutes 60 --out FILE"` sets the options of the run on clusters.
chaos: setup
	$(BIN)/pytest -m chaos
	$(BIN)/python -m tests.qualification.chaos $(CHAOS)

# Removes one guard at a time and runs the test that must fail; `make mutations MUTATIONS="--only codecs"` chooses some.
mutations: setup
	$(BIN)/python -m tests.qualification.mutations $(MUTATIONS)

# Builds the image and runs it, the Compose file and the pods by Podman; installs the engine from Debian, so it needs root.
# make container CONTAINER="--record FILE" writes a record of the run.
container: setup
	tests/qualification/container/install.sh
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/pytest -m container --timeout 1500 tests/qualification/container $(CONTAINER)

schemas: setup
	$(BIN)/python -m schemas.json_schemas

# Extras stay in the locks: pip before 23.3 ignores the pin of a package that another one requires with an extra.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml deploy/demo/build.in --extra demo --constraints requirements.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file deploy/demo/requirements.lock
	$(BIN)/uv pip compile tests/qualification/bench/peers/requirements.in --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-emit-index-url --no-emit-find-links --output-file tests/qualification/bench/peers/requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra traces --constraints requirements.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file deploy/container/runtime.lock
	$(BIN)/uv pip compile deploy/container/build.in --constraints requirements.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file deploy/container/build.lock

# Static security checks of our code (bandit) and known vulnerabilities of the locked packages (pip-audit). Strict: a
# package that could not be checked is a failure.
audit: setup
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive aggregator api deploy schemas
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock --requirement deploy/container/build.lock

# Lists the packages of an image in CycloneDX: build/sbom.json, reproducible for the same lock file.
sbom: setup
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --output-file build/sbom.json deploy/container/runtime.lock

clean:
	rm -rf .venv .venv-peers .kafka .kafka-streams .keycloak .kubectl .publishers .node
