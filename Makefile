# `make help` lists what there is to do.

# The linter is built from source at this version; nothing is installed.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Nodes that `make up` starts, and the time `make fuzz` gives each target.
NODES    ?= 3
FUZZTIME ?= 30s

export PARLEY_VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := build

run: ## one node on 127.0.0.1:8398 with Redis inside it
	go run ./cmd/parley

build: ## bin/parley and bin/parley-bench
	CGO_ENABLED=0 go build -trimpath -ldflags "-X parley/pkg/node.Version=$(PARLEY_VERSION)" -o bin/ ./cmd/...

test: setup ## every test, with the race detector; installs what is missing by apt
	go vet ./...
	go test -race -timeout 30m ./...
	cd client-js && npm run check && npm test

setup: client-js/node_modules/.package-lock.json ## what the tests need besides Go: by apt and npm

client-js/node_modules/.package-lock.json: client-js/package-lock.json | test-programs
	cd client-js && npm ci
	touch $@

test-programs:
	deploy/test-setup

lint: ## golangci-lint: vet, staticcheck, error wrapping, import directions, gofmt
	go run $(GOLANGCI_LINT) run ./...

fuzz: ## each fuzz target for FUZZTIME
	deploy/fuzz $(FUZZTIME)

bench: ## Go benchmarks with allocations
	go test -run '^$$' -bench . -benchmem ./...

up: ## the compose fleet on 127.0.0.1:8398, with NODES nodes
	docker compose up --build --detach --wait --scale relay=$(NODES)

roll: ## replaces the nodes of the running fleet by a fresh build, clients connected
	deploy/roll

down: ## stops the compose fleet; the nodes drain first
	docker compose down

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

.PHONY: run build test setup test-programs lint fuzz bench up roll down help
