# make demo: build, and watch three hosts get a pod network      make test: everything that is tested
# make install / uninstall: put the suite and flanneld on this machine (DESTDIR, PREFIX, CNI_BIN_DIR, CNI_CONF_DIR)
# make bench: ours beside the Go plugins and the kernel's own cost      make lint: format, clippy and style, as CI runs them
# make deny: licences, duplicate versions and sources of what we link (needs cargo-deny)

PREFIX ?= /usr/local
CNI_BIN_DIR ?= /opt/cni/bin
CNI_CONF_DIR ?= /etc/cni/net.d
UNIT_DIR ?= /etc/systemd/system
CARGO ?= cargo
KEEP ?=

# where each name of the suite points to; `make install` links them all to the one file
PLUGINS := $(shell cat plugins/suite/names)

host := $(shell rustc -vV | sed -n 's/^host: //p')
musl := $(subst -gnu,-musl,$(host))
# plugins are static: on musl where its standard library is installed, else on glibc's static libraries
target := $(if $(wildcard $(shell rustc --print target-libdir --target $(musl))),$(musl),$(host))
static := CARGO_TARGET_$(shell echo $(target) | tr a-z- A-Z_)_RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static"
# what `flannel` says of itself
export GIT_COMMIT := $(shell git rev-parse --short=8 HEAD 2>/dev/null || echo unknown)
bin := target/bin
cargo_release := $(CARGO) build --release --locked --target

.PHONY: all build demo test bench lint deny install uninstall clean need-build need-demo need-test harness

all: build

need-build:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer (rustup.rs)"; exit 1; }
	@scripts/need cc:gcc:'links programs, compiles the TLS primitives' /usr/include/stdio.h:libc6-dev:'C headers and static libraries'

need-demo: need-build
	@scripts/need ip:iproute2:'hosts, links, routes' nft:nftables:'shows the rules' ping:iputils-ping:'pods ping pods' \
	    unshare:util-linux:'namespaces of its own' tcpdump:tcpdump:'shows a packet of the overlay'

need-test: need-demo
	@scripts/need /usr/lib/cni/bridge:containernetworking-plugins:'the Go plugins, as peers' iptables:iptables:'judges rules' \
	    conntrack:conntrack:'judges connections' strace:strace:'counts system calls, injects faults' \
	    containerd:containerd:'a real runtime' runc:runc:'a real runtime' podman:podman:'a second runtime' \
	    qemu-system-x86_64:qemu-system-x86:'a kernel that has what this one lacks' /usr/share/seabios/bios-256k.bin:seabios:'for it' \
	    cpio:cpio:'for it' zstd:zstd:'for it' modprobe:kmod:'for it' busybox:busybox-static:'what runs in pods' protoc:protobuf-compiler:'compiles the runtimes'\'' interface'

build: need-build
	$(static) $(cargo_release) $(target) -p cni-suite -p cnitool
	$(cargo_release) $(host) -p flanneld
	@mkdir -p $(bin)
	@cp -f target/$(target)/release/cni-suite target/$(target)/release/cnitool target/$(host)/release/flanneld $(bin)/
	@ls -l $(bin) | awk 'NR > 1 { printf "  %-24s %6.2f MB\n", "$(bin)/" $$NF, $$5 / 1e6 }'

demo: need-demo build
	$(cargo_release) $(host) -p tests --bin demo
	@BIN_DIR=$(CURDIR)/$(bin) KEEP=$(KEEP) target/$(host)/release/demo

test: need-test build
	@scripts/go-peer build cnitool
	BIN_DIR=$(CURDIR)/$(bin) scripts/test $(CARGO) test --workspace --locked --no-fail-fast

bench: need-test build
	@scripts/go-peer build plugins
	$(cargo_release) $(host) -p tests --bin bench
	@BIN_DIR=$(CURDIR)/$(bin) BENCH_OUT=$(CURDIR)/target/bench target/$(host)/release/bench $(ONLY)

lint: need-test
	$(CARGO) fmt --all --check
	scripts/check-style
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny"; exit 1; }
	$(CARGO) deny check licenses bans sources

install:
	@test -x $(bin)/cni-suite || { echo "nothing is built yet: run \`make build\` first (as yourself, not as root)"; exit 1; }
	CNI_BIN_DIR=$(DESTDIR)$(CNI_BIN_DIR) CNI_CONF_DIR=$(DESTDIR)$(CNI_CONF_DIR) PREFIX=$(DESTDIR)$(PREFIX) \
	    UNIT_DIR=$(DESTDIR)$(UNIT_DIR) PLUGINS="$(PLUGINS)" RUN_PREFIX=$(PREFIX) scripts/install $(bin)

uninstall:
	CNI_BIN_DIR=$(DESTDIR)$(CNI_BIN_DIR) CNI_CONF_DIR=$(DESTDIR)$(CNI_CONF_DIR) PREFIX=$(DESTDIR)$(PREFIX) \
	    UNIT_DIR=$(DESTDIR)$(UNIT_DIR) PLUGINS="$(PLUGINS)" scripts/uninstall

clean:
	$(CARGO) clean
