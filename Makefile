# Two commands do everything a newcomer needs: `make demo` and `make test`. Both set the machine up first.
SHELL := /bin/bash
PY := .venv/bin/python
BIN := .venv/bin
# What writes generated files: `python -m NAME`, and with --check says which are stale.
GENERATORS := afterburnerd.abi.generate afterburnerd.config.generate afterburnerd.observe.generate afterburnerd.manuals deploy.grafana.dashboard
.DEFAULT_GOAL := help
.PHONY: help setup build demo test hunt test-zerocopy check lint bench fmt generate install uninstall clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install Debian packages, make .venv, build (skips what is done)
	@deploy/debian/setup.sh

build: ## build the C helper and the BPF object
	@deploy/debian/setup.sh build

demo: ## from nothing to a summary of packets received, decoded, lost: under a minute (needs root)
	@[ "$$(id -u)" = 0 ] || { echo "make demo: it makes network namespaces and loads an XDP program, which needs root: run 'sudo make demo'" >&2; exit 77; }
	@deploy/debian/setup.sh && $(BIN)/afterburner-lab demo $(ARGS)

bench: setup ## run the benchmarks (needs root; ARGS=--json for one object each)
	@code=0; for what in decoder crypto engine xdp raw daemon handshake latency tps; do $(BIN)/afterburner-lab bench $$what $(ARGS) || code=$$?; done; exit $$code

test: setup ## run every test (privileged ones need root)
	@$(PY) -m pytest $(ARGS)

hunt: setup ## fresh seeds for fuzz targets and simulations until Ctrl-C (SECONDS=600, ARGS="sim quic_packets")
	@$(PY) -m tests.hunt $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

test-zerocopy: setup ## run the data plane in a guest whose NICs do zero-copy (part of `make test`)
	@$(PY) -m pytest tests/zerocopy $(ARGS)

check: setup lint ## what CI runs: linters, stale generated files, every test
	@$(PY) -m pytest $(ARGS)

lint: ## linters, types, stale generated files
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@for name in $(GENERATORS); do $(PY) -m $$name --check || exit 1; done
	@clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' | grep -v -e native/abi.h -e bpf/afterburner.h)

generate: ## write the files that come from the schema and the parsers
	@for name in $(GENERATORS); do $(PY) -m $$name || exit 1; done

fmt: ## format C and Python
	@$(BIN)/ruff format . && $(BIN)/ruff check -q --fix . ; clang-format -i $$(git ls-files '*.c' '*.h' | grep -v -e native/abi.h -e bpf/afterburner.h)

install: setup ## install on this host: program, unit, account, configuration (DESTDIR=, PREFIX=/usr/local)
	@DESTDIR='$(DESTDIR)' PREFIX='$(or $(PREFIX),/usr/local)' deploy/debian/install.sh

uninstall: ## remove what `make install` installed (the configuration stays)
	@DESTDIR='$(DESTDIR)' PREFIX='$(or $(PREFIX),/usr/local)' deploy/debian/install.sh uninstall

clean: ## remove what the build made
	@rm -rf build .venv
