using System.Globalization;

namespace CprSharp.Bench.Subjects;

/// <summary>One VM on a host with libvirt: a domain, or the same command line under <c>cprsharp run</c>.</summary>
internal sealed class HostedVm : IMeasuredVm
{
    private const string State = "/run/cprsharp";

    private static readonly string[] Unique = ["charmonitor", "masterKey0"];

    private readonly LibvirtHost _host;
    private readonly Components _components;
    private readonly string _name;
    private readonly BareQmp _qmp;

    private HostedVm(LibvirtHost host, Components components, string name)
    {
        _host = host;
        _components = components;
        _name = name;
        _qmp = BareQmp.Connect(host.FromHere($"{State}/{name}/qmp.sock"));
    }

    public int QemuPid => throw new NotSupportedException("its number is the host's own");

    /// <summary>Defines and starts a domain.</summary>
    public static async Task<HostedVm> StartDomainAsync(LibvirtHost host, Components components, string name, int memoryMiB, int vcpus)
    {
        var file = Path.Combine(host.Shared, $"{name}.xml");
        var log = Log(host, name);
        await File.WriteAllTextAsync(file, Xml(host, components, name, memoryMiB, vcpus));
        await host.RunAsync("virsh", "-q", "define", file);
        await host.RunAsync("virsh", "-q", "start", name);
        await GuestSerial.WaitUntilReadyAsync(log);
        return new HostedVm(host, components, name);
    }

    /// <summary>Runs what libvirt has made of a domain, less its monitor and secret, which are one process's, on a disk of its own.</summary>
    public static async Task<HostedVm> RunAsync(LibvirtHost host, Components components, string domain, string name)
    {
        var pid = (await host.RunAsync("cat", $"/run/libvirt/qemu/{domain}.pid")).Output.Trim();
        var (line, _) = await host.RunAsync("cat", $"/proc/{pid}/cmdline");
        var arguments = line.TrimEnd('\0').Split('\0');
        await host.RunAsync(["cprsharp", "run", "--state-dir", State, "--name", name, "--detach", "--", components.Qemu, .. Translate(arguments, Log(host, domain), Log(host, name), Disk(host, domain), Disk(host, name))]);
        var vm = new HostedVm(host, components, name);
        vm.Wake();
        await GuestSerial.WaitUntilReadyAsync(Log(host, name));
        return vm;
    }

    public async Task<Sample> UpdateAsync(string engine)
    {
        var (output, took) = await _host.RunAsync("cprsharp", "update", _name, "--state-dir", State, "--to", _components.Qemu, "--engine", engine, "--json");
        return Sample.OfReport(output, took);
    }

    public void Rest() => _qmp.Execute("""{"execute":"stop"}""");

    public void Wake() => _qmp.Execute("""{"execute":"cont"}""");

    public ValueTask DisposeAsync()
    {
        _qmp.Dispose(); // the VM ends with its host
        return ValueTask.CompletedTask;
    }

    private static IEnumerable<string> Translate(string[] arguments, string log, string ownLog, string disk, string ownDisk)
    {
        // Program, "emulator", and then pairs of an option and its value, or options without one.
        for (var i = 2; i < arguments.Length; i++)
        {
            var value = i + 1 < arguments.Length && !arguments[i + 1].StartsWith('-') ? arguments[i + 1] : null;
            if (value is null)
                yield return arguments[i];
            else if (arguments[i++] is var option && arguments[i - 1] != "-add-fd" && !Unique.Any(u => value.Contains(u, StringComparison.Ordinal)))
            {
                yield return option;
                yield return value.Contains("id=charserial0", StringComparison.Ordinal)
                    ? $"pty,id=charserial0,logfile={ownLog},logappend=on"
                    : value.Replace(disk, ownDisk, StringComparison.Ordinal).Replace(log, ownLog, StringComparison.Ordinal);
            }
        }
    }

    private static string Xml(LibvirtHost host, Components components, string name, int memoryMiB, int vcpus)
    {
        foreach (var disk in (string[])[Disk(host, name), Disk(host, $"{name}-run")])
        {
            using (var file = new FileStream(disk, FileMode.Create))
                file.SetLength(1L << 30);
            File.SetUnixFileMode(disk, (UnixFileMode)0b110_110_110);
        }

        return string.Create(CultureInfo.InvariantCulture, $"""
            <domain type='qemu'>
              <name>{name}</name>
              <memory unit='MiB'>{memoryMiB}</memory>
              <vcpu>{vcpus}</vcpu>
              <os>
                <type arch='x86_64' machine='{VmShape.Machine}'>hvm</type>
                <kernel>{components.GuestKernel}</kernel>
                <initrd>{components.GuestInitrd}</initrd>
                <cmdline>{components.GuestAppend} cprsharp.mem=16 cprsharp.duty=5</cmdline>
              </os>
              <features><acpi/></features>
              <devices>
                <emulator>{LibvirtHost.Emulator}</emulator>
                <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{Disk(host, name)}'/><target dev='vda' bus='virtio'/></disk>
                <serial type='pty'><log file='{Log(host, name)}' append='on'/></serial>
                <memballoon model='virtio'/>
                <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
                <video><model type='vga'/></video>
              </devices>
            </domain>
            """);
    }

    private static string Log(LibvirtHost host, string name) => Path.Combine(host.Shared, $"{name}.log");

    private static string Disk(LibvirtHost host, string name) => Path.Combine(host.Shared, $"{name}.img");
}
