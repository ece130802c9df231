PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.stamp

# openvswitch-common: ovs-ofctl, an oracle of the tests, without the services of openvswitch-switch.
PACKAGES := bpftool ca-certificates clang clang-format ethtool iproute2 libbpf-dev libbpf1 linux-libc-dev llvm make \
	nftables openvswitch-common procps python3-venv tshark util-linux
INSTALLED = $(shell dpkg-query -W -f '$${db:Status-Status}:$${Package}\n' $(PACKAGES) 2>/dev/null | sed -n 's/^installed://p')
MISSING = $(filter-out $(INSTALLED),$(PACKAGES))
C_SOURCES = $(shell find bpf_programs perf tests -name '*.[ch]')

ifneq ($(filter test-old-kernel,$(MAKECMDGOALS)),)
PACKAGES += busybox-static kmod qemu-system-common qemu-system-x86
endif

NEEDS_ROOT := $(filter test test-old-kernel $(if $(PCAP),,demo),$(MAKECMDGOALS))
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
	$(VENV)/bin/python -m pytest

test-old-kernel: setup objects ## the tests that load BPF, on Debian's kernel 6.1 in qemu (root); ARGS are pytest's
	@exec $(VENV)/bin/python -m tests.vm $(ARGS)

demo: setup objects ## the demonstration (root); with PCAP=FILE, replay that capture
	@exec $(VENV)/bin/python -m demo $(if $(PCAP),--pcap "$(PCAP)")

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

.PHONY: help setup objects lint test test-old-kernel demo clean packages
.NOTPARALLEL:
