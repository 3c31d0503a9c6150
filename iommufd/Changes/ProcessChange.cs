using System.Collections.Immutable;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Changes;

/// <summary>What matters about the two processes, apart from what is mapped.</summary>
/// <param name="LockLimit">RLIMIT_MEMLOCK of the new owner, soft, in bytes; <see cref="ResourceLimit.Unlimited"/> for none.</param>
/// <param name="ChargedBytes">What the old owner is charged for; 0 where the memory was mapped with CAP_IPC_LOCK, which is never charged.</param>
/// <param name="OtherLockedBytes">What the new owner's user has locked besides (other guests).</param>
/// <param name="SameUser">Whether both processes have the same real user.</param>
/// <param name="SameProcess">Whether they are the same process and address space: then nothing is charged.</param>
/// <param name="OldOwnerAlive">Whether the old owner's address space exists still: not after its exit, nor after its exec.</param>
/// <param name="AccountPerProcess">RLIMIT_MODE of the context.</param>
public sealed record ProcessChangeFacts(
    ulong LockLimit, ulong ChargedBytes, ulong OtherLockedBytes, bool SameUser, bool SameProcess, bool OldOwnerAlive, bool AccountPerProcess);

/// <summary>How a change of process ended, or why it was not tried.</summary>
public abstract record ProcessChangeResult
{
    /// <summary>The calling process owns the context now.</summary>
    public sealed record Changed : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() => "changed";
    }

    /// <summary>This kernel has no IOMMU_IOAS_CHANGE_PROCESS. Nothing has changed.</summary>
    public sealed record NotSupported : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() => "this kernel has no IOMMU_IOAS_CHANGE_PROCESS (Linux 6.13)";
    }

    /// <summary>Areas that are not memory files are in the way. Nothing has changed.</summary>
    /// <param name="Areas">Which; empty when the kernel found some that the picture has not.</param>
    public sealed record AreasInTheWay(ImmutableArray<(IoasId Ioas, Area Area)> Areas) : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() => Areas.IsEmpty
            ? "the kernel has an area that is no memory file and of which nobody knows"
            : $"no memory files: {string.Join("; ", Areas.Select(one => $"{one.Ioas}: {one.Area}"))}";
    }

    /// <summary>RLIMIT_MEMLOCK is too low. Nothing has changed.</summary>
    /// <param name="NeededBytes">What it must allow, for a moment; 0 when only the kernel knows.</param>
    /// <param name="LimitBytes">What it allows.</param>
    public sealed record OverLimit(ulong NeededBytes, ulong LimitBytes) : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() =>
            $"RLIMIT_MEMLOCK is {LimitBytes} bytes and must be {(NeededBytes == 0 ? "more: the user has more locked than was known (or the kernel is out of memory)" : $"{NeededBytes}, because both owners are charged for a moment")}";
    }

    /// <summary>With accounting per process the old owner's address space must exist still, else the kernel changes the owner and says it has not. Nothing has changed.</summary>
    public sealed record OwnerGone : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() => "accounting is per process (RLIMIT_MODE) and the old owner is gone: after an exec, or an exit, the charge cannot be moved";
    }

    /// <summary>Another thread is mapping or unmapping. Nothing has changed.</summary>
    public sealed record Busy : ProcessChangeResult
    {
        /// <inheritdoc/>
        public override string ToString() => "an area is being mapped or unmapped";
    }
}

/// <summary>
/// Makes the calling process the owner of what is mapped in a context, after checking all that the kernel would refuse, and some
/// that it would not refuse but do wrong. DMA does not depend on it: without a change, everything goes on, only accounted to a process
/// that may be gone.
/// </summary>
public static class ProcessChange
{
    /// <summary>Whether it would be refused, as far as that can be known beforehand. Pure.</summary>
    /// <returns>Null when nothing is known against it.</returns>
    public static ProcessChangeResult? Check(AddressSpaces picture, ProcessChangeFacts facts)
    {
        ArgumentNullException.ThrowIfNull(picture);
        ArgumentNullException.ThrowIfNull(facts);
        // Every address space of the context counts, attached or not.
        ImmutableArray<(IoasId Ioas, Area Area)> others = [.. picture.Areas.Where(one => one.Area.Backing is not FileBacking)];
        if (!others.IsEmpty)
            return new ProcessChangeResult.AreasInTheWay(others);
        if (facts.SameProcess)
            return null;
        if (facts.AccountPerProcess && !facts.OldOwnerAlive && facts.ChargedBytes > 0)
            return new ProcessChangeResult.OwnerGone();
        var needed = NeededBytes(facts);
        return facts.ChargedBytes > 0 && facts.LockLimit != ResourceLimit.Unlimited && needed > facts.LockLimit
            ? new ProcessChangeResult.OverLimit(needed, facts.LockLimit)
            : null;
    }

    /// <summary>What RLIMIT_MEMLOCK must allow. The kernel charges the new owner before it relieves the old one, and counts per user.</summary>
    public static ulong NeededBytes(ProcessChangeFacts facts)
    {
        ArgumentNullException.ThrowIfNull(facts);
        var twice = facts is { SameUser: true, AccountPerProcess: false, SameProcess: false };
        return checked(facts.OtherLockedBytes + facts.ChargedBytes * (twice ? 2u : 1));
    }

    /// <summary>Changes the owner to the calling process.</summary>
    /// <param name="context">The context.</param>
    /// <param name="picture">What is in it.</param>
    /// <param name="facts">About the processes; <see cref="FactsFor"/> gathers them.</param>
    /// <returns><see cref="ProcessChangeResult.Changed"/>, or why nothing has changed.</returns>
    public static ProcessChangeResult Execute(IommufdContext context, AddressSpaces picture, ProcessChangeFacts facts)
    {
        ArgumentNullException.ThrowIfNull(context);
        if (!context.CanChangeProcess())
            return new ProcessChangeResult.NotSupported();
        if (Check(picture, facts) is { } refusal)
            return refusal;
        try
        {
            context.ChangeProcess();
            return new ProcessChangeResult.Changed();
        }
        catch (IommufdException e)
        {
            return e.Errno switch
            {
                Errno.EINVAL => new ProcessChangeResult.AreasInTheWay([]),
                Errno.ENOMEM => new ProcessChangeResult.OverLimit(0, facts.LockLimit),
                Errno.EBUSY => new ProcessChangeResult.Busy(),
                Errno.ENOTTY => new ProcessChangeResult.NotSupported(),
                _ => throw new InvalidOperationException($"IOMMU_IOAS_CHANGE_PROCESS answered {e.Error.ErrnoName}, which it does not document.", e),
            };
        }
    }

    /// <summary>Gathers the facts for a change from another process, which must be alive, to the calling one.</summary>
    /// <param name="context">The context.</param>
    /// <param name="oldOwner">The process that mapped, or last took over.</param>
    /// <exception cref="SyscallException">There is no such process.</exception>
    public static ProcessChangeFacts FactsFor(IommufdContext context, int oldOwner)
    {
        ArgumentNullException.ThrowIfNull(context);
        var here = Environment.ProcessId;
        var old = ProcFs.Status(oldOwner);
        var own = ProcFs.Status(here);
        // The kernel decides at each mapping: with CAP_IPC_LOCK nothing is ever charged for it.
        var charged = HasIpcLock(old) ? 0 : (ulong)(old.PinnedBytes ?? 0);
        return new ProcessChangeFacts(
            ProcFs.Limits(here)[Resource.LockedMemory].Soft,
            charged,
            oldOwner == here ? 0 : (ulong)(own.PinnedBytes ?? 0),
            old.UserIds.Real == own.UserIds.Real,
            oldOwner == here,
            OldOwnerAlive: true,
            context.GetOption(ContextOption.AccountPerProcess) != 0);
    }

    /// <summary>Gathers the facts for a change from an owner who is gone, by exit or exec. What was charged to him still is; how much, the picture says.</summary>
    /// <param name="context">The context.</param>
    /// <param name="picture">What is in it. Taken as mapped without CAP_IPC_LOCK and by this user, which is the case that needs most.</param>
    public static ProcessChangeFacts FactsForGone(IommufdContext context, AddressSpaces picture)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(picture);
        var here = Environment.ProcessId;
        return new ProcessChangeFacts(
            ProcFs.Limits(here)[Resource.LockedMemory].Soft,
            PinnedBytes(picture),
            (ulong)(ProcFs.Status(here).PinnedBytes ?? 0),
            SameUser: true,
            SameProcess: false,
            OldOwnerAlive: false,
            context.GetOption(ContextOption.AccountPerProcess) != 0);
    }

    /// <summary>At most so much do the areas of a picture pin, when devices are attached to all of them. Areas that share a pin count once, as a whole.</summary>
    internal static ulong PinnedBytes(AddressSpaces picture) => picture.Areas
        .GroupBy(one => one.Area.Pages, one => one.Area)
        .Aggregate(0UL, static (sum, areas) => checked(sum + (areas.Key == 0
            ? areas.Aggregate(0UL, static (all, area) => checked(all + area.Range.Length))
            : areas.Max(area => Replay.Position(area.Backing) + area.Range.Length) - areas.Min(area => Replay.Position(area.Backing)))));

    private static bool HasIpcLock(ProcessStatus status)
    {
        const int capIpcLock = 14;
        return (status.Capabilities.Effective & (1UL << capIpcLock)) != 0;
    }
}
