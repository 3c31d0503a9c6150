"""libvirt in the virtual host, and a domain of its under nested KVM; for scenarios."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import vmm

REPOSITORY = Path(__file__).resolve().parents[2]
QEMU = os.environ["CPRSHARP_QEMU_11_1"]
OWN_QEMU = "/usr/bin/qemu-system-x86_64"   # of libvirt's own release
GROUPS = Path("/sys/fs/cgroup")
IMAGES = "/var/lib/libvirt/images"


def eventually(what_is_wrong, seconds=60):
    """Asks until nothing is wrong any more; for what nobody announces."""
    deadline = time.monotonic() + seconds
    while wrong := what_is_wrong():
        vmm.require(time.monotonic() < deadline, wrong)
        time.sleep(0.2)


class Host:
    """A root file system with libvirtd, and cprsharp as it is installed."""

    def __init__(self, directory, starts_on):
        directory.chmod(0o755)
        installed = directory / "installed"
        vmm.require((REPOSITORY / "artifacts/cprsharp").exists(), "artifacts/cprsharp is not there: `make publish` builds it")
        vmm.oracle(os.environ["CPRSHARP_INSTALL"], installed / "usr", installed / "etc")
        self.directory = directory
        self.process = subprocess.Popen([REPOSITORY / "integration-vm/libvirt/in-virtual-host", os.environ["CPRSHARP_LIBVIRT_ROOT"], installed],
                                        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.root = Path(f"/proc/{self.process.pid}/root")
        (directory / "state").symlink_to(self.root / "run/cprsharp")   # where logs are looked for when it fails
        self.await_libvirtd()
        self.write("/etc/cprsharp/cprsharp.json", json.dumps({"Libvirt": {"Qemu": starts_on}, "Update": {"PrepareDeadlineSeconds": 120}}))

    def write(self, path, text):
        path = self.root / path[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(self, *command):
        return ["nsenter", "-t", str(self.process.pid), "-m", "-r", "-w", "env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8",
                "NO_COLOR=1", "DOTNET_EnableDiagnostics=0", *map(str, command)]

    def attempt(self, *command):
        return subprocess.run(self.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240)

    def run(self, *command, expect=0):
        """What it prints; shown as an operator's session."""
        print(f"$ {' '.join(map(str, command))}", flush=True)
        done = self.attempt(*command)
        # virsh looks for polkit, which is not there, and is let in without.
        errors = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("Authorization not available"))
        print((done.stdout + errors).rstrip(), flush=True)
        vmm.require(done.returncode == expect, f"{command[0]} {command[1]} ended with {done.returncode}, expected {expect}")
        return done.stdout

    def await_libvirtd(self):
        def wrong():
            vmm.require(self.process.poll() is None, "the host with libvirt has ended")
            done = self.attempt("virsh", "-q", "list")
            return done.returncode and f"libvirtd does not come up: {done.stderr.strip()}"
        eventually(wrong)

    def restart_libvirtd(self):
        self.run("sh", "-c", "kill $(cat /run/libvirtd.pid); while [ -e /run/libvirtd.pid ]; do sleep 0.1; done; libvirtd -d")
        self.await_libvirtd()


class Events:
    """All that libvirt tells its clients of a domain meanwhile, which has to be nothing. Changes its metadata before and after, to see that it would be told."""

    def __init__(self, domain):
        self.domain = domain
        self.file = domain.directory / "events"

    def __enter__(self):
        with open(self.file, "wb") as file:
            self.virsh = subprocess.Popen(self.domain.host.command("stdbuf", "-oL", "virsh", "event", "--all", "--loop"), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        eventually(lambda: not self.change() and not self.lines() and "virsh event tells nothing")
        self.known = len(self.proved())
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                told = self.proved()[self.known:]
                print("virsh event --all:", *told, sep="\n", flush=True)
                vmm.require(len(told) == 1 and "metadata-change" in told[0], "libvirt told of more than of the change that proves it tells")
        finally:
            self.virsh.kill()
            self.virsh.wait()

    def lines(self):
        return [line for line in self.file.read_text().splitlines() if f"'{self.domain.name}'" in line]

    def change(self):
        """What the guest does not notice; `suspend` and `resume` turn its clock back now and then (docs/virtual-host.md)."""
        done = self.domain.host.attempt("virsh", "-q", "metadata", self.domain.name, "urn:cprsharp:event", "--key", "cprsharp", "--set", "<event/>", "--live")
        vmm.require(done.returncode == 0, done.stderr)

    def proved(self):
        """The lines up to that of a change of now."""
        before = len(self.lines())
        self.change()
        eventually(lambda: len(self.lines()) == before and "virsh event tells nothing more")
        return self.lines()


class Domain(vmm.Vmm):
    """Its emulator is cprsharp; two vCPUs, an I/O thread, a disk that the workload writes to, limits of each kind."""

    has_disk = True

    def __init__(self, host, name, devices=""):
        self.host, self.name, self.directory, self.devices = host, name, host.directory, devices
        self.serial = self.directory / f"{name}.serial"
        for image, file in ("kernel", os.environ["CPRSHARP_HOST_KERNEL"]), ("initrd", os.environ["CPRSHARP_GUEST_INITRD"]):
            shutil.copyfile(file, host.root / IMAGES[1:] / image)
        self.disk = host.root / IMAGES[1:] / f"{name}.raw"
        with open(self.disk, "wb") as disk:
            disk.truncate(16 << 20)
        host.write(f"/root/{name}.xml", self.xml())
        host.run("virsh", "-q", "define", f"/root/{name}.xml")

    def xml(self):
        append = os.environ["CPRSHARP_GUEST_APPEND"] + " no_timer_check cprsharp.mem=4 cprsharp.duty=1 cprsharp.tick=100"
        return f"""
            <domain type='kvm'>
              <name>{self.name}</name>
              <memory unit='MiB'>256</memory>
              <vcpu>2</vcpu>
              <iothreads>1</iothreads>
              <memtune><hard_limit unit='MiB'>1536</hard_limit></memtune>
              <cputune>
                <shares>300</shares>
                <vcpupin vcpu='0' cpuset='0'/>
                <vcpupin vcpu='1' cpuset='1'/>
                <emulatorpin cpuset='0-1'/>
                <iothreadpin iothread='1' cpuset='1'/>
                <period>100000</period>
                <quota>90000</quota>
              </cputune>
              <os>
                <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
                <kernel>{IMAGES}/kernel</kernel>
                <initrd>{IMAGES}/initrd</initrd>
                <cmdline>{append}</cmdline>
              </os>
              <features><acpi/></features>
              <cpu mode='host-passthrough'/>
              <devices>
                <emulator>/usr/bin/cprsharp-qemu-system-x86_64</emulator>
                <controller type='usb' model='none'/>
                <disk type='file' device='disk'>
                  <driver name='qemu' type='raw' queue_size='1024' iothread='1'/>
                  <source file='{IMAGES}/{self.name}.raw'/>
                  <target dev='vda' bus='virtio'/>
                </disk>
                <serial type='unix'><source mode='bind' path='{self.serial}'/><log file='{self.directory}/{self.name}.log'/></serial>
                <memballoon model='none'/>
                {self.devices}
              </devices>
            </domain>
            """

    def start(self):
        self.host.run("virsh", "start", self.name)

    def wait_for(self, path):
        vmm.require(path.exists(), f"{path} is not there: {self.last_words()}", vmm.Lost)

    def last_words(self):
        with contextlib.suppress(OSError):
            return " | ".join((self.host.root / f"var/log/libvirt/qemu/{self.name}.log").read_text(errors="replace").splitlines()[-5:])

    def record(self):
        return json.loads((self.host.root / f"run/cprsharp/{self.name}/vm.json").read_text())

    def supervisor(self):
        """The process that libvirt takes for the domain's QEMU."""
        return int((self.host.root / f"run/libvirt/qemu/{self.name}.pid").read_text())

    def threads(self):
        """Those of the QEMU that has the guest that libvirt places: their number, cgroup and CPUs."""
        process = Path("/proc", str(self.record()["pid"]))
        found = {}
        for task in process.glob("task/*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):   # it has ended, as QEMU's workers do
                name = "main" if task.name == process.name else (task / "comm").read_text().strip()
                if re.match(r"main$|CPU \d+/|IO ", name):
                    cpus = re.search(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())[1]
                    found[name] = int(task.name), (task / "cgroup").read_text().strip().removeprefix("0::"), cpus
        return found

    def limits(self):
        """What libvirt has set in the domain's cgroups."""
        files = [file for kind in ("cpu.max", "cpu.weight", "cpuset.cpus", "memory.max", "pids.max") for file in GROUPS.glob(f"machine/*-{self.name}.*/**/{kind}")]
        return {str(file.relative_to(GROUPS)): file.read_text().strip() for file in sorted(files)}

    def update(self, binary, *options):
        """Updates it by name; it has to go on, and threads and groups have to be what they were."""
        pid, threads, limits = self.supervisor(), self.threads(), self.limits()
        self.host.run("cprsharp", "update", self.name, "--to", binary, *options)
        now = self.threads()
        vmm.require(self.record()["binary"] == str(binary), f"the guest does not run on {binary}: {self.record()}")
        vmm.require(self.supervisor() == pid, "libvirt knows another process")
        vmm.require(not {t[0] for t in threads.values()} & {t[0] for t in now.values()}, f"threads stayed: {threads}, {now}")
        vmm.require({n: t[1:] for n, t in threads.items()} == {n: t[1:] for n, t in now.items()}, f"threads were {threads}, and are {now}")
        vmm.require(self.limits() == limits, f"limits were {limits}, and are {self.limits()}")
        vmm.require(self.host.attempt("virsh", "-q", "domstate", self.name).stdout.strip() == "running", "the domain does not run")
        self.report()

    def power_off(self):
        """And looks at what the guest wrote."""
        last = int(self.ask("sync", r"synced disk_seq=(\d+)")[1])
        with contextlib.suppress(vmm.Failed):   # the port closes with QEMU
            self.ask("poweroff", "poweroff", 10)
        eventually(lambda: self.host.attempt("virsh", "-q", "domstate", self.name).stdout.strip() != "shut off" and "the domain does not end with its guest")
        vmm.verify_image(self.disk, last)
