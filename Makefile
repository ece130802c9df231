PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.stamp

PACKAGES := ca-certificates clang iproute2 libbpf-dev libbpf1 linux-libc-dev make procps python3-venv util-linux
# The other compilers that programs are tested with, and the oracles: what Oko must agree with.
TEST_PACKAGES := bpftool clang-16 clang-19 clang-format ethtool iperf3 llvm nftables openssl openvswitch-common \
	openvswitch-switch p0f tshark
OLD_KERNEL_PACKAGES := busybox-static kmod qemu-system-common qemu-system-x86
INSTALLED = $(shell dpkg-query -W -f '$${db:Status-Status}:$${Package}\n' $(PACKAGES) 2>/dev/null | sed -n 's/^installed://p')
MISSING = $(filter-out $(INSTALLED),$(PACKAGES))
# Tests start Oko's commands by the hundred: where bytecode may not be kept, each would compile all of Oko's modules anew.
unexport PYTHONDONTWRITEBYTECODE
C_SOURCES = $(shell find bpf_programs perf tests -name '*.[ch]')

ifneq ($(filter lint test test-old-kernel soak bench bench-quick bench-check,$(MAKECMDGOALS)),)
PACKAGES += $(TEST_PACKAGES)
endif
ifneq ($(filter test-old-kernel,$(MAKECMDGOALS)),)
PACKAGES += $(OLD_KERNEL_PACKAGES)
endif

NEEDS_ROOT := $(filter test test-old-kernel soak bench bench-quick bench-check $(if $(PCAP),,demo),$(MAKECMDGOALS))
ifneq ($(NEEDS_ROOT),)
ifneq ($(shell id -u),0)
$(error make $(NEEDS_ROOT) needs root, for Debian packages, network namespaces and BPF: run 'sudo make $(MAKECMDGOALS)')
endif
endif

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: packages $(STAMP) ## install the Debian packages that are missing, make the virtual environment

objects: packages ## compile the BPF objects into build/bpf
	@$(MAKE) --silent -C bpf_programs

lint: setup ## ruff, mypy, clang-format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	clang-format --dry-run --Werror $(C_SOURCES)

test: lint objects ## lint, then every test (root)
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-old-kernel: setup objects ## the tests that load BPF, on Debian's kernel 6.1 in qemu (root); ARGS are pytest's
	@exec $(VENV)/bin/python -m tests.vm $(ARGS)

soak: setup objects ## 30 minutes of changes, disturbances and kills under full load (root); SECONDS=N, SEED=N
	@exec $(VENV)/bin/python -m perf soak --seconds $(or $(SECONDS),1800) --seed $(or $(SEED),1)

demo: setup objects ## the demonstration (root); with PCAP=FILE, replay that capture
	@exec $(VENV)/bin/python -m demo $(if $(PCAP),--pcap "$(PCAP)")

bench: setup objects ## whole switches beside each other, with a report in perf/report.html (root); ARGS are perf bench's
	@exec $(VENV)/bin/python -m perf bench $(ARGS)

bench-quick: setup objects ## the same in less than 3 minutes (root)
	@exec $(VENV)/bin/python -m perf bench --quick $(ARGS)

bench-check: bench-quick ## bench-quick, and fail if a ratio is more than 10 % worse than the accepted one (root)
	@exec $(VENV)/bin/python -m perf bench-check

clean: ## remove what was compiled, and caches; .venv stays
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

packages:
	@if [ -n "$(MISSING)" ]; then \
		if [ "$$(id -u)" -ne 0 ]; then \
			echo "Debian packages are missing: run 'sudo apt-get install $(MISSING)'" >&2; exit 1; \
		fi; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(MISSING); \
	fi

$(STAMP): pyproject.toml constraints.txt | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.PHONY: help setup objects lint test test-old-kernel soak demo clean packages
.NOTPARALLEL:
