# mailsync: build, test, install. `make help` tells the targets.
#
# There is one release build, in $(BUILD), which the program, the unit tests, the end-to-end tests, the demo and the
# benchmarks all use: building mailsync takes minutes, most of them for TLS. Hence -enable-testing in SWIFTFLAGS.
#
# STATIC=1 makes another program, in a directory of its own, without it and with Swift's libraries inside: what one
# would put onto a mail server, which then needs no Swift.

PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
SWIFT ?= swift
PYTHON ?= python3
KILLS ?= 200
FUZZ_SECONDS ?= 60
SEEDS ?= 200
SOAK_SEEDS ?= 20000
SOAK_HOURS ?= 24
SANITIZE_SEEDS ?= 30
# Swift's own clang, which knows how Swift calls.
SWIFT_CLANG = $(dir $(realpath $(shell command -v $(SWIFT))))clang
LIBFUZZER = $(firstword $(wildcard $(dir $(realpath $(shell command -v $(SWIFT))))../lib/clang/*/lib/*/libclang_rt.fuzzer_no_main-$(shell uname -m).a))

ifdef STATIC
BUILD := .build-static
SWIFTFLAGS := -c release --static-swift-stdlib --scratch-path $(BUILD)
else
BUILD := .build-release
SWIFTFLAGS := -c release -Xswiftc -enable-testing --scratch-path $(BUILD)
endif
PROGRAM := $(BUILD)/release/mailsync
SIMULATION := $(BUILD)/release/mailsync-sim

END_TO_END := MAILSYNC=$(abspath $(PROGRAM)) .ci/on-scratch-disk $(PYTHON) Tests/EndToEnd/run.py

.DEFAULT_GOAL := build
.PHONY: help deps build build-tests test unit simulate end-to-end demo bench soak fuzz-smoke sanitize lint man-lint install uninstall clean

help:
	@echo 'make build        the program: $(PROGRAM)'
	@echo 'make test         build everything once, unit tests, simulation, end-to-end tests (as root, with Cyrus; else those are skipped)'
	@echo 'make simulate     both ends in one process, SEEDS=$(SEEDS) runs with faults, an hour with audits, each mutation found'
	@echo 'make demo         two mail servers, a crash and a fail-over, in a minute'
	@echo 'make bench        the benchmarks, which print a table'
	@echo 'make soak         SOAK_SEEDS=$(SOAK_SEEDS) and SOAK_HOURS=$(SOAK_HOURS) of the simulation, the long end-to-end tests,'
	@echo '                  KILLS=$(KILLS) rounds of kill -9'
	@echo 'make fuzz-smoke   libFuzzer on every decoder, FUZZ_SECONDS=$(FUZZ_SECONDS) each'
	@echo 'make sanitize     unit tests and SANITIZE_SEEDS=$(SANITIZE_SEEDS) of the simulation under the address and the thread sanitizer'
	@echo 'make deps         as root: the Debian packages that are missing'
	@echo 'make lint         form of the sources (swift format), of the man pages too where there is mandoc'
	@echo 'make install      what was built, into PREFIX=$(PREFIX) (DESTDIR=$(DESTDIR)); make uninstall takes it away'
	@echo 'make clean        remove what was built'
	@echo 'STATIC=1          with build and install: a program that needs no Swift on the host it runs on'

deps:
	.ci/deps build test

build:
	@.ci/deps --check build
	$(SWIFT) build $(SWIFTFLAGS) --product mailsync

build-tests:
	$(SWIFT) build --build-tests $(SWIFTFLAGS)

# Not root: the end-to-end tests skip what needs it, so only the packages for building must be there.
test:
	@if [ "$$(id -u)" -eq 0 ]; then .ci/deps build test; else .ci/deps --check build; fi
	@$(MAKE) --no-print-directory unit simulate end-to-end
	@echo 'make test: all passed'

unit: build-tests
	$(SWIFT) test $(SWIFTFLAGS) --skip-build

simulate: build-tests
	$(SIMULATION) --seeds $(SEEDS)
	$(SIMULATION) --seeds 20 --twice
	$(SIMULATION) --seeds 1 --hours 1
	$(SIMULATION) --mutation all

end-to-end: build-tests
	$(END_TO_END) --quick

demo:
	@if [ "$$(id -u)" -eq 0 ]; then .ci/deps build test; fi
	@$(MAKE) --no-print-directory build
	MAILSYNC=$(abspath $(PROGRAM)) demo/demo.sh

bench: build
	MAILSYNC=$(abspath $(PROGRAM)) $(PYTHON) Benchmarks/run.py

soak: build
	$(SWIFT) build $(SWIFTFLAGS) --product mailsync-sim
	$(SIMULATION) --seeds $(SOAK_SEEDS)
	$(SIMULATION) --seeds 1 --hours $(SOAK_HOURS)
	KILLS=$(KILLS) $(END_TO_END) --long

# Only the layers of the house are instrumented; it is a build of its own, which takes minutes the first time.
fuzz-smoke:
	@test -n "$(LIBFUZZER)" || { echo 'fuzz-smoke: no libclang_rt.fuzzer_no_main beside $(SWIFT)' >&2; exit 1; }
	MAILSYNC_FUZZ=$(LIBFUZZER) $(SWIFT) build -c release --scratch-path .build-fuzz --product mailsync-fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) Tests/Fuzz/run.py .build-fuzz/release/mailsync-fuzz

# Builds of their own, without optimisation: some twenty minutes each the first time. TESTS=WORD: only tests of that name.
# Not for leaks: what a static of Swift's holds counts as one.
sanitize:
	$(SWIFT) build --build-tests --sanitize=address --scratch-path .build-asan
	ASAN_OPTIONS=detect_leaks=0 \
	    $(SWIFT) test --sanitize=address --scratch-path .build-asan --skip-build $(if $(TESTS),--filter $(TESTS))
	ASAN_OPTIONS=detect_leaks=0 .build-asan/debug/mailsync-sim --seeds $(SANITIZE_SEEDS)
	$(SWIFT) build --build-tests --sanitize=thread --scratch-path .build-tsan
	$(SWIFT_CLANG) -shared -fPIC -O2 -Wall Tests/Sanitizers/mutex.c -o .build-tsan/mutex.so
	LD_PRELOAD=$(abspath .build-tsan/mutex.so) \
	    $(SWIFT) test --sanitize=thread --scratch-path .build-tsan --skip-build $(if $(TESTS),--filter $(TESTS))
	LD_PRELOAD=$(abspath .build-tsan/mutex.so) .build-tsan/debug/mailsync-sim --seeds $(SANITIZE_SEEDS)

lint: man-lint
	$(SWIFT) format lint -s -r Sources Tests Package.swift

man-lint:
	@if command -v mandoc > /dev/null; then mandoc -T lint -W warning man/*.[1-9]; \
	else echo 'lint: no mandoc here: man pages not looked at'; fi

# The unit's command line is where the program is.
install:
	@test -x $(PROGRAM) || { echo 'install: $(PROGRAM): not built yet; run "make build$(if $(STATIC), STATIC=1)" first' >&2; exit 1; }
	install -D -m 755 -s $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/mailsync
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 man/mailsync.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 man/mailsync.conf.5
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man7 man/mailsync-protocol.7
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/local/bin/mailsync|$(PREFIX)/bin/mailsync|' packaging/mailsync@.service > $(DESTDIR)$(UNITDIR)/mailsync@.service
	chmod 644 $(DESTDIR)$(UNITDIR)/mailsync@.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/mailsync README.md ARCHITECTURE.md CHANGELOG.md LICENSE
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/mailsync/examples \
	    packaging/mailsync.conf packaging/primary.conf packaging/60-mailsync.conf
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(PROGRAM) --generate-completion-script bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mailsync
	$(PROGRAM) --generate-completion-script zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mailsync
	$(PROGRAM) --generate-completion-script fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mailsync.fish

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/mailsync $(DESTDIR)$(UNITDIR)/mailsync@.service
	rm -f $(DESTDIR)$(PREFIX)/share/man/man8/mailsync.8 $(DESTDIR)$(PREFIX)/share/man/man5/mailsync.conf.5 \
	    $(DESTDIR)$(PREFIX)/share/man/man7/mailsync-protocol.7
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mailsync \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mailsync \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mailsync.fish
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/mailsync

clean:
	rm -rf .build-release .build-static .build-fuzz
