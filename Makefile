# make build      the suite, cnitool and flanneld, into target/bin
# make test       unit tests, scenarios, real runtimes, virtual machine
# make lint       format, clippy and style, as CI runs them
# make deny       licences, duplicate versions and sources of what we link (needs cargo-deny)
# make demo       three hosts with a pod network; KEEP=1 leaves them up
# make bench      our plugins, the Go plugins and the kernel's own cost; ONLY=name, ROUNDS=n, PEERS=folder
# make install    the suite and flanneld on this machine (DESTDIR, PREFIX, CNI_BIN_DIR, CNI_CONF_DIR)
# make uninstall  what install put there

PREFIX ?= /usr/local
CNI_BIN_DIR ?= /opt/cni/bin
CNI_CONF_DIR ?= /etc/cni/net.d
UNIT_DIR ?= /etc/systemd/system
CARGO ?= cargo
KEEP ?=

# the plugin types of the suite: `make install` links each to the one file
PLUGINS := $(shell cat plugins/suite/names)

host := $(shell rustc -vV | sed -n 's/^host: //p')
musl := $(subst -gnu,-musl,$(host))
# plugins are static: with musl where its standard library is installed, else with glibc
target := $(if $(wildcard $(shell rustc --print target-libdir --target $(musl))),$(musl),$(host))
# without the last flag getrandom finds no system call in a static executable and opens /dev/urandom
static := CARGO_TARGET_$(shell echo $(target) | tr a-z- A-Z_)_RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static --cfg getrandom_backend="linux_getrandom"'
# part of the version that `flannel` prints
export GIT_COMMIT := $(shell git rev-parse --short=8 HEAD 2>/dev/null || echo unknown)
bin := target/bin
# Go programs that tests run beside ours; KUBEBUILDER_ASSETS=folder names another kube-apiserver
test_peers := cnitool flannel $(if $(KUBEBUILDER_ASSETS),,kube-apiserver)
cargo_release := $(CARGO) build --release --locked --target

.PHONY: all build demo test bench lint deny install uninstall clean need-build need-demo need-test

all: build

need-build:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer (rustup.rs)"; exit 1; }
	@scripts/need cc:gcc:'links programs, compiles the TLS primitives' /usr/include/stdio.h:libc6-dev:'C headers and static libraries' \
	    protoc:protobuf-compiler:'compiles the API of etcd' /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev:'compiles the API of etcd'

need-demo: need-build
	@scripts/need ip:iproute2:'hosts, links, routes' nft:nftables:'prints the rules' ping:iputils-ping:'traffic between pods' \
	    unshare:util-linux:'namespaces' tcpdump:tcpdump:'decodes a packet of the overlay'

need-test: need-demo
	@scripts/need /usr/lib/cni/bridge:containernetworking-plugins:'Go plugins as peers' iptables:iptables:'prints rules' \
	    conntrack:conntrack:'prints connections' strace:strace:'counts system calls, injects faults' \
	    containerd:containerd:'container runtime' runc:runc:'container runtime' podman:podman:'container runtime' \
	    busybox:busybox-static:'the image of the pods' \
	    qemu-system-x86_64:qemu-system-x86:'virtual machine' /usr/share/seabios/bios-256k.bin:seabios:'virtual machine' \
	    etcd:etcd-server:'subnet manager, behind the API server' etcdctl:etcd-client:'judges what is in etcd' \
	    kubectl:kubernetes-client:'judges what is in Kubernetes' \
	    cpio:cpio:'virtual machine' zstd:zstd:'virtual machine' modprobe:kmod:'virtual machine'

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
	@scripts/go-peer build $(test_peers)
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
