"""The virtual host: QEMU's command line for it, and the job that its init runs."""

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEVICES = {
    "edu": ("edu,dma_mask=0xffffffffffff", 0x10),
    "nvme": ("nvme,drive={id},serial={id}", 0x14),
    "e1000e": ("e1000e,netdev={id}", 0x18),
}
NVME_MIB = 256


class Fault(Exception):
    """The virtual host cannot be started."""


@dataclass(frozen=True)
class Shape:
    """What is to be started; everything that is not the same for every scenario."""
    kernel: str
    iommu: str
    devices: list[str]
    memory_mib: int
    append: str
    emulator: str


@dataclass(frozen=True)
class Device:
    kind: str
    name: str        # of its back end
    address: str     # on the virtual host's PCI bus
    option: str


def place(kinds):
    """Devices of one kind are neighbours, and at the same place in every scenario."""
    placed = []
    for kind in kinds:
        option, slot = DEVICES[kind]
        nth = sum(d.kind == kind for d in placed)
        name = f"{kind}{nth}"
        placed.append(Device(kind, name, f"0000:00:{slot + nth:02x}.0", f"{option.format(id=name)},addr={slot + nth:#x}"))
    return placed


def shares():
    """What a scenario finds in the virtual host at the same path as here, to be read only."""
    dotnet = shutil.which("dotnet")
    cache = Path(os.environ["CPRSHARP_HOST_ROOT"]).parent.parent
    return [REPOSITORY, cache, *([Path(dotnet).resolve().parent] if dotnet else [])]


def environment(shape):
    """For the job: the components' places, and which device is where."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("CPRSHARP_")}
    variables |= {"CPRSHARP_VIRTUAL_HOST": "1", "CPRSHARP_HOST_KERNEL": shape.kernel, "CPRSHARP_IOMMU": shape.iommu,
                  "CPRSHARP_RESULTS": "/run/job", "DOTNET_CLI_TELEMETRY_OPTOUT": "1", "DOTNET_NOLOGO": "1",
                  "DOTNET_TieredPGO": "0", "DOTNET_EnableDiagnostics": "0"}
    for kind in DEVICES:
        variables[f"CPRSHARP_{kind.upper()}"] = " ".join(d.address for d in place(shape.devices) if d.kind == kind)
    return variables


def job(shape, folder, command):
    """The script that the virtual host's init runs."""
    lines = ["set -e"]
    for i, path in enumerate(shares()):
        where = shlex.quote(str(path))
        lines += [f"mkdir -p {where}", f"mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose share{i} {where}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment(shape).items())]
    path = [str(REPOSITORY / "integration-vm/oracles"), *(str(p) for p in shares()[2:])]
    lines += [f"export PATH={shlex.quote(':'.join(path))}:$PATH", f"cd {shlex.quote(str(folder))}", f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"


def qemu(shape, results):
    """QEMU's command line. The scenario's output comes on standard output, the kernel's goes to console.log."""
    for kind in shape.devices:
        if kind not in DEVICES:
            raise Fault(f"no device is named '{kind}'; there are: {', '.join(DEVICES)}")
    scalable = shape.iommu == "scalable"
    append = (f"console=ttyS0 root=/dev/vda ro init=/usr/sbin/virtual-host ignore_loglevel panic=-1 oops=panic "
              f"intel_iommu={'on,sm_on' if scalable else 'on'} iommu=pt no_timer_check tsc=reliable kvm.tsc_tolerance_ppm=100000 kho=on liveupdate=on {shape.append}")
    options = [
        "-M", "q35,accel=tcg,kernel-irqchip=split", "-cpu", "max,svm=on,npt=on,la57=off", "-smp", "2", "-m", str(shape.memory_mib),
        "-nodefaults", "-display", "none", "-no-reboot", "-no-user-config", "-run-with", "exit-with-parent=on",
        "-kernel", shape.kernel, "-append", append.strip(),
        "-chardev", f"file,id=console,path={comma(results / 'console.log')}", "-serial", "chardev:console",
        "-chardev", "stdio,id=output,signal=off", "-serial", "chardev:output",
        # Before every device that is to be behind it.
        "-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48" + ",scalable-mode=on,fsts=on" * scalable,
        "-blockdev", f"driver=file,node-name=root,read-only=on,locking=off,filename={comma(os.environ['CPRSHARP_HOST_ROOT'])}",
        "-device", "virtio-blk-pci,drive=root",
        *fsdev("job", results / "share", "readonly=off"),
    ]
    for i, path in enumerate(shares()):
        options += fsdev(f"share{i}", path, "readonly=on")
    for device in place(shape.devices):
        if device.kind == "nvme":
            image = results / f"{device.name}.img"
            with open(image, "wb") as file:
                file.truncate(NVME_MIB << 20)
            options += ["-blockdev", f"driver=file,node-name={device.name},filename={comma(image)}"]
        elif device.kind == "e1000e":
            options += ["-netdev", f"hubport,id={device.name},hubid=0"]   # one wire
        options += ["-device", device.option]
    return [shape.emulator, *options]


def fsdev(tag, path, mode):
    return ["-fsdev", f"local,id={tag},path={comma(path)},security_model=none,multidevs=remap,{mode}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def comma(path):
    return str(path).replace(",", ",,")
