# make build      the suite, cnitool and flanneld, into target/bin
# make test       unit tests, scenarios, real runtimes, virtual machine
# make lint       format, clippy and style, as CI runs them
# make fuzz       every fuzz target for SECONDS=60 each, JOBS=2 at once; ONLY=part of a name, SEED=number
# make deny       licences, duplicate versions and sources of what we link (needs cargo-deny)
# make demo       three hosts with a pod network; KEEP=1 leaves them up
# make bench      our plugins, the Go plugins and the kernel's own cost; ONLY=name, ROUNDS=n, PEERS=folder
# make image      an OCI image archive with flanneld and the suite, target/image/flannel.tar (IMAGE=name:tag)
# make test-cluster  a Kubernetes cluster of two nodes on this machine, from Go modules and Debian's packages (root)
# make install    the suite and flanneld on this machine (DESTDIR, PREFIX, SYSCONF_DIR, CNI_BIN_DIR, CNI_CONF_DIR)
# make uninstall  what install put there, but for configuration that somebody changed; and what the plugins keep of
#                 containers that no longer exist

PREFIX ?= /usr/local
SYSCONF_DIR ?= /etc
CNI_BIN_DIR ?= /opt/cni/bin
CNI_CONF_DIR ?= $(SYSCONF_DIR)/cni/net.d
UNIT_DIR ?= $(SYSCONF_DIR)/systemd/system
CARGO ?= cargo
KEEP ?=
SECONDS ?= 60
# the name in the image archive, which the manifest in deploy/ uses
IMAGE ?= localhost/flannel:v$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

# the plugin types of the suite: `make install` links each to the one file
PLUGINS := $(shell cat plugins/suite/names)

host := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# $(call static_target,ARCHITECTURE): the Rust target of static programs: with musl where its standard library is
# installed, else with glibc, or nothing where neither is
installed = $(if $(wildcard $(shell rustc --print target-libdir --target $(1) 2>/dev/null)),$(1))
static_target = $(firstword $(call installed,$(1)-unknown-linux-musl) $(call installed,$(1)-unknown-linux-gnu))
target := $(call static_target,$(firstword $(subst -, ,$(host))))
other_arch := $(if $(filter x86_64-%,$(host)),aarch64,x86_64)
other := $(call static_target,$(other_arch))
cross_gcc := $(other_arch)-linux-gnu-gcc
# $(call variable,TARGET): its name in the variables of cargo
variable = $(shell echo $(1) | tr a-z- A-Z_)
# without the last flag getrandom finds no system call in a static executable and opens /dev/urandom
static = CARGO_TARGET_$(call variable,$(1))_RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static --cfg getrandom_backend="linux_getrandom"'
# part of the version that `flannel` prints
export GIT_COMMIT := $(shell git rev-parse --short=8 HEAD 2>/dev/null || echo unknown)
bin := target/bin
# Go programs that tests run beside ours; KUBEBUILDER_ASSETS=folder names another kube-apiserver
test_peers := cnitool plugins flannel wireguard-go $(if $(KUBEBUILDER_ASSETS),,kube-apiserver)
image := target/image/flannel.tar
# programs are the same bytes from any folder
cargo_release := RUSTC_WRAPPER=$(CURDIR)/scripts/rustc-remap $(CARGO) build --release --locked --target
# $(call programs,TARGET,VARIABLES): static, since hosts and the image differ in their C library
define programs
$(2) $(call static,$(1)) $(cargo_release) $(1) -p cni-suite -p cnitool
$(2) $(call static,$(1)) $(cargo_release) $(1) -p flanneld
endef

.PHONY: all build image demo test test-ours test-cluster bench fuzz lint deny install uninstall clean need-build need-image need-demo need-test

all: build

need-build:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer (rustup.rs)"; exit 1; }
	@scripts/need cc:gcc:'links programs, compiles the TLS primitives' /usr/include/stdio.h:libc6-dev:'C headers and static libraries' \
	    protoc:protobuf-compiler:'compiles the API of etcd' /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev:'compiles the API of etcd'

need-image: need-build
	@scripts/need /usr/share/ca-certificates/mozilla:ca-certificates:'the certificates in the image' \
	    readelf:binutils:'checks that programs are static' git:git:'the revision in the image' \
	    $(if $(other),$(cross_gcc):gcc-$(subst _,-,$(other_arch))-linux-gnu:'links programs for $(other)')

need-demo: need-build
	@scripts/need ip:iproute2:'hosts, links, routes' nft:nftables:'prints the rules' ping:iputils-ping:'traffic between pods' \
	    unshare:util-linux:'namespaces' tcpdump:tcpdump:'decodes a packet of the overlay'

need-test: need-demo need-image
	@scripts/need /usr/lib/cni/bridge:containernetworking-plugins:'Go plugins as peers' iptables:iptables:'prints rules' \
	    conntrack:conntrack:'prints connections' strace:strace:'counts system calls, injects faults' \
	    containerd:containerd:'container runtime' runc:runc:'container runtime' podman:podman:'container runtime' \
	    busybox:busybox-static:'the image of the pods' curl:curl:'commands of the pages in docs' python3:python3-venv:'EC2 as a peer' \
	    qemu-system-x86_64:qemu-system-x86:'virtual machine' /usr/share/seabios/bios-256k.bin:seabios:'virtual machine' \
	    etcd:etcd-server:'subnet manager, behind the API server' etcdctl:etcd-client:'judges what is in etcd' \
	    kubectl:kubernetes-client:'judges what is in Kubernetes' \
	    cpio:cpio:'virtual machine' zstd:zstd:'virtual machine' modprobe:kmod:'virtual machine' \
	    /usr/lib/ipsec/charon:strongswan-charon:'IKE daemon of the backend ipsec' \
	    /usr/lib/ipsec/plugins/libstrongswan-vici.so:strongswan-swanctl:'configures charon, and prints what it has' \
	    /usr/lib/ipsec/plugins/libstrongswan-openssl.so:libstrongswan-standard-plugins:'algorithms of charon' \
	    wg:wireguard-tools:'prints WireGuard devices' ethtool:ethtool:'prints offloads' iperf3:iperf3:'TCP streams'

# by rename: tests of an earlier call may be executing the programs
build: need-build
	$(call programs,$(target))
	@mkdir -p $(bin)/.new
	@cp -f $(addprefix target/$(target)/release/,cni-suite cnitool flanneld) $(bin)/.new/
	@mv -f $(addprefix $(bin)/.new/,cni-suite cnitool flanneld) $(bin)/ && rmdir $(bin)/.new
	@ls -l $(bin) | awk 'NR > 1 { printf "  %-24s %6.2f MB\n", "$(bin)/" $$NF, $$5 / 1e6 }'

# arm64, or amd64 on arm64, is added where its Rust target is installed
image: need-image build
	$(if $(other),$(call programs,$(other),CARGO_TARGET_$(call variable,$(other))_LINKER=$(cross_gcc) CC_$(subst -,_,$(other))=$(cross_gcc)))
	@scripts/image $(image) $(IMAGE) $(target)=target/$(target)/release $(if $(other),$(other)=target/$(other)/release)

demo: need-demo build
	$(cargo_release) $(host) -p demo
	@BIN_DIR=$(CURDIR)/$(bin) KEEP=$(KEEP) target/$(host)/release/demo

# the scenarios wait for the Go programs
test: need-test
	@scripts/beside 'scripts/go-peer build $(test_peers); scripts/python-peer build moto' $(MAKE) --no-print-directory test-ours

test-ours: build
	@scripts/image target/image/test.tar $(IMAGE) $(target)=target/$(target)/release
	BIN_DIR=$(CURDIR)/$(bin) IMAGE_ARCHIVE=$(CURDIR)/target/image/test.tar scripts/test $(CARGO) test --workspace --locked --no-fail-fast
	$(CARGO) test -q --locked -p wireguard --features mock-clock clock

test-cluster: need-test image
	@scripts/go-peer build kubernetes containerd kube-apiserver flannel plugins
	$(cargo_release) $(host) -p test-cluster
	@BIN_DIR=$(CURDIR)/$(bin) IMAGE_ARCHIVE=$(CURDIR)/$(image) target/$(host)/release/test-cluster

bench: need-test build
	@scripts/go-peer build plugins flannel wireguard-go
	$(cargo_release) $(host) -p bench
	@BIN_DIR=$(CURDIR)/$(bin) BENCH_OUT=$(CURDIR)/target/bench target/$(host)/release/bench $(ONLY)

# arithmetic that overflows is a panic; scripts/rustc-coverage tells which inputs reach something new
fuzz: need-build
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-coverage $(CARGO) run --profile fuzz --locked -p fuzz -- $(SECONDS) $(ONLY)

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
	    UNIT_DIR=$(DESTDIR)$(UNIT_DIR) SYSCONF_DIR=$(DESTDIR)$(SYSCONF_DIR) PLUGINS="$(PLUGINS)" RUN_PREFIX=$(PREFIX) scripts/install $(bin)

uninstall:
	CNI_BIN_DIR=$(DESTDIR)$(CNI_BIN_DIR) CNI_CONF_DIR=$(DESTDIR)$(CNI_CONF_DIR) PREFIX=$(DESTDIR)$(PREFIX) \
	    UNIT_DIR=$(DESTDIR)$(UNIT_DIR) SYSCONF_DIR=$(DESTDIR)$(SYSCONF_DIR) PLUGINS="$(PLUGINS)" \
	    CNI_DATA_DIR=$(if $(DESTDIR),,/var/lib/cni) scripts/uninstall

clean:
	$(CARGO) clean
