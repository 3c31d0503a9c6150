using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Networking;

/// <summary>Opens the tap devices of a VM as QEMU would: once, with their scripts and helpers.</summary>
internal static class TapOpener
{
    private const int HelperDescriptor = 3;
    private static readonly string[] HelperDirectories = ["/usr/lib/qemu", "/usr/libexec", "/usr/local/libexec"];

    /// <summary>The queues of one network backend. The caller owns them.</summary>
    /// <param name="queues">All of one backend.</param>
    /// <param name="inherited">Gives a duplicate of a descriptor that this process was started with.</param>
    /// <param name="binary">The VMM, near which its own helper is looked for.</param>
    /// <exception cref="UpdateException">A device cannot be had, or a script failed.</exception>
    public static IReadOnlyList<SafeFileHandle> Open(IReadOnlyList<TapDescriptor> queues, Func<int, SafeFileHandle> inherited, string binary)
    {
        var open = new List<SafeFileHandle>();
        try
        {
            string? name = null;
            foreach (var queue in queues)
            {
                switch (queue.Source)
                {
                    case TapInherited:
                        open.Add(inherited(queue.Number));
                        break;
                    case TapHelper helper:
                        open.Add(RunHelper(helper, binary));
                        break;
                    case TapInterface device:
                        var tap = TapDevice.Open(name ?? device.Name, new TapFlags(device.VnetHeader, device.MultiQueue));
                        open.Add(tap.Queue);
                        if (name is null && device.Script is { } script)
                            RunScript(script, tap.Name);
                        name = tap.Name;
                        break;
                }
            }

            return open;
        }
        catch (IOException e)
        {
            open.ForEach(q => q.Dispose());
            throw e is SyscallException
                ? new UpdateException("tap", $"the tap device of {queues[0].Netdev} cannot be opened: {e.Message}", "see that the device is free, and that the supervisor may open it (CAP_NET_ADMIN, or the device's owner)", e)
                : new UpdateException("tap", e.Message, "see the program's own messages", e);
        }
    }

    /// <summary>What QEMU runs when it ends.</summary>
    public static void TakeDown(VmSpec spec, IReadOnlyDictionary<int, string> names)
    {
        foreach (var queue in spec.Descriptors.OfType<TapDescriptor>().DistinctBy(q => q.Netdev))
        {
            if (queue.Source is TapInterface { DownScript: { } script } && names.TryGetValue(queue.Number, out var name))
            {
                try
                {
                    RunScript(script, name);
                }
                catch (IOException)
                {
                    // QEMU takes no notice either.
                }
            }
        }
    }

    private static void RunScript(string script, string device)
    {
        var child = ChildProcess.Start(new ChildProcessStart { Path = script, Arguments = [device] });
        if (child.Exited.GetAwaiter().GetResult() is var status && status.Code != 0)
            throw new IOException($"{script} {device}: {status}");
    }

    /// <summary>The helper sends the descriptor over the socket that it is given (net_bridge_run_helper in net/tap.c).</summary>
    private static SafeFileHandle RunHelper(TapHelper helper, string binary)
    {
        var program = helper.Helper ?? DefaultHelper(binary);
        var (ours, theirs) = DescriptorSocket.CreatePair();
        using (ours)
        {
            var descriptor = string.Create(CultureInfo.InvariantCulture, $"--fd={HelperDescriptor}");
            var bridge = $"--br={helper.Bridge}";
            var isCommand = program.AsSpan().ContainsAny(' ', '\t');
            ChildProcess child;
            using (theirs)
            {
                child = ChildProcess.Start(new ChildProcessStart
                {
                    Path = isCommand ? "/bin/sh" : program,
                    Arguments = isCommand
                        ? ["-c", $"{program} --use-vnet {descriptor} {(program.Contains("--br=", StringComparison.Ordinal) ? "" : bridge)}"]
                        : ["--use-vnet", descriptor, bridge],
                    Descriptors = [new InheritedDescriptor(theirs.SafeHandle, HelperDescriptor)],
                });
            }

            using var message = ours.ReceiveAsync(new byte[16]).AsTask().GetAwaiter().GetResult();
            var status = child.Exited.GetAwaiter().GetResult();
            return status.Code == 0 && message.Descriptors.Count == 1
                ? message.Descriptors.Claim(0)
                : throw new IOException($"{program} for bridge {helper.Bridge}: {status}, {message.Descriptors.Count} descriptors");
        }
    }

    private static string DefaultHelper(string binary)
    {
        var prefix = Path.GetDirectoryName(Path.GetDirectoryName(binary)) ?? "/usr";
        return HelperDirectories.Prepend(Path.Combine(prefix, "libexec")).Prepend(Path.Combine(prefix, "lib/qemu"))
            .Select(d => Path.Combine(d, "qemu-bridge-helper")).FirstOrDefault(File.Exists)
            ?? throw new IOException($"there is no qemu-bridge-helper beside {binary}, nor in {string.Join(", ", HelperDirectories)}");
    }
}
