using System.Net.Sockets;
using System.Text;
using CprSharp.Memfd;

namespace CprSharp.SystemTests.Harness;

/// <summary>The Linux guest with its workload, spoken to over its serial port.</summary>
/// <remarks>QEMU writes what the guest says into a log whether a client is connected or not, so that nothing is missed over an update.</remarks>
internal sealed class LinuxGuest(TestHost host)
{
    private string SerialSocket => host.File("serial.sock");

    private string SerialLog => host.File("serial.log");

    private GuestLog Log => new(SerialLog);

    public string Disk => host.File("disk.img");

    /// <summary>What a command line needs to start it, without its disk's device and its network.</summary>
    /// <param name="drive">Options of its disk's drive.</param>
    /// <param name="duty">How much of the time, in per cent, it writes to the disk.</param>
    public string[] Arguments(string drive = "", int duty = 10)
    {
        using (var disk = File.Create(Disk))
            disk.SetLength(8 << 20);
        return
        [
            "-accel", "tcg", "-kernel", Components.GuestKernel, "-initrd", Components.GuestInitrd,
            "-append", $"{Components.GuestAppend} cprsharp.mem=32 cprsharp.duty={duty} cprsharp.ide",
            "-display", "none", "-nodefaults", "-no-reboot",
            "-drive", $"file={Disk},if=none,id=disk,format=raw{(drive.Length > 0 ? $",{drive}" : "")}",
            "-chardev", $"socket,id=serial,path={SerialSocket},server=on,wait=off,logfile={SerialLog}", "-serial", "chardev:serial",
        ];
    }

    /// <summary>Waits until the workload runs and has written to its disk.</summary>
    public Task ReadyAsync() => Log.ReadyAsync();

    /// <summary>Sends a line, and waits for an answer that comes after it.</summary>
    public async Task<string> AskAsync(string command, string answer)
    {
        var before = new FileInfo(SerialLog).Length;
        using var socket = UnixSocket.Connect(SerialSocket);
        await socket.SendAsync(Encoding.ASCII.GetBytes(command + "\n"));
        string? line = null;
        await Deadlines.EventuallyAsync(() =>
        {
            line = Log.Text()[(int)before..].Split('\n').FirstOrDefault(l => l.StartsWith($"CPRSHARP {answer}", StringComparison.Ordinal));
            return line is null ? $"the guest does not answer '{command}'; it said:\n{Log.Tail()}" : null;
        }, Deadlines.Guest);
        socket.Shutdown(SocketShutdown.Both);
        return line!.TrimEnd('\r');
    }

    public Task GoesOnAsync() => Log.GoesOnAsync();

    public Task ExpectUnharmedAsync() => Log.ExpectUnharmedAsync();

    /// <summary>Every block the guest has ever written is whole and in its place, seen from outside.</summary>
    public async Task ExpectWholeDiskAsync()
    {
        await AskAsync("sync", "synced");
        using var verify = host.StartProgram(Components.VerifyDisk, null, null, [Disk]);
        Assert.Contains("torn=0", (await verify.ResultAsync()).Expect(0).Output);
    }

    public IReadOnlyList<GuestReport> Reports() => Log.Reports();
}
