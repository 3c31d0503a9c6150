using System.Collections.Immutable;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>What <c>/proc</c> tells of a VMM's process that matters when its program is to be replaced (execve(2)).</summary>
/// <param name="ClosedByExec">Numbers of descriptors that the next program needs and would not find: closed, or close-on-exec.</param>
/// <param name="Taps">Names of tap devices that it has open.</param>
/// <param name="HasGuestMemfd">Whether guest memory is in KVM's guest_memfd, which ends with the process's KVM.</param>
/// <param name="MayNotExec">Whether QEMU was told to give up execve (<c>-sandbox on,spawn=deny</c>).</param>
internal sealed record InPlaceFacts(ImmutableArray<int> ClosedByExec, ImmutableArray<string> Taps, bool HasGuestMemfd, bool MayNotExec)
{
    /// <summary>Whether somebody else started it: what it would need to be started anew is then known only from the process, which ends with a failing exec.</summary>
    public bool IsAdopted { get; init; }

    /// <summary>Nothing speaks against it.</summary>
    public static InPlaceFacts None { get; } = new([], [], HasGuestMemfd: false, MayNotExec: false);

    public static InPlaceFacts Read(int pid, IReadOnlyCollection<int> needed)
    {
        var open = ProcFs.Descriptors(pid);
        var kept = open.Where(d => !d.Info.CloseOnExec).Select(d => d.Number).ToHashSet();
        return new InPlaceFacts(
            [.. needed.Where(n => !kept.Contains(n)).Order()],
            [.. open.Where(d => d.Info.Kind is DescriptorKind.Tun or DescriptorKind.MacVtap).Select(d => d.Details.GetValueOrDefault("iff", d.Info.Path)).Distinct().Order(StringComparer.Ordinal)],
            open.Any(d => d.Info.Kind == DescriptorKind.GuestMemfd),
            DeniesSpawn(ProcFs.CommandLine(pid)));
    }

    /// <summary>As the QEMU option's parser sees it: the last value counts.</summary>
    internal static bool DeniesSpawn(IReadOnlyList<string> commandLine)
    {
        for (var i = commandLine.Count - 2; i > 0; i--)
        {
            if (commandLine[i] is "-sandbox" or "--sandbox")
                return OptionString.Parse(commandLine[i + 1], "enable") is var option && option["enable"].Is("on") && option["spawn"].Is("deny");
        }

        return false;
    }
}
