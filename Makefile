# CprSharp: everything there is to run. Scripts are in .ci/ and integration-vm/.
.DEFAULT_GOAL := help
.PHONY: help deps components build format test scenarios scenario demo bench publish install clean

CONFIGURATION ?= Release
PREFIX ?= /usr/local
DESTDIR ?=
export CONFIGURATION DOTNET_CLI_TELEMETRY_OPTOUT = 1
export DOTNET_NOLOGO = 1

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

deps: ## what building and testing needs: missing Debian packages (as root), the .NET SDK
	@.ci/deps

components: deps ## QEMU 7.2, 10.0, 11.1, a guest, a virtual host with an IOMMU, for everything that runs real VMs
	@integration-vm/components

build: ## all assemblies
	@dotnet build -c $(CONFIGURATION) --nologo -v quiet

format: ## fails where a source is not formatted
	@dotnet format --verify-no-changes

test: deps build publish ## every test; ONLY=NAME for one assembly. The last line is the sum
	@.ci/test $(ONLY)

scenarios: components build ## all scenarios in the virtual host; 'integration-vm/scenario --list' says what they prove
	@integration-vm/scenario --all

scenario: components build ## one scenario in the virtual host: NAME=...
	@integration-vm/scenario $(NAME)

soak: components build ## random faults for MINUTES=15 (SEED=N replays), every fault with both engines, streams and networks over UPDATES=100 updates
	@MINUTES=$(or $(MINUTES),15) $(if $(SEED),SEED=$(SEED)) integration-vm/with-components dotnet test tests/System.Tests -c $(CONFIGURATION) --no-build --nologo \
	    --logger 'console;verbosity=detailed' --filter 'FullyQualifiedName~SoakTests|FullyQualifiedName~DiskTests' -- xUnit.Explicit=on
	@CPRSHARP_TEST_WALK=whole CPRSHARP_TEST_UPDATES=$(or $(UPDATES),100) integration-vm/with-components dotnet test tests/System.Tests -c $(CONFIGURATION) --no-build --nologo \
	    --filter 'FullyQualifiedName~FaultWalk|FullyQualifiedName~ConsoleTests|FullyQualifiedName~NetworkTests'

demo: deps publish ## a live update of a real VM, step by step
	@integration-vm/components qemu-10.0 qemu-11.1 guest
	@integration-vm/with-components integration-vm/demo

bench: deps publish ## measures CprSharp against QEMU driven bare, libvirt's domains against 'cprsharp run', iommufd against C; ROUNDS=N
	@integration-vm/components qemu-11.1 guest libvirt headers host kernel-7.3
	@integration-vm/with-components dotnet run -c $(CONFIGURATION) --project tests/Bench -- $(BENCH)

publish: ## artifacts/cprsharp: one file, needs no .NET
	@.ci/publish

install: ## artifacts/cprsharp and its documentation to DESTDIR/PREFIX, the hook for libvirt to DESTDIR/etc
	@.ci/install "$(DESTDIR)$(PREFIX)" "$(DESTDIR)/etc"

clean: ## what was built here; the components stay ('integration-vm/components clean')
	@dotnet clean -c $(CONFIGURATION) --nologo -v quiet
	@rm -rf artifacts TestResults
