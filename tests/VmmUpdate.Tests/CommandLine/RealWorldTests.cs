using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

/// <summary>Command lines as the tools that people use write them.</summary>
public sealed class RealWorldTests
{
    private const string LibvirtLine = """
        -name guest=web1,debug-threads=on -S
        -object {"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-1-web1/master-key.aes"}
        -blockdev {"driver":"file","filename":"/usr/share/OVMF/OVMF_CODE_4M.fd","node-name":"libvirt-pflash0-storage","auto-read-only":true,"discard":"unmap"}
        -blockdev {"node-name":"libvirt-pflash0-format","read-only":true,"driver":"raw","file":"libvirt-pflash0-storage"}
        -machine pc-q35-10.0,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram,pflash0=libvirt-pflash0-format,hpet=off,acpi=on
        -accel kvm -cpu host,migratable=on -m size=4194304k
        -object {"qom-type":"memory-backend-memfd","id":"pc.ram","x-use-canonical-path-for-ramblock-id":false,"share":true,"size":4294967296}
        -overcommit mem-lock=off -smp 4,sockets=4,cores=1,threads=1 -uuid 8c5b6d3a-7b3a-4f0e-9c57-0f6c1a2b3c4d
        -no-user-config -nodefaults
        -chardev socket,id=charmonitor,fd=29,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control
        -rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-shutdown -boot strict=on
        -device {"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x2"}
        -device {"driver":"virtio-serial-pci","id":"virtio-serial0","bus":"pci.1","addr":"0x0"}
        -blockdev {"driver":"file","filename":"/var/lib/libvirt/images/web1.qcow2","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap"}
        -blockdev {"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null}
        -device {"driver":"virtio-blk-pci","bus":"pci.1","addr":"0x0","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1}
        -netdev {"type":"tap","fd":"30","vhost":false,"id":"hostnet0"}
        -device {"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:01:02:03","bus":"pci.1","addr":"0x0"}
        -add-fd set=0,fd=31,opaque=serial0-log -chardev pty,id=charserial0,logfile=/dev/fdset/0,logappend=on
        -device {"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}
        -chardev socket,id=charchannel0,fd=28,server=on,wait=off
        -device {"driver":"virtserialport","bus":"virtio-serial0.0","nr":1,"chardev":"charchannel0","id":"channel0","name":"org.qemu.guest_agent.0"}
        -vnc 127.0.0.1:0,audiodev=audio1 -audiodev {"id":"audio1","driver":"none"}
        -device {"driver":"VGA","id":"video0","vgamem_mb":16,"bus":"pcie.0","addr":"0x1"}
        -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on
        """;

    [Fact]
    public void Libvirt()
    {
        VmSpec spec = Translate(LibvirtLine.Replace('\n', ' '));
        Assert.Equal("pc-q35-10.0", spec.MachineType);
        Assert.Equal([new ClientSocket("monitor", new DescriptorAddress(29))], spec.ClientSockets);
        Assert.Equal([28, 31], spec.InheritedDescriptors);
        Assert.Equal(
            [
                new GuestRamDescriptor(200, "pc.ram", 4L << 30), new ConsoleDescriptor(201, "charserial0", new TerminalAddress(null)),
                new TapDescriptor(30, 202, "hostnet0", new TapInherited()),
            ],
            spec.Descriptors);
        string target = Line(spec.RenderTarget());
        Assert.StartsWith("-name guest=web1,debug-threads=on -object", target, StringComparison.Ordinal);
        Assert.Contains("""-object {"qom-type":"memory-backend-file","id":"pc.ram","x-use-canonical-path-for-ramblock-id":false,"share":true,"size":4294967296,"mem-path":"/proc/self/fd/200"}""", target, StringComparison.Ordinal);
        Assert.Contains("-chardev socket,id=charchannel0,fd=28,server=on,wait=off", target, StringComparison.Ordinal);
        Assert.Contains("-vnc none,audiodev=audio1", target, StringComparison.Ordinal);
        Assert.DoesNotContain("charmonitor", target, StringComparison.Ordinal);
        Assert.DoesNotContain(spec.Findings, static finding => finding.Severity == FindingSeverity.Fail);
    }

    [Fact]
    public void Libvirt_as_its_emulator()
    {
        VmSpec spec = Translate(LibvirtLine.Replace('\n', ' '), settings: LaunchSettings.Default with { ServesPassedSockets = true });
        Assert.Equal([31], spec.InheritedDescriptors);
        Assert.Contains(new ConsoleDescriptor(202, "charchannel0", new DescriptorAddress(28)), spec.Descriptors);
        Assert.Contains("-chardev socket,id=charchannel0,fd=202,server=on,wait=off", Line(spec.RenderTarget()), StringComparison.Ordinal);
    }

    [Fact]
    public void Proxmox()
    {
        VmSpec spec = Translate("""
            -name 'web1,debug-threads=on' -no-shutdown
            -chardev socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off -mon chardev=qmp,mode=control
            -chardev socket,id=qmp-event,path=/var/run/qmeventd.sock,reconnect-ms=5000 -mon chardev=qmp-event,mode=control
            -pidfile /var/run/qemu-server/100.pid -daemonize -smbios type=1,uuid=8c5b6d3a-7b3a-4f0e-9c57-0f6c1a2b3c4d
            -smp 2,sockets=1,cores=2,maxcpus=2 -nodefaults -boot menu=on,strict=on,reboot-timeout=1000,splash=/usr/share/qemu-server/bootsplash.jpg
            -vnc unix:/var/run/qemu-server/100.vnc,password=on -cpu qemu64,+aes,enforce,+kvm_pv_eoi -m 2048
            -object iothread,id=iothread-virtioscsi0 -global PIIX4_PM.disable_s3=1
            -device pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e -device VGA,id=vga,bus=pci.0,addr=0x2
            -chardev socket,path=/var/run/qemu-server/100.qga,server=on,wait=off,id=qga0
            -device virtio-serial,id=qga0,bus=pci.0,addr=0x8 -device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0
            -chardev socket,id=serial0,path=/var/run/qemu-server/100.serial0,server=on,wait=off -device isa-serial,chardev=serial0
            -iscsi initiator-name=iqn.1993-08.org.debian:01:abc
            -drive file=/dev/pve/vm-100-disk-0,if=none,id=drive-scsi0,format=raw,cache=none,aio=io_uring,detect-zeroes=on
            -device scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,bootindex=100
            -netdev type=tap,id=net0,ifname=tap100i0,script=/usr/libexec/qemu-server/pve-bridge,downscript=/usr/libexec/qemu-server/pve-bridgedown,vhost=on
            -device virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,bus=pci.0,addr=0x12,id=net0 -machine type=pc+pve0
            """.Replace('\n', ' '));
        Assert.Equal("pc+pve0", spec.MachineType);
        Assert.Equal(
            [
                new ClientSocket("qmp", new UnixAddress("/var/run/qemu-server/100.qmp")),
                new ClientSocket("qmp-event", new UnixAddress("/var/run/qmeventd.sock"), Listen: false, ReconnectMilliseconds: 5000),
            ],
            spec.ClientSockets);
        Assert.Equal(["pc.ram", "qga0", "serial0", "net0"],
            spec.Descriptors.Select(static d => d switch { GuestRamDescriptor ram => ram.Id, ConsoleDescriptor console => console.Chardev, TapDescriptor tap => tap.Netdev, _ => "?" }));
        Assert.True(spec.Daemonize);
        Assert.Equal("/var/run/qemu-server/100.pid", spec.PidFile);
        Assert.Equal(["vhost"], spec.Findings.Where(static f => f.Severity == FindingSeverity.Fail).Select(static f => f.Id).Order(StringComparer.Ordinal));
        Assert.NotNull(spec.Finding("vnc-password"));
    }

    [Fact]
    public void Quickemu()
    {
        VmSpec spec = Translate("""
            -name ubuntu,process=ubuntu -machine q35,smm=off,vmport=off,accel=kvm -global kvm-pit.lost_tick_policy=discard
            -cpu host -smp cores=4,threads=2,sockets=1 -m 8G -device virtio-balloon -rtc base=localtime,clock=host,driftfix=slew -pidfile ubuntu/ubuntu.pid
            -vga none -device virtio-vga-gl,xres=1280,yres=800 -display sdl,gl=on -device virtio-rng-pci,rng=rng0 -object rng-random,id=rng0,filename=/dev/urandom
            -device qemu-xhci,id=spicepass -chardev spicevmc,id=usbredirchardev1,name=usbredir -device usb-redir,chardev=usbredirchardev1,id=usbredirdev1
            -device pci-ohci,id=smartpass -device usb-ccid -device usb-ehci,id=input -device usb-kbd,bus=input.0 -k en-us -device usb-tablet,bus=input.0
            -audiodev pa,id=audio0 -device intel-hda -device hda-duplex,audiodev=audio0
            -device virtio-net,netdev=nic -netdev user,hostname=ubuntu,hostfwd=tcp::22220-:22,id=nic
            -global driver=cfi.pflash01,property=secure,value=on
            -drive if=pflash,format=raw,unit=0,file=/usr/share/OVMF/OVMF_CODE_4M.fd,readonly=on -drive if=pflash,format=raw,unit=1,file=ubuntu/OVMF_VARS.fd
            -device virtio-blk-pci,drive=SystemDisk -drive id=SystemDisk,if=none,format=qcow2,file=ubuntu/disk.qcow2
            -fsdev local,id=fsdev0,path=/home/u/Public,security_model=mapped-xattr -device virtio-9p-pci,fsdev=fsdev0,mount_tag=Public
            -monitor unix:ubuntu/ubuntu-monitor.socket,server,nowait -serial unix:ubuntu/ubuntu-serial.socket,server,nowait
            """.Replace('\n', ' '));
        Assert.Equal(["pc.ram", "legacy-monitor0", "serial0"],
            spec.Descriptors.Select(static d => d switch { GuestRamDescriptor ram => ram.Id, ConsoleDescriptor console => console.Chardev, TapDescriptor tap => tap.Netdev, _ => "?" }));
        Assert.Equal(["display-spice"], spec.Findings.Where(static f => f.Severity == FindingSeverity.Fail).Select(static f => f.Id));
        Assert.Equal(["9p", "cpu-model", "display-window", "host-forward", "user-network"],
            spec.Findings.Where(static f => f.Severity == FindingSeverity.Warn).Select(static f => f.Id).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        Assert.Contains("-netdev user,hostname=ubuntu,id=nic ", Line(spec.RenderTarget()), StringComparison.Ordinal);
    }

    [Fact]
    public void Packer_and_vagrant_style()
    {
        VmSpec spec = Translate("""
            -machine type=pc,accel=kvm -name packer -m 512M -boot once=d -vnc 127.0.0.1:47 -display none
            -drive file=out/disk,if=virtio,cache=writeback,discard=ignore,format=qcow2 -cdrom deb.iso
            -netdev user,id=user.0,hostfwd=tcp::3213-:22 -device virtio-net,netdev=user.0
            """.Replace('\n', ' '));
        Assert.Equal("pc-i440fx-11.1", spec.MachineType);
        Assert.Equal(["human-monitor-command", "display-update"], spec.AfterCommit.Select(static a => a.Command).OrderDescending(StringComparer.Ordinal));
        Assert.DoesNotContain(spec.Findings, static finding => finding.Severity == FindingSeverity.Fail);
    }
}
