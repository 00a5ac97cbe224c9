# make          build, lint and test
# make test     the tests; installs the few things that they need beside Go into .tools and node_modules
# make race     the tests under the race detector
# make fuzz     every fuzz target for FUZZTIME each
# make bench-probe  the probe beside nmap, in a network namespace of its own (root or user namespaces; nmap and nftables)
# make golden   write the golden files anew, to be looked at before they are committed
# make man      the man pages and the completions of the shells, into .release
# make snapshot what a release would consist of, into dist; publishes nothing

SHELL    := /bin/bash
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
FUZZTIME ?= 20s
# What the lanes on foreign software run with, if this machine has no moto of its own.
export PATH := $(CURDIR)/.tools/venv/bin:$(PATH)

.PHONY: all build lint vuln test race fuzz bench-probe golden man snapshot tools cover clean
all: build lint test

build:
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o cloudaudit ./cmd/cloudaudit

lint:
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 $(GO) tool gofumpt -l); \
	if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@command -v shellcheck >/dev/null || { echo "shellcheck: not installed"; test -z "$$CI"; exit; }; \
	git ls-files -z "*.sh" .ci/run | xargs -0 shellcheck
	@$(MAKE) --no-print-directory vuln

# The database of vulnerabilities is on the network; a build must not fail because it cannot be had.
vuln:
	@out=$$($(GO) tool govulncheck ./... 2>&1); status=$$?; \
	if [ $$status -ne 0 ] && grep -qE 'fetching vulnerabilities|dial tcp|no such host|proxyconnect|vuln.go.dev' <<<"$$out"; \
	then echo "govulncheck: its database cannot be had here, skipped"; \
	else echo "$$out"; exit $$status; fi

test: tools
	$(GO) test ./...

race: tools
	$(GO) test -race ./...

cover:
	$(GO) test -cover ./traffic ./cloud

fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

bench-probe:
	$(GO) run ./bench/probe

golden:
	$(GO) test ./findings/... ./internal/cli -update

man:
	$(GO) run ./scripts/manual -date $$(git log -1 --format=%cI) .release

snapshot:
	@scripts/snapshot.sh

tools:
	@scripts/tools.sh

clean:
	rm -rf cloudaudit dist .release .tools node_modules
