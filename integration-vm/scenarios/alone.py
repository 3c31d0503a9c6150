"""QEMU driven bare, as its documentation (docs/devel/migration/CPR.rst) says, and what then becomes of the guest."""

import contextlib
import json
import time

import vmm

def update(engine, old, directory, binary, vfio, devices):
    """What becomes of it: the pause, or why it fails and whether the guest goes on."""
    mode, way = {"transfer": ("cpr-transfer", transfer), "exec": ("cpr-exec", execute)}[engine]
    monitor = old.qmp()
    if not knows(monitor, mode):
        return "has no such mode"
    old.report()
    return way(old, monitor, directory, binary, vfio, devices)


def knows(monitor, mode):
    """Whether its QAPI schema has this migration mode: a member of MigMode."""
    return any(mode in entry["values"] for entry in monitor("query-qmp-schema") if entry["meta-type"] == "enum")


def hand_over(monitor, name, directory, binary, vfio="", devices=("nvme",), options=(), return_path=False):
    """The new QEMU, its monitor (None if it ended before it had one), and how the migration ended."""
    main, cpr = directory / f"{name}-main", directory / f"{name}-cpr"
    new = vmm.Vmm(name, directory, binary, "-incoming", "defer",
                  "-incoming", json.dumps({"channel-type": "cpr", "addr": unix(cpr)}), *options, vfio=vfio, devices=devices)
    new.wait_for(cpr)
    monitor("migrate-set-parameters", mode="cpr-transfer")
    capabilities = [{"capability": "return-path", "state": return_path}]
    monitor("migrate-set-capabilities", capabilities=capabilities)
    monitor("migrate", channels=[channel("main", unix(main)), channel("cpr", unix(cpr))])
    there = None
    try:
        there = new.qmp()
        there("migrate-set-capabilities", capabilities=capabilities)
        there("migrate-incoming", channels=[channel("main", unix(main))])
        return new, there, monitor.migrated()
    except (vmm.Failed, OSError):
        return new, there, {"status": "failed", "error-desc": f"the new QEMU ended: {new.last_words()}"}


def transfer(old, monitor, directory, binary, vfio, devices):
    new, _, said = step(old, monitor, "new", directory, binary, vfio, devices)
    end(new)
    return said


def step(old, monitor, name, directory, binary, vfio, devices):
    """One update by transfer: the new QEMU, its monitor, and what became of it."""
    new, there, ended = hand_over(monitor, name, directory, binary, vfio, devices)
    try:
        if ended["status"] != "completed":
            return new, there, f"fails: {reason(ended, old)}; {fate(old)}"
        resumed = there.event("RESUME")
        stopped = monitor.event("STOP")
        end(old)
        new.report()
        return new, there, f"{resumed - stopped:.0f} ms"
    except BaseException:
        end(new)
        raise


def in_a_row(count, old, directory, binary, vfio, devices):
    """The pauses of so many updates, each of the QEMU that the one before began, in milliseconds."""
    monitor, pauses = old.qmp(), []
    try:
        old.report()
        for n in range(count):
            new, there, said = step(old, monitor, f"new{n}", directory, binary, vfio, devices)
            end(old)
            old, monitor = new, there
            vmm.require(said.endswith(" ms"), said)
            pauses.append(int(said.split()[0]))
        return pauses
    finally:
        end(old)


def execute(old, monitor, directory, _binary, _vfio, _devices):
    """In place, so all of it is as it was."""
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
