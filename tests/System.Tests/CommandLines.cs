using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Command lines as people and tools write them: run, checked, updated to another QEMU and back. After each step every client's door is open.</summary>
public sealed class CommandLines
{
    private static readonly Dictionary<string, Func<Site, string>> Lines = new(StringComparer.Ordinal)
    {
        ["blog: nographic"] = s => $"-M pc-q35-10.0 -m 128 -hda {s.Qcow("hda")} -nographic",

        ["blog: daemonize"] = s =>
            $"-machine pc-q35-10.0 -m 256M -smp 2,maxcpus=4 -drive file={s.Raw("disk")},format=raw,if=virtio -display none -daemonize -pidfile {s.Gone("pid")} "
            + $"-netdev user,id=n0,hostfwd=tcp::{s.ForwardedPort()}-:22,hostfwd=tcp:127.0.0.1:{s.ForwardedPort()}-:80 -device virtio-net-pci,netdev=n0 "
            + $"-vnc :{s.Display()} -monitor unix:{s.Monitor("mon")},server,nowait -serial file:{s.File("serial.log")} -qmp unix:{s.Qmp("qmp")},server=on,wait=off",

        ["blog: old style"] = s =>
            $"-M pc-i440fx-10.0 -m 64 -fda {s.Raw("floppy", 1440 << 10)} -hda {s.Qcow("hda")} -net nic,model=e1000 -net user,hostfwd=tcp:127.0.0.1:{s.ForwardedPort()}-:80 "
            + $"-vga cirrus -usb -device usb-tablet -vnc 127.0.0.1:{s.Display()} -boot c -no-reboot -rtc base=localtime",

        ["proxmox"] = s =>
            $"-name web1,debug-threads=on -no-shutdown -chardev socket,id=qmp,path={s.Qmp("100.qmp")},server=on,wait=off -mon chardev=qmp,mode=control "
            + $"-pidfile {s.Gone("100.pid")} -daemonize -smbios type=1,uuid=8c5b6d3a-7b3a-4f0e-9c57-0f6c1a2b3c4d -smp 2,sockets=1,cores=2,maxcpus=2 -nodefaults "
            + $"-boot menu=on,strict=on,reboot-timeout=1000 -vnc unix:{s.VncSocket("100.vnc")} -cpu qemu64 -m 256 -object iothread,id=iothread-virtioscsi0 "
            + "-global PIIX4_PM.disable_s3=1 -global PIIX4_PM.disable_s4=1 -device pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e "
            + "-device piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2 -device usb-tablet,id=tablet,bus=uhci.0,port=1 -device VGA,id=vga,bus=pci.0,addr=0x2 "
            + $"-chardev socket,path={s.Socket("100.qga")},server=on,wait=off,id=qga0 -device virtio-serial,id=qga0,bus=pci.0,addr=0x8 "
            + $"-device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0 -chardev socket,id=serial0,path={s.Socket("100.serial0")},server=on,wait=off "
            + "-device isa-serial,chardev=serial0 -iscsi initiator-name=iqn.1993-08.org.debian:01:abc "
            + "-device virtio-scsi-pci,id=virtioscsi0,bus=pci.0,addr=0x5,iothread=iothread-virtioscsi0 "
            + $"-drive file={s.Raw("vm-100-disk-0")},if=none,id=drive-scsi0,format=raw,cache=none,detect-zeroes=on "
            + "-device scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,rotation_rate=1,bootindex=100 "
            + $"-drive file={s.Raw("image.iso")},if=none,id=drive-ide2,media=cdrom,format=raw,readonly=on -device ide-cd,bus=ide.1,unit=0,drive=drive-ide2,id=ide2,bootindex=101 "
            + "-netdev type=user,id=net0 -device virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,bus=pci.0,addr=0x12,id=net0 -machine type=pc-i440fx-10.0 -accel tcg",

        ["quickemu"] = s =>
            "-name ubuntu,process=ubuntu -machine pc-q35-10.0,smm=off,vmport=off,accel=tcg -global kvm-pit.lost_tick_policy=discard -smp cores=2,threads=1,sockets=1 -m 256M "
            + $"-device virtio-balloon -rtc base=localtime,clock=host,driftfix=slew -pidfile {s.Gone("ubuntu.pid")} -vga none -device virtio-vga,xres=1280,yres=800 -display none "
            + "-device virtio-rng-pci,rng=rng0 -object rng-random,id=rng0,filename=/dev/urandom -device pci-ohci,id=smartpass -device usb-ehci,id=input "
            + "-device usb-kbd,bus=input.0 -k en-us -device usb-tablet,bus=input.0 -audiodev none,id=audio0 -device intel-hda -device hda-duplex,audiodev=audio0 "
            + $"-device virtio-net,netdev=nic -netdev user,hostname=ubuntu,hostfwd=tcp::{s.ForwardedPort()}-:22,id=nic -device virtio-blk-pci,drive=SystemDisk "
            + $"-drive id=SystemDisk,if=none,format=qcow2,file={s.Qcow("disk")} -monitor unix:{s.Monitor("ubuntu-monitor.socket")},server,nowait "
            + $"-serial unix:{s.Socket("ubuntu-serial.socket")},server,nowait",

        ["numa with backends"] = s =>
            "-M pc-q35-10.0 -m 256 -smp 4,sockets=2,cores=2 -object memory-backend-ram,id=m0,size=128M -object memory-backend-memfd,id=m1,size=128M "
            + $"-numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1 -numa dist,src=0,dst=1,val=20 -display none -monitor unix:{s.Monitor("m")},server=on,wait=off",

        ["libvirt-like JSON"] = s =>
            "-name guest=web1,debug-threads=on -machine pc-q35-10.0,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram,hpet=off,acpi=on -accel tcg -m size=131072k,slots=4,maxmem=1048576k "
            + """-object {"qom-type":"memory-backend-memfd","id":"pc.ram","x-use-canonical-path-for-ramblock-id":false,"share":true,"size":134217728} """
            + "-overcommit mem-lock=off -smp 2,sockets=2,cores=1,threads=1 -uuid 8c5b6d3a-7b3a-4f0e-9c57-0f6c1a2b3c4d -no-user-config -nodefaults "
            + $"-chardev socket,id=charmonitor,path={s.Qmp("monitor.sock")},server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control "
            + "-rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-shutdown -boot strict=on "
            + """-device {"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x2"} """
            + """-device {"driver":"pcie-root-port","port":17,"chassis":2,"id":"pci.2","bus":"pcie.0","addr":"0x2.0x1"} """
            + """-device {"driver":"virtio-serial-pci","id":"virtio-serial0","bus":"pci.1","addr":"0x0"} """
            + $$"""-blockdev {"driver":"file","filename":"{{s.Qcow("web1")}}","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap"} """
            + """-blockdev {"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null} """
            + """-device {"driver":"virtio-blk-pci","bus":"pci.2","addr":"0x0","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1} """
            + $"-chardev socket,id=charchannel0,path={s.Socket("agent.sock")},server=on,wait=off "
            + """-device {"driver":"virtserialport","bus":"virtio-serial0.0","nr":1,"chardev":"charchannel0","id":"channel0","name":"org.qemu.guest_agent.0"} """
            + $$"""-vnc 127.0.0.1:{{s.Display()}},audiodev=audio1 -audiodev {"id":"audio1","driver":"none"} """
            + """-device {"driver":"VGA","id":"video0","vgamem_mb":16,"bus":"pcie.0","addr":"0x1"} """
            + "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on",

        ["everything on tcp"] = s =>
            $"-M pc-q35-10.0 -m 64 -nodefaults -display none -serial tcp:127.0.0.1:{s.Port()},server,nowait -qmp tcp:127.0.0.1:{s.QmpPort()},server=on,wait=off",

        ["usb, sata and intel network"] = s =>
            $"-M pc-q35-10.0 -m 128 -display none -drive if=none,id=d,file={s.Raw("d")},format=raw -device ich9-ahci,id=ahci -device ide-hd,drive=d,bus=ahci.0 "
            + $"-device qemu-xhci -drive if=none,id=u,file={s.Raw("u")},format=raw -device usb-storage,drive=u -device usb-mouse -nic user,model=e1000e -device e1000,netdev=x -netdev user,id=x,restrict=on "
            + $"-chardev socket,id=s0,path={s.Socket("s0")},server=on,wait=off,logfile={s.File("s0.log")} -serial chardev:s0",

        ["odds and ends"] = s =>
            "-M pc-q35-10.0,nvdimm=off -m 128 -display none -name odd -uuid 8c5b6d3a-7b3a-4f0e-9c57-0f6c1a2b3c4e -smbios type=1,manufacturer=Acme -fw_cfg name=opt/com.example/x,string=y "
            + "-device i6300esb -action watchdog=none -device vmgenid -device pvpanic-pci -device virtio-keyboard-pci -device virtio-mouse-pci -rtc base=2024-01-01T00:00:00,clock=vm "
            + $"-cpu Nehalem -global ICH9-LPC.disable_s3=1 -boot menu=off -k de -monitor none -qmp-pretty unix:{s.Qmp("pretty")},server,nowait -msg timestamp=on -overcommit cpu-pm=off",

        ["relative paths"] = s =>
            $"-M pc-q35-10.0 -m 64 -display none -drive file={Path.GetFileName(s.Raw("rel"))},format=raw -qmp unix:{Path.GetFileName(s.Qmp("rel.qmp"))},server=on,wait=off -serial file:rel.log",
    };

    public static TheoryData<string> Names => [.. Lines.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task ThereAndBack(string name)
    {
        await using var host = new TestHost();
        var site = new Site(host);
        string[] line = [.. Lines[name](site).Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        var vm = new TestVm(host, "line");
        using (var run = host.StartProgram(Components.CprSharp, null, host.Root, ["run", "--name", vm.Name, "--detach", "--", Components.Qemu111, .. line]))
            (await run.ResultAsync()).Expect(0);
        await vm.ExpectOneRunningVmmAsync();
        await site.ExpectEndpointsAsync();

        // Firmware that starts a virtio device anew on 10.0.13 finds rings of 1024 entries there, which 11.1 then refuses (virtqueue-size).
        var there = line.Any(argument => argument.Contains("virtio", StringComparison.Ordinal)) ? Components.Qemu111 : Components.Qemu100;
        (await host.CprSharpAsync("check", vm.Name, "--to", there)).Expect(0);
        foreach (var to in new[] { there, Components.Qemu111 })
        {
            var report = await vm.UpdateAsync(to);
            Assert.True(report.GetProperty("pauseMs").GetDouble() > 0);
            await vm.ExpectOneRunningVmmAsync();
            await site.ExpectEndpointsAsync();
            var late = report.GetProperty("findings").EnumerateArray().Where(f => f.GetProperty("id").GetString() is "after-commit" or "retire").ToArray();
            Assert.True(late.Length == 0, string.Join('\n', late));
        }

        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
        site.ExpectSocketsGone();
    }

    /// <summary>The alias of the QEMU that the VM is started with stays what it was there.</summary>
    [Fact]
    public async Task AnUnpinnedMachineTypeIsPinned()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "alias", [Components.Qemu100, "-M", "q35", "-m", "64", "-nodefaults", "-display", "none"]);
        foreach (var to in new[] { Components.Qemu111, Components.Qemu100 })
            await vm.UpdateAsync(to);
        var status = (await host.CprSharpAsync("status", "alias", "--json")).Expect(0).Document.GetProperty("vms")[0];
        Assert.Equal("pc-q35-10.0", status.GetProperty("machineType").GetString());
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>What a client wrote before an update is in the file after it.</summary>
    [Fact]
    public async Task ASerialFileGrowsAndIsNotTruncated()
    {
        await using var host = new TestHost();
        var log = host.File("serial.log");
        var vm = await TestVm.StartAsync(host, "serial", [Components.Qemu111, "-M", "pc-q35-10.0", "-m", "64", "-nographic", "-monitor", "none", "-serial", $"file:{log}", "-net", "none"]);

        // SeaBIOS speaks to the serial port with -nographic (sgabios is part of it).
        await Deadlines.EventuallyAsync(() => new FileInfo(log) is { Exists: true, Length: > 0 } ? null : $"nothing in {log}");
        var before = await File.ReadAllBytesAsync(log);
        await vm.UpdateAsync(Components.Qemu100);
        await vm.UpdateAsync(Components.Qemu111);
        var after = await File.ReadAllBytesAsync(log);
        Assert.True(after.AsSpan().StartsWith(before), "the file was truncated");
        await vm.QmpAsync("system_reset");
        await Deadlines.EventuallyAsync(() => new FileInfo(log).Length > after.Length ? null : "the new VMM writes nothing into the file");
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>The files, ports and sockets of one command line.</summary>
    private sealed class Site(TestHost host)
    {
        private readonly List<Endpoint> _endpoints = [];
        private readonly List<string> _paths = [];

        public string File(string name) => host.File(name);

        public string Raw(string name, long bytes = 16 << 20)
        {
            var path = host.File($"{name}.img");
            using var file = System.IO.File.Create(path);
            file.SetLength(bytes);
            return path;
        }

        public string Qcow(string name)
        {
            var path = host.File($"{name}.qcow2");
            using var image = System.Diagnostics.Process.Start(Components.QemuImg, ["create", "-q", "-f", "qcow2", path, "64M"]);
            image.WaitForExit();
            Assert.Equal(0, image.ExitCode);
            return path;
        }

        public string Gone(string name)
        {
            _paths.Add(host.File(name));
            return host.File(name);
        }

        public string Monitor(string name) => Add(name, Endpoint.Hmp);

        public string Qmp(string name) => Add(name, Endpoint.Qmp);

        public string Socket(string name) => Add(name, Endpoint.Unix);

        public string VncSocket(string name) => Add(name, Endpoint.VncUnix);

        public int Display()
        {
            var display = Endpoint.FreeDisplay();
            _endpoints.Add(Endpoint.Vnc(display));
            return display;
        }

        public int ForwardedPort() => Port();

        public int Port()
        {
            var port = Endpoint.FreePort();
            _endpoints.Add(Endpoint.Port(port));
            return port;
        }

        public int QmpPort()
        {
            var port = Endpoint.FreePort();
            _endpoints.Add(Endpoint.QmpTcp(port));
            return port;
        }

        public async Task ExpectEndpointsAsync()
        {
            foreach (var endpoint in _endpoints)
                await endpoint.ExpectAsync();
        }

        public void ExpectSocketsGone() => Assert.DoesNotContain(_paths, Path.Exists);

        private string Add(string name, Func<string, Endpoint> kind)
        {
            var path = Gone(name);
            _endpoints.Add(kind(path));
            return path;
        }
    }
}
