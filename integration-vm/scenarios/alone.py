"""QEMU driven bare, as its documentation (docs/devel/migration/CPR.rst) says, and what then becomes of the guest."""

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

import vmm

IS_ENGINE_OF = {"transfer": "cpr-transfer", "exec": "cpr-exec"}


def modes(binary):
    """The migration modes that a QEMU knows: its QAPI schema has them as the members of MigMode."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "qmp")
        process = subprocess.Popen([binary, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"])
        try:
            deadline = time.monotonic() + 60
            while not path.exists():
                vmm.require(time.monotonic() < deadline, f"{binary} does not start")
                time.sleep(0.05)
            schema = vmm.Qmp(path)("query-qmp-schema")
        finally:
            process.kill()
            process.wait()
    return next((enum["values"] for enum in schema if enum["meta-type"] == "enum" and "cpr-transfer" in enum["values"]), [])


def transfer(old, directory, binary, vfio, devices):
    monitor = old.qmp()
    old.report()
    main, cpr = directory / "main", directory / "cpr"
    new = vmm.Vmm("new", directory, binary, "-incoming", "defer",
                  "-incoming", json.dumps({"channel-type": "cpr", "addr": unix(cpr)}), vfio=vfio, devices=devices)
    try:
        new.wait_for(cpr)
        monitor("migrate-set-parameters", mode="cpr-transfer")
        monitor("migrate", channels=[channel("main", unix(main)), channel("cpr", unix(cpr))])
        try:
            there = new.qmp()
            there("migrate-incoming", channels=[channel("main", unix(main))])
            ended = monitor.migrated()
        except (vmm.Failed, OSError):
            ended = {"status": "failed", "error-desc": f"the new QEMU ended: {new.last_words().rsplit(': ', 2)[-2]}: {new.last_words().rsplit(': ', 2)[-1]}"}
        if ended["status"] != "completed":
            return f"fails: {reason(ended, old)}; {fate(old)}"
        resumed = there.event("RESUME")
        stopped = monitor.event("STOP")
        end(old)
        new.report()
        return f"{resumed - stopped:.0f} ms"
    finally:
        end(new)


def execute(old, directory, binary, vfio, devices):
    monitor = old.qmp()
    old.report()
    state = directory / "vm.state"
    monitor("migrate-set-parameters", **{"mode": "cpr-exec", "cpr-exec-command": [*old.command, "-incoming", "defer"]})
    monitor("migrate", channels=[channel("main", {"transport": "file", "filename": str(state), "offset": 0})])
    try:
        ended = monitor.migrated()
        if ended["status"] == "failed":
            return f"fails: {reason(ended, old)}; {fate(old)}"
        while True:
            monitor.read_event()   # until the program is gone, and its monitor with it
    except (vmm.Failed, OSError):
        pass
    stopped = monitor.event("STOP")
    there = connect_again(old)
    try:
        there("migrate-incoming", channels=[channel("main", {"transport": "file", "filename": str(state), "offset": 0})])
        ended = there.migrated()
        there("cont")
    except (vmm.Failed, OSError) as e:
        ended = {"status": "failed", "error-desc": str(e)}
    if ended["status"] != "completed":
        return f"fails: {reason(ended, old)}; {fate(old)}"
    resumed = there.event("RESUME")
    old.report()
    return f"{resumed - stopped:.0f} ms"


ENGINES = {"transfer": transfer, "exec": execute}


def connect_again(process):
    deadline = time.monotonic() + 60
    while True:
        try:
            return vmm.Qmp(process.monitor)
        except (OSError, vmm.Failed) as e:
            vmm.require(process.process.poll() is None, f"the new program ended: {process.last_words()}", vmm.Lost)
            vmm.require(time.monotonic() < deadline, f"the new program does not answer: {e}", vmm.Lost)
            time.sleep(0.05)


def reason(ended, old):
    said = [line.split(": ", 1)[-1] for line in old.log.read_text(errors="replace").splitlines() if "do not support" in line]
    return f"{ended.get('error-desc') or ended['status']}" + (f" ({said[-1]})" if said else "")


def fate(process):
    """What became of the guest on the old VMM."""
    with contextlib.suppress(vmm.Failed, OSError):
        process.report()
        return "the guest goes on"
    return "**the guest is lost**"


def end(process):
    if process.process.poll() is None:
        process.kill()


def unix(path):
    return {"transport": "socket", "type": "unix", "path": str(path)}


def channel(kind, address):
    return {"channel-type": kind, "addr": address}
