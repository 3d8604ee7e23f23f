# The project's commands. `make help` lists them.

GO            ?= go
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS       := -s -w -X main.version=$(VERSION)
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@latest

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build package test mutate model lint vuln fuzz bench chaos soak microbench demo tidy generate clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

build: ## build the static binary bin/vodrelay
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/vodrelay ./cmd/vodrelay

package: ## build the deb and the rpm into dist
	scripts/package

test: ## install what tests need (as root on Debian), run every test with the race detector, and what failed once more
	scripts/testdeps
	CGO_ENABLED=1 scripts/gotest -race -shuffle=on -timeout=10m -p=3 -parallel=4 -- ./... # most of them wait
	cd deploy/test && ../../scripts/gotest -count=1 -shuffle=on -timeout=10m -- ./... # no cache: it does not see the files under test
	cd scripts/chaos && CGO_ENABLED=1 ../../scripts/gotest -race -shuffle=on -timeout=5m -- ./...

mutate: ## change the code in PACKAGES, one operator at a time, and report what no test notices (an hour for all)
	$(GO) run ./scripts/mutate $(PACKAGES)

model: ## search everything that the model of the way of an event can do (needs spin and gcc)
	scripts/model/check

lint: ## run the linters (configuration: .golangci.yml)
	$(GO) run $(GOLANGCI_LINT) run ./...

vuln: ## look for known vulnerabilities (needs vuln.go.dev)
	$(GO) run $(GOVULNCHECK) ./...

fuzz: ## run each fuzz test for FUZZTIME (20s)
	scripts/fuzz $(or $(FUZZTIME),20s)

bench: ## measure against the goals and write scripts/bench/RESULTS.md (8 minutes, Linux)
	cd scripts/bench && $(GO) run .

chaos: ## let everything go wrong in worlds of real processes, and prove that no event is lost (10 minutes, Linux)
	cd scripts/chaos && $(GO) run . $(CHAOS)

soak: ## an hour of mild chaos: memory, goroutines and open files must stay flat; writes scripts/chaos/RESULTS.md (Linux)
	cd scripts/chaos && $(GO) run . -soak $(or $(SOAK),1h)

microbench: ## run the micro-benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

demo: ## the tour: emulator, relay and receiver in one command
	$(GO) run ./cmd/vodrelay demo

tidy: ## tidy go.mod and go.sum, format the code
	$(GO) mod tidy
	cd deploy/test && $(GO) mod tidy
	cd scripts/bench && $(GO) mod tidy
	cd scripts/chaos && $(GO) mod tidy
	gofmt -w cmd pkg deploy scripts

generate: ## write the files that are made from code: reference configuration and JSON Schema
	$(GO) test ./pkg/config -run 'File$$' -update

clean: ## delete what the other targets made
	rm -rf bin dist
