using System.Collections.Immutable;
using CprSharp.Iommufd.Model;

namespace CprSharp.Iommufd.Changes;

/// <summary>
/// Carries a <see cref="RemapPlan"/> out, all of it or nothing. Before an area is unmapped it is copied aside within the kernel;
/// if anything fails, what was mapped instead is taken away and the copies go back, so that no range stays unmapped. That works on a
/// duplicate of another process's context as well, whose virtual addresses mean nothing here.
/// </summary>
/// <remarks>
/// The kernel has no replace in place (EEXIST). Between unmap and map, microseconds, DMA to the area would fail: hence the
/// <see cref="DeviceQuiescence"/>. Memory is not charged twice, because a copy in an address space without devices pins nothing.
/// </remarks>
public static class Remapper
{
    /// <summary>Carries a plan out.</summary>
    /// <param name="context">The context.</param>
    /// <param name="plan">One that can be done.</param>
    /// <param name="files">Descriptors of the plan's files.</param>
    /// <param name="quiescence">That no device uses the memory meanwhile.</param>
    /// <exception cref="RemapRefusedException">The plan has refusals, or a file is not at hand; nothing was done.</exception>
    /// <exception cref="IommufdException">The kernel refused; everything is as before.</exception>
    /// <exception cref="IOException">The recorder could not write a call down; everything is as before.</exception>
    /// <exception cref="RemapRollbackException">It failed, and could not be had as before.</exception>
    public static void Execute(
        IommufdContext context, RemapPlan plan, IReadOnlyDictionary<FileIdentity, MappableFile> files, DeviceQuiescence quiescence)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(files);
        ArgumentNullException.ThrowIfNull(quiescence);
        Check(plan, files);
        if (plan.Replacements.IsEmpty)
            return;

        var aside = context.AllocateIoas();
        var replaced = new Stack<AreaReplacement>();
        try
        {
            foreach (var replacement in plan.Replacements)
            {
                context.Copy(plan.Ioas, replacement.Area.Range, aside, replacement.Area.Access, replacement.Area.Range.Start);
                replaced.Push(replacement);
                context.Unmap(plan.Ioas, replacement.Area.Range);
                foreach (var piece in replacement.Pieces)
                    context.MapFile(plan.Ioas, files[piece.File], piece.Offset, piece.Range.Length, replacement.Area.Access, piece.Range.Start);
            }

            // It would be in the way of a change of process.
            context.Destroy(aside);
        }
        catch (Exception failure)
        {
            RollBack(context, plan.Ioas, aside, replaced, failure);
            context.Destroy(aside);
            throw;
        }
    }

    private static void Check(RemapPlan plan, IReadOnlyDictionary<FileIdentity, MappableFile> files)
    {
        var absent = plan.Replacements
            .SelectMany(one => one.Pieces.Where(piece => !files.ContainsKey(piece.File)).Select(piece => (one.Area, piece)))
            .Select(one => new RemapRefusal(one.Area, one.piece.Range, FileRefusal.NoDescriptor, one.piece.File.ToString()));
        ImmutableArray<RemapRefusal> refusals = [.. plan.Refusals, .. absent];
        if (!refusals.IsEmpty)
            throw new RemapRefusedException(plan.Ioas, refusals);
    }

    private static void RollBack(IommufdContext context, IoasId ioas, IoasId aside, Stack<AreaReplacement> replaced, Exception failure)
    {
        while (replaced.TryPeek(out var replacement))
        {
            var area = replacement.Area;
            try
            {
                UnmapIfMapped(context, ioas, area.Range);
                context.Copy(aside, area.Range, ioas, area.Access, area.Range.Start);
            }
            catch (Exception e)
            {
                throw new RemapRollbackException(ioas, aside, [.. replaced.Select(one => one.Area.Range)], failure, e);
            }

            replaced.Pop();
        }
    }

    private static void UnmapIfMapped(IommufdContext context, IoasId ioas, IovaRange range)
    {
        try
        {
            context.Unmap(ioas, range);
        }
        catch (IommufdException e) when (e.Errno == Memfd.Errno.ENOENT)
        {
            // The first piece was the one that failed, or the unmapping.
        }
    }
}

/// <summary>A remapping was not begun.</summary>
/// <param name="ioas">The address space.</param>
/// <param name="refusals">What stands against it.</param>
public sealed class RemapRefusedException(IoasId ioas, ImmutableArray<RemapRefusal> refusals)
    : IOException($"{ioas} cannot be remapped by file: {string.Join("; ", refusals)}.")
{
    /// <summary>What stands against it.</summary>
    public ImmutableArray<RemapRefusal> Refusals { get; } = refusals;
}

/// <summary>A remapping failed, and could not be undone. The devices must stay stopped.</summary>
/// <param name="ioas">The address space.</param>
/// <param name="aside">Another address space of the context, which holds all that is missing, at the same addresses.</param>
/// <param name="ranges">What is missing, wholly or in part.</param>
/// <param name="failure">What failed.</param>
/// <param name="undoing">What failed then.</param>
public sealed class RemapRollbackException(IoasId ioas, IoasId aside, ImmutableArray<IovaRange> ranges, Exception failure, Exception undoing)
    : IOException($"{ioas}: not mapped any more: {string.Join(", ", ranges)}; kept in {aside}. {failure.Message}. Then: {undoing.Message}", failure)
{
    /// <summary>What is missing.</summary>
    public ImmutableArray<IovaRange> Ranges { get; } = ranges;

    /// <summary>Where it can be copied from.</summary>
    public IoasId Aside { get; } = aside;

    /// <summary>Why it could not be undone.</summary>
    public Exception Undoing { get; } = undoing;
}
