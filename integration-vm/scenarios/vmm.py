"""A guest of the virtual host's (L2), under QEMU with KVM and the NVMe disk passed through; for scenarios."""

import contextlib
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NVME = os.environ["CPRSHARP_NVME"]
NETWORK = (os.environ["CPRSHARP_E1000E"].split() or [""])[0]   # the cards after it are the virtual host's own
HOSTS = {"nvme": NVME, "net": NETWORK}
RESULTS = Path(os.environ["CPRSHARP_RESULTS"])


class Failed(Exception):
    """What the scenario is to prove is not so."""


class Lost(Failed):
    """The guest is dead or deaf. Here that may have another cause than what the scenario does: docs/virtual-host.md, "Emulated twice"."""

    EXIT_STATUS = 75   # EX_TEMPFAIL, see integration-vm/scenario


def require(true, otherwise, failure=Failed):
    if not true:
        raise failure(otherwise)
    return true


def oracle(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def translated(address):
    """The addresses of all pages that the IOMMU translates for a device."""
    return {int(line.split()[0], 16) << 12 for line in oracle("page-tables", address).splitlines() if line.startswith("0x")}


class Qmp:
    """QEMU's monitor: commands are answered in order, events are kept."""

    def __init__(self, path, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r")
        self.events = []
        self.read()   # the greeting
        self.execute({"execute": "qmp_capabilities"})

    def read(self):
        line = self.lines.readline()
        require(line, "QEMU closed its monitor")
        return json.loads(line)

    def __call__(self, command, **arguments):
        return self.execute({"execute": command, "arguments": arguments})

    def execute(self, command):
        self.socket.sendall(json.dumps(command).encode() + b"\n")
        while True:
            answer = self.read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Failed(f"{command['execute']}: {answer['error']['desc']}")
            elif "return" in answer:   # and no second greeting, as a QEMU sends that is still starting
                return answer["return"]

    def read_event(self):
        answer = self.read()
        if "event" in answer:
            self.events.append(answer)

    def event(self, name):
        """When this happened, in milliseconds; waits for it if it has not yet."""
        while not (found := [e["timestamp"] for e in self.events if e["event"] == name]):
            self.read_event()
        return found[-1]["seconds"] * 1000 + found[-1]["microseconds"] / 1000

    def migrated(self):
        """Waits for the end of a migration: its status and reason."""
        while (state := self("query-migrate")).get("status") not in ("completed", "failed", "cancelled"):
            time.sleep(0.05)
        return state


class Vmm:
    """One QEMU. The guest's workload talks on its serial port (integration-vm/guest/workload)."""

    def __init__(self, name, directory, binary, *options, vfio="", devices=("nvme",)):
        self.name, self.directory = name, directory
        self.log = RESULTS / f"{name}.log"
        self.serial, self.monitor = directory / f"{name}.serial", directory / f"{name}.qmp"
        # A serial port costs an exit for each byte, which under nested KVM keeps the guest from anything else.
        append = os.environ["CPRSHARP_GUEST_APPEND"].replace("ttyS0", "hvc0")
        append += " no_timer_check cprsharp.mem=4 cprsharp.duty=1 cprsharp.tick=100"
        self.has_disk = "nvme" in devices
        if self.has_disk:
            append += " cprsharp.disk=/dev/nvme0n1"
        passed = [f"vfio-pci,id={device},host={HOSTS[device]},iommufd=iommufd0{vfio}" for device in devices]
        self.command = [
            binary, "-M", "pc-q35-10.0,accel=kvm,memory-backend=ram,aux-ram-share=on",
            "-cpu", "host", "-smp", "1", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
            "-object", "memory-backend-memfd,id=ram,size=256M,share=on",
            "-kernel", os.environ["CPRSHARP_HOST_KERNEL"], "-initrd", os.environ["CPRSHARP_GUEST_INITRD"], "-append", append,
            *(["-object", "iommufd,id=iommufd0"] if passed else []), *(option for device in passed for option in ("-device", device)),
            "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-chardev", f"socket,id=serial,path={self.serial},server=on,wait=off,logfile={RESULTS / name}.serial",
            "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=serial", *options]
        self.start()

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def wait_for(self, path):
        deadline = time.monotonic() + 60
        while not path.exists():
            require(self.process.poll() is None, f"{self.name} ended with status {self.process.returncode}: {self.last_words()}", Lost)
            require(time.monotonic() < deadline, f"{self.name} does not open {path.name}")
            time.sleep(0.02)

    def qmp(self):
        self.wait_for(self.monitor)
        return Qmp(self.monitor)

    def last_words(self):
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])

    def ask(self, command, answer, seconds=120):
        """Sends a command to the workload until it answers, since a guest that boots is deaf."""
        self.wait_for(self.serial)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.serial))
                return self.converse(connection, command, re.compile(rf"^CPRSHARP {answer}.*$", re.MULTILINE), seconds)
        except OSError as e:
            raise Lost(f"the guest's serial port: {e}: {self.last_words()}") from e

    def converse(self, connection, command, answer, seconds):
        end, data = time.monotonic() + seconds, b""
        while time.monotonic() < end:
            connection.sendall(f"{command}\n".encode())
            again = time.monotonic() + 3
            while (left := again - time.monotonic()) > 0 and select.select([connection], [], [], left)[0]:
                more = connection.recv(65536)
                if not more:
                    raise Lost(f"{self.name} closed the guest's serial port: {self.last_words()}")   # which are read from files
                data += more
                whole = data[:data.rfind(b"\n") + 1]   # a number that has not come to its end is another number
                if found := answer.search(whole.decode(errors="replace")):
                    return found
        raise Lost(f"the guest does not answer '{command}'; it said: {data[-500:].decode(errors='replace')}")

    def report(self):
        """The workload's counters, after it was seen to tick, to write to its disk, and to find no error."""
        first = counters(self.ask("report", r"t=\d.* clock_errors=\d+\r?$"))
        for _ in range(60):
            time.sleep(1)
            last = counters(self.ask("report", r"t=\d.* clock_errors=\d+\r?$", 30))
            if last["ticks"] > first["ticks"] and (not self.has_disk or last["disk_seq"] > first["disk_seq"]):
                break
        else:
            raise Lost(f"the guest stands still: {last}")
        for errors in ("mem_errors", "disk_errors", "clock_errors"):
            require(last[errors] == 0, f"the guest has found {errors}: {last}")
        print(f"guest: {last}", flush=True)
        return last

    def power_off(self):
        """Returns the number of the last block that the guest wrote."""
        last = int(self.ask("sync", r"synced disk_seq=(\d+)")[1])
        with contextlib.suppress(Failed):   # the port closes with QEMU
            self.ask("poweroff", "poweroff", 10)
        self.process.wait(60)
        return last

    def kill(self):
        self.process.kill()
        self.process.wait()


class SupervisedVmm(Vmm):
    """The same under cprsharp."""

    run_options = tuple(os.environ.get("CPRSHARP_TEST_RUN_OPTIONS", "").split())
    PROGRAM = Path(__file__).resolve().parents[2] / "artifacts/cprsharp"

    def start(self):
        os.environ["CPRSHARP_STATE_DIR"] = str(self.directory / "state")
        os.environ["CPRSHARP__Update__PrepareDeadlineSeconds"] = "120"   # emulated twice over, QEMU takes long to start
        require(self.PROGRAM.exists(), f"{self.PROGRAM} is not there: `make publish` builds it")
        self.begin()

    def begin(self):
        self.cprsharp("run", "--name", self.name, "--detach", *self.run_options, "--", *self.command)

    def wait_for(self, path):
        require(path.exists(), f"{path} is not there: {self.last_words()}", Lost)

    def last_words(self):
        logs = sorted((self.directory / "state").glob("*/*.log"))
        return "; ".join(f"{log.name}: " + " | ".join(log.read_text(errors="replace").splitlines()[-5:]) for log in logs)

    def cprsharp(self, *arguments, expect=0, environment=None):
        """One cprsharp command: what it prints with --json, or its text. With expect=None it may end as it likes."""
        json_output = arguments[0] not in ("run", "adopt")
        done = self.spawn([self.PROGRAM, *arguments, *["--json"] * json_output], stdin=subprocess.DEVNULL, text=True, timeout=240,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
        if expect not in (None, done.returncode):
            print(done.stdout, done.stderr, self.last_words(), sep="\n", flush=True)
            raise (Failed if self.lives() else Lost)(f"cprsharp {arguments[0]} ended with {done.returncode}, expected {expect}: {said(done)}")
        return json.loads(done.stdout) if json_output else done.stdout

    def spawn(self, command, **options):
        return subprocess.run(command, **options)

    def lives(self):
        try:
            return bool(self.ask("report", r"t=\d.* clock_errors=\d+\r?$", 20))
        except Lost:
            return False

    def end(self):
        """Kills whatever is left of it, the supervisor first, so that nobody takes over."""
        for kind in "cprsharp", "qemu-system-x86_64":
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if Path(os.readlink(process / "exe")).name == kind:
                        os.kill(int(process.name), 9)

    def update(self, binary, *options, expect=0, fault=None):
        report = self.cprsharp("update", self.name, "--to", binary, *options, expect=expect, environment={"CPRSHARP_FAULT": fault} if fault else None)
        told(report)
        return report

    def update_without_supervisor(self, binary, fault, *options):
        """An update whose supervisor kills itself there: what the supervisor that the guardian becomes makes of it; None if it had not begun."""
        state, supervisor, known = self.directory / "state" / self.name, self.record("supervisorPid"), len(self.history())
        # A program takes longer to start here than the client waits for a guardian, so its exit status says little.
        subprocess.run([self.PROGRAM, "update", self.name, "--to", binary, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=240, env={**os.environ, "CPRSHARP_FAULT": fault})
        deadline = time.monotonic() + 120
        while self.record("supervisorPid") == supervisor or (state / "update.json").exists():
            require(time.monotonic() < deadline, f"nobody takes the VM over: {self.last_words()}", Failed if self.lives() else Lost)
            time.sleep(0.1)
        if len(self.history()) == known:
            return None
        told(report := self.history()[known])
        return report

    def history(self):
        file = self.directory / "state" / self.name / "history.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def journal(self):
        """What the update that is under way has written down."""
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.directory / "state" / self.name / "update.json").read_text())
        return {}

    def record(self, key):
        """From the VM's record: cheaper than to ask cprsharp, which takes seconds to start here."""
        return json.loads((self.directory / "state" / self.name / "vm.json").read_text())[key]

    def runs_once(self):
        """The VMM that runs the guest, after it was seen that no other holds the device."""
        pid = self.record("pid")
        deadline = time.monotonic() + 10   # a process that was killed takes a moment to let go
        while (pids := holders_of_vfio()) != [pid]:
            require(time.monotonic() < deadline, f"VMMs {pids} are there, and the guest is said to run on {pid}")
            time.sleep(0.1)
        return pid

    def power_off(self):
        supervisor = self.record("supervisorPid")
        last = int(self.ask("sync", r"synced disk_seq=(\d+)")[1])
        with contextlib.suppress(Failed):
            self.ask("poweroff", "poweroff", 10)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{supervisor}/exe").exists():
            require(time.monotonic() < deadline, "the supervisor does not end with its guest")
            time.sleep(0.1)
        return last


class Concurrent:
    """Something that takes a while, beside the rest."""

    def __init__(self, what):
        self.outcome = self.error = None
        self.thread = threading.Thread(target=self.do, args=(what,), daemon=True)
        self.thread.start()

    def do(self, what):
        try:
            self.outcome = what()
        except Exception as e:   # told to who waits
            self.error = e

    def runs(self):
        return self.thread.is_alive()

    def result(self):
        self.thread.join()
        if self.error:
            raise self.error
        return self.outcome


def told(report):
    """Prints an update's report."""
    phases = ", ".join(f"{phase['name']} {phase['durationMs']:.0f}" for phase in report["phases"])
    print(f"update: {report['outcome']} with {report['engine']}, pause {report['pauseMs']} ms, total {report['totalMs']:.0f} ms ({phases})"
          + (f"; {report['error']['message']}" if report["error"] else ""), flush=True)
    for finding in report["findings"]:
        if finding["severity"] != "pass":
            print("{severity} {id} {object}: {evidence}".format(**finding), flush=True)


def has_vfio(process):
    """Whether a process has a passed-through device open: its descriptors come and go while they are looked at, and so may it."""
    with contextlib.suppress(FileNotFoundError):   # it has ended
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(fd).startswith("/dev/vfio/devices/"):
                    return True
    return False


def holders_of_vfio():
    """The QEMUs that have a passed-through device open."""
    def is_qemu(process):
        with contextlib.suppress(OSError):   # it has ended
            return (process / "cmdline").read_bytes().split(b"\0")[0].endswith(b"qemu-system-x86_64")
        return False
    return sorted(int(process.name) for process in Path("/proc").glob("[0-9]*") if is_qemu(process) and has_vfio(process))


def said(done):
    """Why a command of cprsharp's failed, in one line: logs are cut, and the last line is what is left of them."""
    try:
        report = json.loads(done.stdout)
        return f"{report.get('outcome', '')} {json.dumps(report['error'])} after {[phase['name'] for phase in report.get('phases', [])]}"
    except (ValueError, KeyError):
        return (done.stderr or done.stdout).strip()[-1000:]


def unharmed(tables, device=NVME):
    """No DMA went astray, and the device sees the same addresses, the BARs for its peers included."""
    require(oracle("dmar-faults") == "0", "DMA faulted")
    now = oracle("page-tables", device)
    require(len(now.splitlines()) == len(tables.splitlines()), f"{len(tables.splitlines())} lines of page tables before, {len(now.splitlines())} now")


def unharmed_to_the_end(last):
    """After the guest has powered off, with its last block."""
    verify_disk(last)
    require(oracle("dmar-faults") == "0", "DMA faulted")
    require(oracle("pins") == "0", "pages are pinned that nobody has")


def counters(found):
    return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", found[0])}


def verify_disk(last):
    """Gives the disk back to the virtual host and looks at what the guest wrote."""
    oracle("vfio-bind", NVME, "nvme")
    device = f"/dev/{next(Path('/sys/bus/pci/devices', NVME).glob('nvme/nvme*/nvme*n1')).name}"
    with tempfile.NamedTemporaryFile() as copy:
        oracle("dd", f"if={device}", f"of={copy.name}", "bs=1M", "count=16", "status=none")
        verify_image(copy.name, last)


def verify_image(image, last):
    verdict = subprocess.run([os.environ["CPRSHARP_VERIFY_DISK"], image], stdout=subprocess.PIPE, text=True)
    print(f"verify-disk: {verdict.stdout.strip()}", flush=True)
    require(verdict.returncode == 0, "the disk is not whole")
    require(f" highest_seq={last} " in verdict.stdout, f"the guest's last block was {last}")


def run(scenario):
    """Runs a scenario's body with a directory for sockets and ends this process with its verdict."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            scenario(Path(directory))
        except (Failed, OSError, subprocess.SubprocessError) as e:
            for log in [*Path(directory).glob("*.log"), *Path(directory).glob("state/*/*.log")]:
                shutil.copy(log, RESULTS / "-".join(log.relative_to(directory).parts[-2:]))
            for log in sorted([*RESULTS.glob("*.log"), *RESULTS.glob("*.serial")]):
                print(f"-- {log.name}", *log.read_text(errors="replace").splitlines()[-20:], sep="\n")
            print(f"FAILED: {e}", file=sys.stderr, flush=True)
            sys.exit(Lost.EXIT_STATUS if isinstance(e, Lost) else 1)
