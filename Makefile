# make demo    a sealed model through the whole mesh, on real data, on this machine
# make up      the same mesh, kept up until Ctrl-C
# make test    everything CI runs
# make test-enclave  under Gramine: the demo, the tests of clients against a mesh in enclaves, and those of tests/enclave
# make images  container images of the services (deploy/images); make test-images runs a mesh of them
# make test-convert  what needs PyTorch, which 'make test' skips: some gigabytes, in a venv of its own
# make flink-demo  a Flink cluster asks the mesh, is killed, and loses nothing; make test-flink, its tests: 900 MB, own venv
# make ray-demo    Ray Data asks the mesh, loses an actor and a gateway, and no record: 700 MB, own venv
# make bench   how fast it serves, beside OpenVINO in process and other servers (benchmarks/README.md)
# make soak    the mesh for half an hour at four fifths of its capacity
# make bench-scale  what more gateways and workers would do, by simulation, checked against a run here
# make bench-overload  five times the peak      make bench-start  a worker's cold start      others: benchmarks/README.md
# make check   its fast part      make fmt    mend what can be mended      make protos    stubs anew
# make docs    the reference of the SDK anew, from its docstrings
# make console-pictures  the web console of a busy mesh, as docs/pictures shows it
# make crash-jobs  kill gateways, workers, Redis and clients under thousands of jobs: nothing is lost
# make cut-jobs    likewise, with the network cut between any two of them (as root)
# make chaos-hosts  each part of a mesh on a host of its own: cut off, and killed, one after the other (as root)
# make crash-provisioner  kill a provisioner at every statement that it writes with, and in between: nothing is lost
# make upgrade-mesh  a mesh of the last release becomes this one under load, part by part, and goes back
# make attacks every attack of docs/attacks.md, with the tests that play it
# make differential  a thousand requests to a live MLServer and to the mesh: every difference has its reason
# make fuzz    changed inputs for every parser: TARGET=quote RUNS=100000 SEED=1; see tests/README.md
# make lock    the lock files anew (needs uv)
# make tcb     what enclaves carry, anew (enclave/measured/tcb.lock), and a mesh that shows whether it is enough
# All of them install what they need into .venv first. PYTHON picks the interpreter.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := services enclave/simulator stream tests protos deploy benchmarks docs

.PHONY: attacks bench bench-appraise bench-contract bench-engine bench-leases bench-overload bench-record bench-redis
.PHONY: bench-releases bench-renewals bench-rest bench-rotation
.PHONY: bench-job-seal bench-job-store bench-jobs bench-pulling bench-scale bench-sdk bench-seal bench-start bench-vaults
.PHONY: chaos-hosts crash-jobs crash-provisioner cut-jobs demo docs record-release up upgrade-mesh
.PHONY: console-pictures packages ray-demo test check fmt fuzz protos lock clean setup soak
.PHONY: differential flink-demo images tcb test-convert test-flink test-images

console-pictures: .venv/installed
	@sh deploy/chromium.sh
	PYTHONPATH=tests $(BIN)/python -m fakes.console_pictures docs/pictures

demo: .venv/installed
	@sh deploy/redis.sh
	$(BIN)/python deploy/demo/demo.py

# MODEL=mlp,ffnn,colours,resnet50-u8,resnet50,bert serves networks of the benchmarks instead; WORKERS= THREADS= PORT=
# GATEWAYS= (each on a port) PROCESSES= (of each gateway, behind its port).
up: .venv/installed
	@sh deploy/redis.sh
ifdef MODEL
	$(BIN)/python -m benchmarks.scenarios.standing --models $(MODEL) $(if $(WORKERS),--workers $(WORKERS)) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(PORT),--port $(PORT)) \
		$(if $(GATEWAYS),--gateways $(GATEWAYS)) $(if $(PROCESSES),--processes $(PROCESSES))
else
	$(BIN)/python deploy/demo/demo.py --stay-up
endif

# Whatever the environment says: what is started by the hundred is compiled once.
export PYTHONDONTWRITEBYTECODE :=
# Half as many again as there are processors: many tests wait for processes that they have started.
TESTERS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))

# One core checks while the other unpacks what some of the tests need.
test: .venv/installed
	@$(MAKE) --no-print-directory -j2 check packages .venv-protoc/installed .venv-kserve/installed \
		clients/node/node_modules/installed protos/buf/node_modules/installed
	@mkdir -p .bench; $(BIN)/python -m benchmarks.scenarios.soak --gentle --minutes 2 > .bench/soak.log 2>&1 & soak=$$!; \
		trap 'kill $$soak' INT TERM; $(BIN)/pytest -n $(TESTERS) --dist loadfile; tests=$$?; \
		wait $$soak; soaked=$$?; cat .bench/soak.log; exit $$((tests || soaked))

packages:
	@sh deploy/redis.sh
	@sh deploy/softhsm.sh
	@sh deploy/chromium.sh

# Four fifths of the capacity, every answer checked: memory and latency must stay. MINUTES=30; WORKERS= PROCESSES=.
soak: .venv/installed
	$(BIN)/python -m benchmarks.scenarios.soak --minutes $(or $(MINUTES),30) $(if $(WORKERS),--workers $(WORKERS)) \
		$(if $(PROCESSES),--processes $(PROCESSES)) $(OPTIONS)

# Needs gramine-direct and redis-server; what has to be skipped for want of them is counted and printed.
ENCLAVE_MESH := $(addprefix tests/mesh/test_,answers.py https.py tampering.py stream_tampering.py compat.py triton.py \
	examples.py node.py)

test-enclave: .venv/installed
	@sh deploy/redis.sh
	$(BIN)/pytest tests/enclave
	CLOISTER_TEST_ENCLAVES=1 $(BIN)/pytest $(ENCLAVE_MESH)
	@if command -v gramine-direct >/dev/null; then $(BIN)/python deploy/demo/demo.py --enclaves; \
		else echo "SKIPPED: the demo in enclaves: gramine-direct is not installed"; fi

test-flink: .venv/installed .venv-flink/installed
	@sh deploy/java.sh
	CLOISTER_TEST_FLINK=1 $(BIN)/pytest tests/flink

flink-demo: .venv/installed .venv-flink/installed
	@sh deploy/java.sh
	PYTHONPATH=. $(BIN)/python deploy/demo/flink.py $(OPTIONS)

# OPTIONS="--turns 360"; every answer is checked.
ray-demo: .venv/installed .venv-ray/installed
	PYTHONPATH=. $(BIN)/python deploy/demo/ray_records.py $(OPTIONS)

# Images of every kind into this machine's store (deploy/images); KINDS=enclave ENCLAVE=DIR makes that of an enclave.
images: .venv/installed
	sh deploy/images/build.sh $(KINDS)

test-images: .venv/installed .venv-kserve/installed
	@sh deploy/containers.sh
	$(BIN)/pytest tests/images

test-convert: .venv-convert/installed
	.venv-convert/bin/pytest tests/unit/prepare tests/unit/cli/test_preparing_guide.py

check: .venv/installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

fmt: .venv/installed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# The same thousand requests to a live MLServer and to the mesh; what MLServer says is kept for `make test`.
differential: .venv/installed .venv-peers/mlserver/installed
	PYTHONPATH=tests $(BIN)/python -m differential tests/vectors/mlserver-oip.json
	$(BIN)/pytest tests/wire/stock/test_differential.py

# JOBS=5000 KILLS=300 FSYNC=everysec|always SEED=1; more in OPTIONS=, such as "--gap 1".
crash-jobs: .venv/installed
	@sh deploy/redis.sh
	PYTHONPATH=tests:. $(BIN)/python -m chaos crash $(if $(JOBS),--jobs $(JOBS)) $(if $(KILLS),--kills $(KILLS)) \
		$(if $(FSYNC),--fsync $(FSYNC)) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

# KILLS=300 EVERY=1 SEED=1: every so manieth statement of the script.
crash-provisioner: .venv/installed
	PYTHONPATH=tests:. $(BIN)/python -m chaos.provisioner $(if $(KILLS),--kills $(KILLS)) \
		$(if $(EVERY),--every $(EVERY)) $(if $(SEED),--seed $(SEED))

# JOBS=5000 CUTS=48 SEED=1. Needs root, for network namespaces.
cut-jobs: .venv/installed
	@sh deploy/redis.sh
	PYTHONPATH=tests:. $(BIN)/python -m chaos cut $(if $(JOBS),--jobs $(JOBS)) $(if $(CUTS),--cuts $(CUTS)) \
		$(if $(SEED),--seed $(SEED)) $(OPTIONS)

# JOBS=3000 LASTS=10 (seconds of a cut) KINDS="cut killed off" HOSTS="worker-1 redis". Needs root, and /dev/net/tun.
chaos-hosts: .venv/installed
	@sh deploy/redis.sh
	PYTHONPATH=tests:. $(BIN)/python -m chaos hosts --jobs $(or $(JOBS),3000) $(if $(LASTS),--lasts $(LASTS)) \
		$(if $(KINDS),--kinds $(KINDS)) $(if $(HOSTS),--hosts $(HOSTS)) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

# A mesh of an older version, by default the last release, replaced under load by this one, and back. FROM=commit or tag.
upgrade-mesh: .venv/installed
	@sh deploy/redis.sh
	PYTHONPATH=tests:. $(BIN)/python -m upgrade $(if $(FROM),--from $(FROM))

# What a version promises to those after it, recorded for good: VERSION=0.2.0 COMMIT=v0.2.0.
record-release: .venv/installed .venv-protoc/installed
	PYTHONPATH=tests:. $(BIN)/python -m upgrade.released $(VERSION) $(COMMIT)

# The reference of the SDK, from its docstrings (docs/reference).
docs: .venv/installed
	$(BIN)/python docs/reference/build.py

attacks: .venv/installed
	@PYTHONPATH=tests $(BIN)/python -m fakes.catalogue

fuzz: .venv/installed
	PYTHONPATH=tests $(BIN)/python -W ignore -m fuzz $(or $(TARGET),all) --runs $(or $(RUNS),100000) --seed $(or $(SEED),1) $(if $(COVERAGE),--coverage)

protos: .venv-protoc/installed
	.venv-protoc/bin/python protos/generate.py

# SCENARIO=tiny|images|text|all, or MODELS="mlp resnet50"; ROUNDS=5; PEERS= for none; QUICK=1; more in OPTIONS=.
SCENARIO ?= tiny
ROUNDS ?= 5
PEERS ?= grpc_aio kserve mlserver mosec triton

bench: .venv/installed .venv-plots/installed $(PEERS:%=.venv-peers/%/installed)
	$(BIN)/python -m benchmarks.scenarios.serving --scenario $(SCENARIO) $(if $(MODELS),--models $(MODELS)) \
		--peers $(PEERS) --rounds $(ROUNDS) $(if $(QUICK),--quick) $(OPTIONS)

bench-contract: .venv/installed
	$(BIN)/python benchmarks/micro/contract.py

bench-engine: .venv/installed
	$(BIN)/python benchmarks/micro/engine.py

# MODEL=resnet50-u8; more in OPTIONS=, such as "--carrier stream --times 3".
bench-overload: .venv/installed
	$(BIN)/python -m benchmarks.scenarios.overload $(if $(MODEL),--model $(MODEL)) $(OPTIONS)

# OPTIONS="--jobs 1000000 --fsync everysec"; what a job costs beside a direct request, and memory over many.
bench-jobs: .venv/installed
	@sh deploy/redis.sh
	$(BIN)/python -m benchmarks.scenarios.jobs $(OPTIONS)

bench-pulling: .venv/installed
	@sh deploy/redis.sh
	$(BIN)/python -m benchmarks.micro.pulling $(OPTIONS)

bench-rest: .venv/installed
	$(BIN)/python -m benchmarks.scenarios.rest $(OPTIONS)

# The SDK's CPU in the client's process, beside a bare generated stub on grpc.aio. OPTIONS="--rounds 9".
bench-sdk: .venv/installed
	$(BIN)/python -m benchmarks.micro.sdk $(OPTIONS)

bench-seal: .venv/installed
	$(BIN)/python benchmarks/micro/seal.py
	$(BIN)/python benchmarks/micro/model_file.py

bench-job-store: .venv/installed
	$(BIN)/python benchmarks/micro/job_store.py

bench-job-seal: .venv/installed
	$(BIN)/python benchmarks/micro/job_seal.py

bench-vaults: .venv/installed
	$(BIN)/python benchmarks/micro/vaults.py

bench-appraise: .venv/installed
	$(BIN)/python benchmarks/micro/appraise.py
	$(BIN)/python benchmarks/micro/judges.py

bench-record: .venv/installed
	$(BIN)/python benchmarks/micro/record.py

# What `appendfsync always` costs, and what redis-py costs its caller. OPTIONS="--seconds 10".
bench-redis: .venv/installed
	$(BIN)/python -m benchmarks.micro.durability $(OPTIONS)

# A mesh here against the model of it, then the model of larger ones. COSTS=benchmarks/results/serving-mlp.json: no mesh.
bench-scale: .venv/installed .venv-plots/installed
	$(BIN)/python -m benchmarks.scale $(if $(COSTS),--costs-of $(COSTS))

# OPTIONS="--sustained 100000" for a long run of each instead.
bench-releases: .venv/installed
	$(BIN)/python benchmarks/micro/releases.py $(OPTIONS)
	$(BIN)/python -m benchmarks.scenarios.releases $(OPTIONS)

bench-rotation: .venv/installed
	$(BIN)/python benchmarks/micro/rotation.py $(OPTIONS)

bench-leases: .venv/installed
	$(BIN)/python benchmarks/scenarios/leases.py

bench-renewals: .venv/installed
	$(BIN)/python benchmarks/scenarios/renewals.py

# MODEL=resnet50|mlp|...; a worker's cold start, stage by stage.
bench-start: .venv/installed
	$(BIN)/python -m benchmarks.scenarios.start $(if $(MODEL),--model $(MODEL)) $(OPTIONS)

# A worker under gramine-direct beside one that is a process. OPTIONS="--models mlp --rounds 5".
bench-enclave: .venv/installed
	$(BIN)/python -m benchmarks.scenarios.enclave $(OPTIONS)

# All but `convert`, whose PyTorch would be in every checkout's way.
EXTRAS := serve console worker enclave pkcs11 transit otel demo prepare quantize zoo

lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml $(EXTRAS:%=--extra %) --group dev -o dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-package cloister --group stream/pyproject.toml:build stream/pyproject.toml -o stream/requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package cloister \
		--group stream/pyproject.toml:build docs/examples/ray/requirements.in pyproject.toml -o docs/examples/ray/requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header protos/protoc.in -o protos/protoc.lock
	for each in report peers/grpc_aio peers/kserve peers/mlserver peers/mosec peers/triton; do \
		uv pip compile -q --python-version 3.11 --generate-hashes --no-header \
			benchmarks/$$each/requirements.in -o benchmarks/$$each/requirements.lock || exit 1; done
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		tests/stock/requirements.in -o tests/stock/requirements.lock
	for each in serve "serve worker"; do \
		case $$each in "serve worker") name=simulator;; *) name=$$each;; esac; \
		uv pip compile -q --python-version 3.11.2 --python-platform x86_64-manylinux_2_36 --generate-hashes --no-header \
			pyproject.toml $$(printf -- ' --extra %s' $$each) -c dev.lock -o deploy/images/locks/$$name.lock || exit 1; done
	uv pip compile -q --universal --generate-hashes --no-header deploy/images/pip.in -o deploy/images/locks/pip.lock

# What each service imports, with a reason from tcb.toml for whatever is not ours; then a mesh whose services are watched.
tcb: .venv/installed
	$(BIN)/python -m cloister.enclave.locking
	PYTHONPATH=tests $(BIN)/python -m fakes.traced_mesh

setup: .venv/installed

.venv/installed: dev.lock pyproject.toml enclave/simulator/pyproject.toml stream/pyproject.toml
	@sh deploy/venv.sh "$(PYTHON)" .venv dev.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e . -e enclave/simulator -e stream
	@touch $@

# protoc's oldest supported release lives apart: its protobuf is older than the one we run on.
.venv-protoc/installed: protos/protoc.lock
	@sh deploy/venv.sh "$(PYTHON)" .venv-protoc protos/protoc.lock
	@touch $@

# KServe's client apart: its pins would hold ours back, and its messages have the names of Triton's.
.venv-kserve/installed: tests/stock/requirements.lock
	@sh deploy/venv.sh "$(PYTHON)" .venv-kserve $< --no-compile
	@touch $@

# Flink's Python wants older gRPC and protobuf than ours.
.venv-flink/installed: stream/requirements.lock stream/pyproject.toml pyproject.toml
	@sh deploy/venv.sh "$(PYTHON)" .venv-flink $<
	@.venv-flink/bin/pip install -q --no-deps --no-build-isolation -e . -e stream
	@touch $@

# Ray beside the SDK, in an environment that holds back nothing of ours.
.venv-ray/installed: docs/examples/ray/requirements.lock pyproject.toml
	@sh deploy/venv.sh "$(PYTHON)" .venv-ray $<
	@.venv-ray/bin/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv-convert/installed: dev.lock pyproject.toml tests/unit/prepare/requirements.txt
	@sh deploy/venv.sh "$(PYTHON)" .venv-convert dev.lock
	@.venv-convert/bin/pip install -q -r tests/unit/prepare/requirements.txt
	@.venv-convert/bin/pip install -q --no-deps --no-build-isolation -e . -e enclave/simulator
	@touch $@

.venv-plots/installed: benchmarks/report/requirements.lock
	@sh deploy/venv.sh "$(PYTHON)" .venv-plots $<
	@touch $@

# Where there is no Node.js, nothing is made, and the tests that need it are skipped.
clients/node/node_modules/installed: clients/node/package-lock.json
	@sh deploy/node.sh clients/node

# buf, which compares what goes over the wire with what the last release sent.
protos/buf/node_modules/installed: protos/buf/package-lock.json
	@sh deploy/node.sh protos/buf

# Each peer apart: they want other versions of the same packages.
.venv-peers/%/installed: benchmarks/peers/%/requirements.lock
	@sh deploy/venv.sh "$(PYTHON)" .venv-peers/$* $<
	@touch $@

clean:
	rm -rf .venv .venv-convert .venv-flink .venv-kserve .venv-protoc .venv-plots .venv-peers .venv-ray .venv-upgrade clients/node/node_modules protos/buf/node_modules .bench .demo .demo-flink .demo-ray build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
